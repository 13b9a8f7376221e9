//! What a process tells the kernel about itself.
//!
//! Called once by monitor and launcher at their start. Must never be called in the agent's child.
#![allow(unsafe_code)]

use std::io;

use crate::error::{Error, Result};

/// Makes this process the parent of every orphan below it. Not inherited by fork; lost with nothing but exit.
///
/// Fails with [`Error::BecomeSubreaper`].
pub fn become_subreaper() -> Result<()> {
    // SAFETY: the operation takes one integer and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1u64, 0u64, 0u64, 0u64) };
    if result == 0 { Ok(()) } else { Err(Error::BecomeSubreaper { source: io::Error::last_os_error() }) }
}

/// Names the calling thread (in a process of one thread: the process), for `ps`. At most 15 bytes are kept.
///
/// Fails with [`Error::SetName`].
pub fn set_name(name: &str) -> Result<()> {
    let mut buffer = [0u8; 16];
    for (to, from) in buffer.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the kernel reads at most 16 bytes up to a NUL; the last byte of `buffer` is NUL.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, buffer.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(Error::SetName { source: io::Error::last_os_error() }) }
}
