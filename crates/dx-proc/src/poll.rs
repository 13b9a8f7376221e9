//! Waiting for descriptors.
//!
//! The one place where monitor, launcher and `wait` sleep. Must never return early because of a signal.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::clock::monotonic_ms;
use crate::error::{Error, Result};

/// Waits until one of `fds` is readable, hung up or in error, at most `timeout_ms` milliseconds (for ever when
/// `None`). The answer has one entry per descriptor; all are `false` on timeout. The time is CLOCK_MONOTONIC.
///
/// Fails with [`Error::Poll`].
pub fn poll(fds: &[BorrowedFd<'_>], timeout_ms: Option<u64>) -> Result<Vec<bool>> {
    let mut list: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    poll_raw(&mut list, timeout_ms)?;
    Ok(list.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// `poll` that goes on after a signal with what is left of the time.
pub(crate) fn poll_raw(fds: &mut [PollFd<'_>], timeout_ms: Option<u64>) -> Result<()> {
    let deadline = timeout_ms.map(|ms| monotonic_ms().saturating_add(ms));
    loop {
        let left = deadline.map(|at| timespec(at.saturating_sub(monotonic_ms())));
        match rustix::event::poll(fds, left.as_ref()) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::Poll { source: errno.into() }),
        }
    }
}

fn timespec(ms: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    }
}
