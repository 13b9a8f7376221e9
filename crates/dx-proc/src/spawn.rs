//! Forking: a copy of ourselves (the launcher), and the agent, held until its records are durable.
//!
//! Called by monitor and launcher. Must never run an agent that was not released, and never let it inherit anything
//! but its three descriptors and its environment.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use crate::child::{self, Channel, Placement, Plan};
pub use crate::detached::spawn_detached;
use crate::error::{Error, Result};
use crate::identity::ProcessIdentity;
use crate::program;
use crate::sandbox::Domain;
use crate::stat;
use crate::wait;

/// On which side of a fork we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkResult {
    /// In the caller: pid of the child.
    Parent(i32),
    /// In the child, which has all descriptors, locks of open files and memory of its parent.
    Child,
}

/// Forks without exec. Both sides go on after this call; the child must end with `std::process::exit` or by returning
/// from `main`, as buffered output that was not flushed before is written by both.
///
/// Safe because it refuses when another thread exists, whose locks could be held for ever in the child.
///
/// Fails with [`Error::NotSingleThreaded`], [`Error::ReadStat`] or [`Error::Fork`].
pub fn fork_here() -> Result<ForkResult> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let stat =
        stat::read(pid).map_err(|source| Error::ReadStat { pid, source })?.ok_or(Error::NotFound { pid })?;
    if stat.threads != 1 {
        return Err(Error::NotSingleThreaded { threads: stat.threads });
    }
    // SAFETY: this process has one thread (checked above, and only this thread could start another), so that the
    // child's memory is consistent and it may do all that its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(Error::Fork { source: io::Error::last_os_error() }),
        0 => Ok(ForkResult::Child),
        pid => Ok(ForkResult::Parent(pid)),
    }
}

/// This process's file mode creation mask, read without changing it. `None` where the kernel does not tell (before Linux
/// 4.7).
pub fn umask_of_self() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok()
}

/// An agent's command.
#[derive(Debug)]
pub struct AgentCommand {
    /// Program and arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The complete environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: PathBuf,
    /// File mode creation mask; `None`: this process's.
    pub umask: Option<u32>,
    /// Becomes descriptor 0.
    pub stdin: OwnedFd,
    /// Becomes descriptor 1.
    pub stdout: OwnedFd,
    /// Becomes descriptor 2.
    pub stderr: OwnedFd,
    /// Standard output is a terminal and becomes the controlling one.
    pub terminal: bool,
    /// What the agent is confined to.
    pub sandbox: Option<Domain>,
}

/// A forked child that waits before its exec. Dropped (or its holder killed), the child exits with code 127 without
/// running the program; either way the caller must reap it.
#[derive(Debug)]
pub struct Held {
    pid: i32,
    identity: ProcessIdentity,
    channel: Channel,
}

/// Forks the agent's child: own session, default signals, its three descriptors and no others, its working directory;
/// then it waits for [`Held::release`], and enters its sandbox just before exec.
///
/// Fails before the fork with [`Error::EmptyArgv`], [`Error::NulByte`] or [`Error::ProgramNotFound`]; else with
/// [`Error::OpenChannel`] or [`Error::Fork`], or as [`ProcessIdentity::of_pid`] (the child has been reaped then).
pub fn fork_held(cmd: AgentCommand) -> Result<Held> {
    let argv = program::arguments(&cmd.argv)?;
    let env = program::environment(&cmd.env)?;
    let name = cmd.argv.first().ok_or(Error::EmptyArgv)?;
    let path = program::resolve(name, &cmd.env, &cmd.cwd)?;
    let path = program::c_string(path.as_os_str(), "the program path")?;
    let placements = [&cmd.stdin, &cmd.stdout, &cmd.stderr]
        .into_iter()
        .zip(0..)
        .map(|(fd, target)| Placement::new(fd.as_raw_fd(), target))
        .collect();
    let mut plan = Plan::new(path, argv, env, placements);
    plan.cwd = Some(program::c_string(cmd.cwd.as_os_str(), "the working directory")?);
    plan.hold = true;
    plan.umask = cmd.umask;
    plan.terminal = cmd.terminal;
    plan.sandbox = cmd.sandbox.as_ref().map(|domain| domain.as_fd().as_raw_fd());
    let (pid, channel) = child::start(plan)?;
    // Our copies of its descriptors: a pipe's reader must see the end when the child ends.
    drop(cmd);
    match ProcessIdentity::of_pid(pid) {
        Ok(identity) => Ok(Held { pid, identity, channel }),
        Err(error) => {
            drop(channel);
            wait::reap_blocking(pid)?;
            Err(error)
        }
    }
}

impl Held {
    /// Pid of the child, and of the agent once it is released.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Identity of the child; exec does not change it.
    pub fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// Lets the child run its program. [`Released::confirm`] tells whether it does.
    ///
    /// Fails with [`Error::Release`].
    pub fn release(self) -> Result<Released> {
        let pid = self.pid;
        self.channel.release().map_err(|source| Error::Release { pid, source })?;
        Ok(Released { pid, channel: self.channel })
    }
}

/// A child that begins its program.
#[derive(Debug)]
pub struct Released {
    pid: i32,
    channel: Channel,
}

impl Released {
    /// Waits until the program runs. The inner error is the errno of the failed exec or chdir; the child has exited then and
    /// is the caller's to reap. `Ok(Ok(()))` also when the child was killed meanwhile: its exit status tells.
    ///
    /// Fails with [`Error::ReadStart`].
    pub fn confirm(self) -> Result<std::result::Result<(), i32>> {
        let pid = self.pid;
        self.channel.read_start().map_err(|source| Error::ReadStart { pid, source })
    }
}
