//! What a forked child does until exec, and the channel by which it tells its parent how that went.
//!
//! Called by the spawners. Between fork and exec nothing here may allocate, lock or panic: the parent may have had
//! other threads. Only system calls and memory that the parent prepared.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::error::{Error, Result};
use crate::program::CStrings;
use crate::sandbox;
use crate::signals;

/// Exit code of a child that never ran its program.
const NOT_STARTED: i32 = 127;

/// Stack of a child that shares our memory: its few calls take some hundred bytes.
const CHILD_STACK: usize = 64 << 10;

/// A descriptor and the number it gets in the child.
pub(crate) struct Placement {
    source: RawFd,
    target: RawFd,
    /// Copy above all targets, made in the child so that no placement overwrites the source of another.
    staged: RawFd,
}

impl Placement {
    pub(crate) fn new(source: RawFd, target: RawFd) -> Self {
        Self { source, target, staged: -1 }
    }
}

/// All that the child needs, allocated before the fork.
pub(crate) struct Plan {
    pub(crate) program: CString,
    /// Run this open file instead of the path.
    pub(crate) exe: Option<RawFd>,
    pub(crate) argv: CStrings,
    pub(crate) env: CStrings,
    pub(crate) cwd: Option<CString>,
    pub(crate) placements: Vec<Placement>,
    /// Wait for a byte of the parent before exec.
    pub(crate) hold: bool,
    /// The file mode creation mask of the program; `None`: as it is here.
    pub(crate) umask: Option<u32>,
    /// Make descriptor 1, a terminal, the controlling one of the new session.
    pub(crate) terminal: bool,
    /// The domain to enter before exec.
    pub(crate) sandbox: Option<RawFd>,
    /// The child's end of the channel; filled in by [`start`].
    channel: RawFd,
    /// Room for the numbers that stay open.
    keep: Vec<RawFd>,
}

impl Plan {
    pub(crate) fn new(program: CString, argv: CStrings, env: CStrings, placements: Vec<Placement>) -> Self {
        let keep = vec![-1; placements.len() + 3];
        Self {
            program,
            exe: None,
            argv,
            env,
            cwd: None,
            placements,
            hold: false,
            umask: None,
            terminal: false,
            sandbox: None,
            channel: -1,
            keep,
        }
    }
}

/// The parent's end of the channel to a child. Closed without a byte, a held child exits without exec.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Lets a held child go on. That the child is gone already is no error: [`Channel::read_start`] tells.
    pub(crate) fn release(&self) -> io::Result<()> {
        loop {
            match rustix::net::send(&self.0, b"!", SendFlags::NOSIGNAL) {
                Ok(_) | Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits for exec: `Ok(Ok(()))` when the channel closed by it (or by the child's death), else the child's errno.
    pub(crate) fn read_start(&self) -> io::Result<std::result::Result<(), i32>> {
        let mut errno = [0u8; 4];
        loop {
            match rustix::net::recv(&self.0, &mut errno, RecvFlags::WAITALL) {
                Ok((4, _)) => return Ok(Err(i32::from_ne_bytes(errno))),
                Ok(_) | Err(rustix::io::Errno::CONNRESET) => return Ok(Ok(())),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Forks a child that follows `plan`; gives its pid and the channel to it.
///
/// Fails with [`Error::OpenChannel`] or [`Error::Fork`].
pub(crate) fn start(mut plan: Plan) -> Result<(i32, Channel)> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|errno| Error::OpenChannel { source: errno.into() })?;
    plan.channel = theirs.as_fd().as_raw_fd();
    let pid = signals::with_all_blocked(|| {
        let pid = if plan.hold { fork(&mut plan) } else { share(&mut plan) };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
    });
    match pid {
        Ok(pid) => Ok((pid, Channel(ours))),
        Err(source) => Err(Error::Fork { source }),
    }
}

/// A child with a copy of our memory; both go on at once.
fn fork(plan: &mut Plan) -> i32 {
    // SAFETY: the child runs only `run`, which keeps to system calls and memory prepared before, and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        run(plan);
    }
    pid
}

/// A child in our own memory, while this thread stands still until its exec or end: nothing is copied, neither tables nor
/// what we would write meanwhile. It has descriptors, signal actions, working directory and umask of its own.
fn share(plan: &mut Plan) -> i32 {
    extern "C" fn child(plan: *mut libc::c_void) -> i32 {
        // SAFETY: the plan below, which nobody else uses while the child does.
        run(unsafe { &mut *plan.cast::<Plan>() })
    }
    let mut stack = vec![0u128; CHILD_STACK / size_of::<u128>()];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack grows down from the end of its memory, which is aligned to 16 bytes and, like the plan, outlives the
    // child's use of it: the call returns when the child has run its program or ended. The child never returns from `run`,
    // and all signals are blocked here, so that no handler of ours runs in it.
    unsafe { libc::clone(child, stack.as_mut_ptr_range().end.cast(), flags, std::ptr::from_mut(plan).cast()) }
}

/// The child's whole life before its program.
fn run(plan: &mut Plan) -> ! {
    let errno = match prepare(plan) {
        Ok(()) => exec(plan),
        Err(errno) => errno,
    };
    let bytes = errno.to_ne_bytes();
    // SAFETY: `bytes` is valid for the length; a failure leaves the parent with a closed channel and exit code 127.
    unsafe { libc::send(plan.channel, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    leave()
}

fn prepare(plan: &mut Plan) -> std::result::Result<(), i32> {
    // SAFETY: no arguments; it fails only for a group leader, which a new child is not.
    unsafe { libc::setsid() };
    signals::reset_for_child();
    place(plan)?;
    if let Some(mask) = plan.umask {
        // SAFETY: a plain integer; it cannot fail.
        unsafe { libc::umask(mask) };
    }
    if plan.terminal {
        // SAFETY: plain integers; the session is new and has no terminal yet.
        check(unsafe { libc::ioctl(1, libc::TIOCSCTTY, 0) })?;
    }
    if let Some(cwd) = &plan.cwd {
        // SAFETY: a NUL-terminated string that outlives the call.
        check(unsafe { libc::chdir(cwd.as_ptr()) })?;
    }
    if plan.hold && !wait_for_byte(plan.channel) {
        leave();
    }
    plan.sandbox.map_or(Ok(()), sandbox::enter)
}

/// Puts every descriptor to its number and closes all others but channel, program file and sandbox.
fn place(plan: &mut Plan) -> std::result::Result<(), i32> {
    let highest = plan.placements.iter().map(|placement| placement.target).fold(2, RawFd::max);
    let base = highest.checked_add(1).ok_or(libc::EMFILE)?;
    // First copies above all targets (a failure is still reported through the present channel), then the targets.
    plan.channel = stage(plan.channel, base)?;
    if let Some(exe) = plan.exe {
        plan.exe = Some(stage(exe, base)?);
    }
    if let Some(sandbox) = plan.sandbox {
        plan.sandbox = Some(stage(sandbox, base)?);
    }
    for placement in &mut plan.placements {
        placement.staged = stage(placement.source, base)?;
    }
    for placement in &plan.placements {
        // SAFETY: plain integers. The copy is not close-on-exec.
        check(unsafe { libc::dup2(placement.staged, placement.target) })?;
    }
    let wanted = plan.placements.iter().map(|placement| placement.target).chain([plan.channel]);
    let wanted = wanted.chain(plan.exe).chain(plan.sandbox);
    for (slot, fd) in plan.keep.iter_mut().zip(wanted) {
        *slot = fd;
    }
    plan.keep.sort_unstable();
    let mut from = 0;
    for &fd in plan.keep.iter().filter(|fd| **fd >= 0) {
        if fd > from {
            close_between(from, fd - 1);
        }
        from = fd.saturating_add(1);
    }
    close_between(from, RawFd::MAX);
    Ok(())
}

fn stage(fd: RawFd, base: RawFd) -> std::result::Result<RawFd, i32> {
    // SAFETY: plain integers.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, base) })
}

/// Closes the numbers from `first` to `last`, both included.
fn close_between(first: RawFd, last: RawFd) {
    // SAFETY: plain integers; nothing of this process uses the closed numbers before exec or `_exit`.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 {
        return;
    }
    // Kernels before 5.9, or a filter that refuses the call.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let end = RawFd::try_from(limit.rlim_cur.min(1 << 20)).unwrap_or(1 << 20);
    for fd in first..=last.min(end) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

fn wait_for_byte(channel: RawFd) -> bool {
    let mut byte = 0u8;
    loop {
        // SAFETY: `byte` is valid for a write of one byte.
        let len = unsafe { libc::read(channel, (&raw mut byte).cast(), 1) };
        match len {
            1 => return true,
            -1 if last_errno() == libc::EINTR => {}
            _ => return false,
        }
    }
}

/// Returns only with the errno of a failure.
fn exec(plan: &Plan) -> i32 {
    if let Some(exe) = plan.exe {
        // SAFETY: an empty string and two null-terminated arrays of NUL-terminated strings, owned by `plan`.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                exe,
                c"".as_ptr(),
                plan.argv.as_ptr(),
                plan.env.as_ptr(),
                libc::AT_EMPTY_PATH,
            )
        };
    } else {
        // SAFETY: a NUL-terminated string and two null-terminated arrays of such strings, owned by `plan`.
        unsafe { libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.env.as_ptr()) };
    }
    last_errno()
}

fn check(result: i32) -> std::result::Result<i32, i32> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> i32 {
    // SAFETY: the C library's errno of this thread is always readable.
    unsafe { *libc::__errno_location() }
}

fn leave() -> ! {
    // SAFETY: ends the process at once, running nothing of the parent's.
    unsafe { libc::_exit(NOT_STARTED) }
}
