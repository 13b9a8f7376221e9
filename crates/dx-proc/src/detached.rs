//! Starting our own programs, detached from the caller.
//!
//! Called by `start` for the monitor and by the launcher for a monitor that adopts. Must never leak a descriptor that
//! was not named.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::child::{self, Placement, Plan};
use crate::error::{Error, Result};
use crate::program;
use crate::wait;

/// Starts a program in a session of its own, with default signals, exactly the environment `env`, and exactly the
/// descriptors `fds` (source, number in the child; sources may overlap the numbers, one source may go to several).
/// 0, 1 and 2 are `/dev/null` unless placed. Returns the child's pid once its exec has succeeded; it is a child of
/// this process. Working directory and umask are inherited.
///
/// With `exe_fd` that open file is run and `program` only names it in errors: an upgrade on disk does not matter. It
/// must not be a script. Without, `program` is a path (no `PATH` lookup).
///
/// Fails with [`Error::EmptyArgv`], [`Error::NulByte`], [`Error::BadTarget`], [`Error::OpenNull`],
/// [`Error::OpenChannel`], [`Error::Fork`], [`Error::ReadStart`], or [`Error::Exec`] when the child could not be set
/// up or its program not be run (the child has been reaped then).
pub fn spawn_detached(
    program: &Path,
    exe_fd: Option<BorrowedFd<'_>>,
    argv: &[OsString],
    env: &[(OsString, OsString)],
    fds: &[(BorrowedFd<'_>, RawFd)],
) -> Result<i32> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::OpenNull { source: errno.into() })?;
    let mut placements = Vec::with_capacity(fds.len() + 3);
    for (index, (source, target)) in fds.iter().enumerate() {
        let twice = fds.iter().take(index).any(|(_, other)| other == target);
        if *target < 0 || twice {
            return Err(Error::BadTarget { target: *target });
        }
        placements.push(Placement::new(source.as_raw_fd(), *target));
    }
    for target in 0..=2 {
        if fds.iter().all(|(_, other)| *other != target) {
            placements.push(Placement::new(null.as_raw_fd(), target));
        }
    }
    let path = program::c_string(program.as_os_str(), "the program path")?;
    let mut plan = Plan::new(path, program::arguments(argv)?, program::environment(env)?, placements);
    plan.exe = exe_fd.map(|fd| fd.as_raw_fd());
    let (pid, channel) = child::start(plan)?;
    match channel.read_start().map_err(|source| Error::ReadStart { pid, source })? {
        Ok(()) => Ok(pid),
        Err(errno) => {
            wait::reap_blocking(pid)?;
            Err(Error::Exec { program: program.to_owned(), source: io::Error::from_raw_os_error(errno) })
        }
    }
}
