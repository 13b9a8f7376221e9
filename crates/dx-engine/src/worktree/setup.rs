//! The set-up of a new worktree: the project's commands, one after the other, their output in a file.
//!
//! They come from [`super::project`], so never from what an agent wrote in a worktree; but the user need not have written
//! them either: whoever clones a repository has its file. So they run in the sandbox that the agent of the same start gets,
//! in a session without the user's terminal. Must never run one with more rights than that. They carry a marker, so that
//! what a killed command left of them is found and ended.

use super::remove::remove_tree;
use crate::environment;
use crate::error::EngineError;
use crate::git::Repository;
use crate::halt::Halt;
use crate::sandbox::{self, Asked, Confined, Wanted};
use dx_monitor::{MARKER, end_tree};
use dx_proc::sandbox::{Domain, Rules};
use dx_proc::{AgentCommand, ExitStatus, PidFd, Released, SignalFd, clock, tree};
use dx_protocol::{BeadsId, RunUuid};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// A set-up that takes longer hangs.
const PATIENCE_MS: u64 = 30 * 60 * 1000;
/// Between TERM and KILL for what a set-up leaves behind.
const GRACE_MS: u64 = 2_000;
/// Between two looks at a git that is about to end.
const TICK: Duration = Duration::from_millis(10);

const SHELL: &str = "/bin/sh";
/// What ended it, when nobody waits for it any more.
const CANCELLED: &str = "its wave was cancelled";
/// The provider whose logins are not hidden from a set-up: none.
const NO_PROVIDER: &str = "setup";

type Env = Vec<(OsString, OsString)>;

/// What is run, and where.
pub(crate) struct Setup<'a> {
    pub(crate) commands: &'a [String],
    pub(crate) beads: &'a BeadsId,
    pub(crate) mark: &'a RunUuid,
    pub(crate) worktree: &'a Repository,
    pub(crate) log: &'a Path,
    /// Made for temporary files and taken away again.
    pub(crate) tmp: &'a Path,
    pub(crate) sandbox: &'a Asked,
    pub(crate) progress: &'a dyn Fn(&str),
    /// Ends it.
    pub(crate) halt: Option<Halt<'a>>,
}

/// Ends whatever carries this marker: a command of the set-up, or a git that changes refs or files, whose dx-runner was
/// killed. To be called with the lock of the folder: what has not begun its own program yet, and so has no marker, holds it.
pub(super) fn end_leftovers(mark: &RunUuid) {
    // A git ends by itself; one that is ended in the moment in which it makes a lock leaves it to nobody.
    let is_git = |pid: &i32| dx_proc::command_name(*pid).as_deref() == Some("git");
    let began = clock::monotonic_ms();
    let mut marked = tree::marked(MARKER, mark.as_str());
    while marked.iter().any(is_git) && clock::monotonic_ms() - began < GRACE_MS {
        std::thread::sleep(TICK);
        marked = tree::marked(MARKER, mark.as_str());
    }
    if !marked.is_empty() {
        // Who cleared its environment is known by who began it.
        let all = tree::members(&marked, (MARKER, mark.as_str()), &[]);
        end_tree(mark, &all, GRACE_MS);
    }
}

/// Runs all commands; the first that fails ends it.
pub(crate) fn run(setup: &Setup<'_>) -> Result<(), EngineError> {
    let io = |what: &'static str| move |source: std::io::Error| EngineError::Io { what, source };
    // What a command that was killed left.
    remove_tree(setup.tmp)?;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(setup.tmp)
        .map_err(io("make the set-up's folder for temporary files"))?;
    let ran = confined(setup).and_then(|(env, rules)| run_all(setup, &env, rules));
    remove_tree(setup.tmp)?;
    ran
}

/// The environment of the commands, and what they are confined to; `None` when they are not.
fn confined(setup: &Setup<'_>) -> Result<(Env, Option<Rules>), EngineError> {
    let mut env = environment::allowed(&|_| false);
    environment::set(&mut env, "TMPDIR", setup.tmp);
    environment::set(&mut env, "DX_RUNNER_BEADS_ID", setup.beads.as_str());
    environment::set(&mut env, MARKER, setup.mark.as_str());
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Confined { record, rules } = sandbox::resolve(&Wanted {
        shared: false,
        asked: setup.sandbox,
        provider: NO_PROVIDER,
        worktree: &real(&setup.worktree.work_tree),
        repository: Some(setup.worktree),
        tmp: setup.tmp,
        state: &[],
        env: &env,
        dry: false,
    })?;
    for warning in sandbox::warnings(&record) {
        (setup.progress)(&warning);
    }
    Ok((env, rules))
}

fn run_all(
    setup: &Setup<'_>,
    env: &[(OsString, OsString)],
    mut rules: Option<Rules>,
) -> Result<(), EngineError> {
    let failed = |command: &str, how: String| EngineError::SetupFailed {
        command: command.to_owned(),
        how,
        log: setup.log.to_owned(),
    };
    let open = || {
        let mut options = File::options();
        options.create(true).append(true).mode(0o600);
        let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(setup.log)?;
        file.set_len(0).map(|()| file)
    };
    let mut file = open().map_err(|e| failed("open its log", e.to_string()))?;
    if let Some(rules) = &mut rules {
        // They may open by name what they have open.
        rules.appended.extend(setup.log.canonicalize());
    }
    for command in setup.commands {
        if setup.halt.is_some_and(|halt| halt.is_over()) {
            return Err(failed(command, CANCELLED.to_owned()));
        }
        let ended = writeln!(file, "$ {command}")
            .map_err(|e| e.to_string())
            .and_then(|()| one(setup, command, env, rules.as_ref(), &file));
        // Nothing of a set-up goes on in the background of a worktree that is said to be ready.
        end_leftovers(setup.mark);
        if let Err(how) = ended {
            let _told = writeln!(file, "dx-runner: {how}");
            return Err(failed(command, how));
        }
    }
    Ok(())
}

/// One command to its end; the error says how it failed.
fn one(
    setup: &Setup<'_>,
    command: &str,
    env: &[(OsString, OsString)],
    rules: Option<&Rules>,
    log: &File,
) -> Result<(), String> {
    let told = |e: &dyn std::fmt::Display| format!("it could not be started: {e}");
    // It has a session of its own, so an interrupt of the terminal does not reach it: we pass that on.
    let signals = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
    SignalFd::during(&signals, |interrupts| {
        let stdin = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let sandbox = rules.map(Domain::new).transpose().map_err(|e| told(&e))?;
        let held = dx_proc::fork_held(AgentCommand {
            argv: [SHELL, "-c", command].map(OsString::from).into(),
            env: env.to_vec(),
            cwd: setup.worktree.work_tree.clone(),
            umask: None,
            stdin: stdin.map_err(|e| told(&e))?,
            stdout: log.try_clone().map_err(|e| told(&e))?.into(),
            stderr: log.try_clone().map_err(|e| told(&e))?.into(),
            terminal: false,
            sandbox,
        })
        .map_err(|e| told(&e))?;
        let pid = held.pid();
        let watched = PidFd::open(pid).map_err(|e| told(&e));
        // A child that is not released ends by itself.
        let released = held.release().and_then(Released::confirm);
        let pidfd = watched?;
        let mut fds = vec![pidfd.as_fd(), interrupts.as_fd()];
        fds.extend(setup.halt.map(|halt| halt.fd()));
        let woken = dx_proc::poll::poll(&fds, Some(PATIENCE_MS));
        let by_itself = matches!(woken.as_deref(), Ok([true, ..]));
        if !by_itself {
            end_leftovers(setup.mark);
            let _gone = pidfd.send_signal(Signal::KILL.as_raw());
            dx_proc::poll::poll(&[pidfd.as_fd()], None).map_err(|e| e.to_string())?;
        }
        let status = dx_proc::wait::peek_exit(pid).map_err(|e| e.to_string())?;
        dx_proc::wait::reap(pid).map_err(|e| e.to_string())?;
        let interrupted = interrupts.drain().is_ok_and(|list| !list.is_empty());
        match (released, status) {
            (Err(e), _) => Err(told(&e)),
            (Ok(Err(errno)), _) => Err(told(&std::io::Error::from_raw_os_error(errno))),
            _ if !by_itself && setup.halt.is_some_and(|halt| halt.is_over()) => Err(CANCELLED.to_owned()),
            _ if !by_itself && interrupted => Err("it was interrupted".to_owned()),
            _ if !by_itself => Err(format!("it was ended after {} minutes", PATIENCE_MS / 60_000)),
            (_, Some(ExitStatus::Exited(0))) if interrupted => Err("it was interrupted".to_owned()),
            (_, Some(ExitStatus::Exited(0))) => Ok(()),
            (_, Some(ExitStatus::Exited(code))) => Err(format!("exit status: {code}")),
            (_, Some(ExitStatus::Signaled(signal))) => Err(format!("signal: {signal}")),
            (_, None) => Err("its end was not seen".to_owned()),
        }
    })
    .map_err(|e| told(&e))?
}
