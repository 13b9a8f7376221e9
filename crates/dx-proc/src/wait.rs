//! Exit statuses of children: look first, consume later.
//!
//! Called by monitor and launcher, which make a status durable between [`peek_exit`] and [`reap`]. Must never consume
//! a status while looking, and never block.
#![allow(unsafe_code)]

use std::io;

use crate::error::{Error, Result};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this code (0 to 255).
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// From a wait status as `wait4` and `PIDFD_GET_INFO` give it. Only for ended processes: a stop or continue is
    /// not one of them.
    pub fn from_wait_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Self::Exited(libc::WEXITSTATUS(status))
        } else {
            Self::Signaled(libc::WTERMSIG(status))
        }
    }

    /// From `si_code` and `si_status` of a `SIGCHLD` or `waitid`; `None` when they tell of no exit.
    pub fn from_siginfo(code: i32, status: i32) -> Option<Self> {
        match code {
            libc::CLD_EXITED => Some(Self::Exited(status)),
            libc::CLD_KILLED | libc::CLD_DUMPED => Some(Self::Signaled(status)),
            _ => None,
        }
    }

    /// The shell's convention: the exit code, or 128 + signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }

    /// The signal that ended the process.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled(signal) => Some(signal),
        }
    }
}

/// What the children of this process are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyChild {
    /// This child has exited and is not reaped. Asking again gives the same one until it is reaped.
    Exited(i32, ExitStatus),
    /// There are children and none has exited.
    StillRunning,
    /// `ECHILD`: this process has no children at all.
    NoChildren,
}

/// Exit status of the child `pid`, not consumed; `None` while it runs.
///
/// Fails with [`Error::PeekExit`]; its errno is `ECHILD` when `pid` is no child of ours.
pub fn peek_exit(pid: i32) -> Result<Option<ExitStatus>> {
    let fail = |source| Error::PeekExit { pid, source };
    let id = child_id(pid).map_err(fail)?;
    let seen = waitid(libc::P_PID, id, libc::WNOWAIT).map_err(fail)?;
    Ok(seen.map(|(_, status)| status))
}

/// Any child that has exited, its status not consumed.
///
/// Fails with [`Error::PeekAnyExit`].
pub fn peek_any_exit() -> Result<AnyChild> {
    match waitid(libc::P_ALL, 0, libc::WNOWAIT) {
        Ok(Some((pid, status))) => Ok(AnyChild::Exited(pid, status)),
        Ok(None) => Ok(AnyChild::StillRunning),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(AnyChild::NoChildren),
        Err(source) => Err(Error::PeekAnyExit { source }),
    }
}

/// Consumes the status of the exited child `pid`. Never blocks.
///
/// Fails with [`Error::NotExited`] while it runs, [`Error::Reap`] otherwise (`ECHILD`: no child of ours).
pub fn reap(pid: i32) -> Result<()> {
    let fail = |source| Error::Reap { pid, source };
    let id = child_id(pid).map_err(fail)?;
    match waitid(libc::P_PID, id, 0).map_err(fail)? {
        Some(_) => Ok(()),
        None => Err(Error::NotExited { pid }),
    }
}

/// Blocks until the child `pid` has exited, and consumes its status. For children known to be exiting.
pub(crate) fn reap_blocking(pid: i32) -> Result<()> {
    loop {
        match rustix::process::waitpid(
            rustix::process::Pid::from_raw(pid),
            rustix::process::WaitOptions::empty(),
        ) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::Reap { pid, source: errno.into() }),
        }
    }
}

/// `waitid(P_PID, 0)` and negative numbers mean other things than a child.
fn child_id(pid: i32) -> io::Result<libc::id_t> {
    match libc::id_t::try_from(pid) {
        Ok(id) if id > 0 => Ok(id),
        _ => Err(io::Error::from_raw_os_error(libc::ECHILD)),
    }
}

fn waitid(kind: libc::idtype_t, id: libc::id_t, extra: i32) -> io::Result<Option<(i32, ExitStatus)>> {
    // `__WALL`: children made by clone with another exit signal count too.
    let options = libc::WEXITED | libc::WNOHANG | libc::__WALL | extra;
    loop {
        // SAFETY: `siginfo_t` is plain data; all zeroes is a valid value, and means "nothing" to the check below.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writes for the duration of the call.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, options) };
        if result != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        // SAFETY: `waitid` filled the SIGCHLD fields, or left the zeroes.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        return Ok(ExitStatus::from_siginfo(info.si_code, status).map(|status| (pid, status)));
    }
}
