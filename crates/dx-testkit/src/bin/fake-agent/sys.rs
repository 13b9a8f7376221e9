//! The system calls of `fake-agent` that std does not offer safely.
//!
//! For: ignoring a signal and starting a child in a session of its own.
//! Called by: `actions`.
//! Must never: grow beyond what an action needs; this is the one file of the kit with `unsafe`.

#![allow(unsafe_code, reason = "signal dispositions and pre_exec have no safe wrapper")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Ignores SIGTERM from now on, here and in later children.
pub(crate) fn ignore_term() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    let previous = unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the child the leader of a new session before it execs.
pub(crate) fn in_new_session(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one async-signal-safe system call and touches no memory of the parent.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from)) }
}
