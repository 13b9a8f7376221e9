//! The system calls of `fake-agent` that std does not offer safely.
//!
//! For: ignoring a signal, starting a child in a session of its own, and being on a kernel without a system call.
//! Called by: `actions`.
//! Must never: grow beyond what an action needs; this is the one file of the kit with `unsafe`.

#![allow(unsafe_code, reason = "signal dispositions, pre_exec and filters have no safe wrapper")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Ignores SIGTERM from now on, here and in later children.
pub(crate) fn ignore_term() -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context.
    let previous = unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The system call behind Landlock.
pub(crate) const LANDLOCK: libc::c_long = libc::SYS_landlock_create_ruleset;
/// The one without which nobody builds a view of the file system.
pub(crate) const MOUNT: libc::c_long = libc::SYS_mount;

/// Answers a system call with `ENOSYS` from now on, here and in all children, as a kernel without it does.
pub(crate) fn without(call: libc::c_long) -> io::Result<()> {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut program = [
        // The number of the call stands first.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refused),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain integers, then a filter that is valid for reads and is copied by the kernel.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the child the leader of a new session before it execs.
pub(crate) fn in_new_session(command: &mut Command) -> &mut Command {
    // SAFETY: the closure makes one async-signal-safe system call and touches no memory of the parent.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from)) }
}
