//! Descriptors that a process of ours was started with, and the file it runs.
//!
//! Called at the very start of a monitor. Must never take a descriptor twice.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over the descriptor `number` and marks it close-on-exec; `None` when it is not open.
///
/// The caller takes each number once, before it opens anything itself.
pub fn take(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: used only to ask the kernel whether the number is open; closed numbers answer EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC).ok()?;
    // SAFETY: the number is open (the call above succeeded) and, by contract, nobody else in this process owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The file of the running program, open for a later exec: an upgrade on disk does not change it.
///
/// Fails with [`Error::OpenNull`]'s kind of I/O error when `/proc` is not there.
pub fn own_executable() -> Result<OwnedFd> {
    rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::OpenNull { source: errno.into() })
}
