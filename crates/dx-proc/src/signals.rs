//! Signals as readable events, and clean signal state for children.
//!
//! Called by monitor and launcher at their start, and between fork and exec. Must never install a handler.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{Error, Result};

/// A signal that was pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Signal number.
    pub signal: i32,
    /// Pid of the sender, 0 when the kernel sent it.
    pub sender: i32,
}

/// Blocked signals, delivered through a descriptor (close-on-exec, non-blocking).
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks these signals in the calling thread (start no thread before) and opens a descriptor for them. Dropping
    /// it does not unblock them.
    ///
    /// Fails with [`Error::BlockSignals`] or [`Error::OpenSignalFd`].
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = set_of(signals).map_err(|source| Error::BlockSignals { source })?;
        // SAFETY: `set` is initialised; a null old set is allowed.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code != 0 {
            return Err(Error::BlockSignals { source: io::Error::from_raw_os_error(code) });
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::OpenSignalFd { source: io::Error::last_os_error() });
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Runs `work` with these signals blocked in the calling thread and delivered through a descriptor. Afterwards the
    /// thread's mask is what it was, so that one that `work` did not take has its usual effect then.
    ///
    /// Fails as [`SignalFd::new`], without running `work`.
    pub fn during<T>(signals: &[i32], work: impl FnOnce(&Self) -> T) -> Result<T> {
        let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: nothing is changed by a null new set, and `old` is valid for writes.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), old.as_mut_ptr()) };
        if code != 0 {
            return Err(Error::BlockSignals { source: io::Error::from_raw_os_error(code) });
        }
        let done = Self::new(signals).map(|fd| work(&fd));
        // SAFETY: `old` was filled above; a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
        done
    }

    /// Takes all pending signals; empty when there are none. A signal sent twice may come once.
    ///
    /// Fails with [`Error::DrainSignals`].
    pub fn drain(&self) -> Result<Vec<Received>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut list = Vec::new();
        loop {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
            // SAFETY: `info` is valid for writes of `SIZE` bytes.
            let len = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), SIZE) };
            if usize::try_from(len) == Ok(SIZE) {
                // SAFETY: plain data, zeroed first and filled by the kernel.
                let info = unsafe { info.assume_init() };
                list.push(Received { signal: info.ssi_signo as i32, sender: info.ssi_pid as i32 });
                continue;
            }
            if len >= 0 {
                return Ok(list);
            }
            let source = io::Error::last_os_error();
            match source.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(list),
                _ => return Err(Error::DrainSignals { source }),
            }
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ignores these signals in this process; children that are started through this crate get the default back.
///
/// Fails with [`Error::IgnoreSignal`] (`EINVAL` for SIGKILL and SIGSTOP). SIGCHLD must not be ignored: statuses would
/// be lost.
pub fn ignore(signals: &[i32]) -> Result<()> {
    for &signal in signals {
        set_disposition(signal, libc::SIG_IGN).map_err(|source| Error::IgnoreSignal { signal, source })?;
    }
    Ok(())
}

/// Gives these signals their default disposition back; a caller may have left them ignored. An ignored SIGCHLD would lose
/// the statuses of our children.
pub fn restore(signals: &[i32]) {
    for &signal in signals {
        // It fails only for numbers that are no signals.
        let _refused = set_disposition(signal, libc::SIG_DFL);
    }
}

/// Default disposition for every signal (SIGPIPE too, which Rust programs ignore) and an empty mask. Async-signal-safe:
/// meant for a child between fork and exec.
pub fn reset_for_child() {
    // The kernel's `struct sigaction`, which has at most four words: all zeroes means the default, on every machine.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // Not through the C library, which keeps two signals for itself and would leave them ignored if our caller
        // ignored them. SIGKILL and SIGSTOP are refused; that is as it should be.
        // SAFETY: `default` is valid for reads of the kernel's structure; a null old action is allowed; 8 is the
        // size of the kernel's signal set.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
    }
    if let Ok(empty) = set_of(&[]) {
        // SAFETY: `empty` is initialised; a null old set is allowed.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
    }
}

/// Runs `work` with every signal blocked, so that no handler of this process runs in a child just forked. The mask is
/// put back in this process only.
pub(crate) fn with_all_blocked<T>(work: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both sets are valid for writes; `sigfillset` initialises the first.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr());
    }
    let result = work();
    // SAFETY: `old` was filled above (or is all zeroes, an empty set).
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old.as_ptr(), std::ptr::null_mut()) };
    result
}

fn set_of(signals: &[i32]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for writes; `sigemptyset` initialises it.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: `set` is initialised; bad numbers are refused by the call.
        if unsafe { libc::sigaddset(&raw mut set, signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(set)
}

fn set_disposition(signal: i32, disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: `sigaction` is plain data; zero means no flags and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = disposition;
    // SAFETY: `action` is initialised and names no handler function; a null old action is allowed.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
