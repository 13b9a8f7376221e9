//! A descriptor of a process: signals and exit without any race about its pid.
//!
//! Called by monitor, launcher, `stop` and `wait`. Must never hand out a descriptor of another process than the one
//! that was recorded.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};

use crate::error::{Error, Result};
use crate::identity::{Host, ProcessIdentity};
use crate::poll::poll_raw;
use crate::stat;
use crate::wait::ExitStatus;

/// An open process descriptor (close-on-exec).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process that has `pid` now. Safe from recycling only for an unreaped child of ours; otherwise use
    /// [`PidFd::open_verified`].
    ///
    /// Fails with [`Error::NotFound`] when there is none (or `pid` is only a thread), else [`Error::OpenPidFd`].
    pub fn open(pid: i32) -> Result<Self> {
        let Some(number) = positive(pid) else { return Err(Error::NotFound { pid }) };
        match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self(fd)),
            // EINVAL and ENOENT: the number is a thread's and no process's.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
                Err(Error::NotFound { pid })
            }
            Err(errno) => Err(Error::OpenPidFd { pid, source: errno.into() }),
        }
    }

    /// Opens exactly this process; `None` when it is gone, recycled, in another namespace or of another boot. A
    /// zombie is opened.
    ///
    /// Fails with [`Error::OpenPidFd`], [`Error::ReadStat`], and as [`Host::current`].
    pub fn open_verified(identity: &ProcessIdentity) -> Result<Option<Self>> {
        Self::open_verified_on(&Host::current()?, identity)
    }

    /// [`PidFd::open_verified`] for many processes.
    ///
    /// Fails with [`Error::OpenPidFd`] or [`Error::ReadStat`].
    pub fn open_verified_on(host: &Host, identity: &ProcessIdentity) -> Result<Option<Self>> {
        if identity.boot_id != host.boot_id || identity.pid_ns != host.pid_ns {
            return Ok(None);
        }
        let fd = match Self::open(identity.pid) {
            Ok(fd) => fd,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Read after opening: the process that has this start time now held the pid all the time since then.
        match stat::read(identity.pid) {
            Ok(Some(stat)) if stat.start_ticks == identity.start_ticks => Ok(Some(fd)),
            Ok(_) => Ok(None),
            Err(source) => Err(Error::ReadStat { pid: identity.pid, source }),
        }
    }

    /// Sends a signal; `false` when the process has been reaped. A zombie takes signals without effect (`true`).
    /// Signal 0 only probes.
    ///
    /// Fails with [`Error::SendSignal`] (`EPERM`, `EINVAL`).
    pub fn send_signal(&self, signal: i32) -> Result<bool> {
        // SAFETY: the descriptor is open; a null `siginfo` makes the kernel fill it; no memory is touched.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0u32,
            )
        };
        if result == 0 {
            return Ok(true);
        }
        let source = io::Error::last_os_error();
        if source.raw_os_error() == Some(libc::ESRCH) {
            Ok(false)
        } else {
            Err(Error::SendSignal { signal, source })
        }
    }

    /// Exit status as the kernel keeps it in the descriptor (`PIDFD_GET_INFO`, Linux 6.15): only once the process has
    /// been reaped by its parent, and only when the descriptor was opened before. `None` when the kernel cannot tell.
    ///
    /// Fails with [`Error::QueryExitInfo`] for errors other than "not supported" and "no such process".
    pub fn exit_info(&self) -> Result<Option<ExitStatus>> {
        // SAFETY: `pidfd_info` is plain integers; all zeroes is a valid value.
        let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        // SAFETY: `info` is valid for reads and writes, and its size is part of the request number.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
        if result != 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::ESRCH) => Ok(None),
                _ => Err(Error::QueryExitInfo { source }),
            };
        }
        let told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
        Ok(told.then(|| ExitStatus::from_wait_status(info.exit_code)))
    }

    /// Whether the process has exited (zombie or reaped).
    ///
    /// Fails with [`Error::Poll`].
    pub fn is_exited(&self) -> Result<bool> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll_raw(&mut fds, Some(0))?;
        Ok(!fds[0].revents().is_empty())
    }

    /// Waits until the process has been reaped by its parent, at most `timeout_ms` (for ever when `None`); `false`
    /// on timeout. Kernels before 6.9 never tell: give a timeout.
    ///
    /// Fails with [`Error::Poll`].
    pub fn wait_reaped(&self, timeout_ms: Option<u64>) -> Result<bool> {
        // No events asked for: POLLHUP is reported always, POLLIN (a zombie) would return too early.
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        poll_raw(&mut fds, timeout_ms)?;
        Ok(fds[0].revents().contains(PollFlags::HUP))
    }
}

/// `Pid::from_raw` does not take negative numbers, and 0 is no process.
pub(crate) fn positive(pid: i32) -> Option<Pid> {
    if pid > 0 { Pid::from_raw(pid) } else { None }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    /// An inherited descriptor that is known to be a pidfd.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(fd: PidFd) -> Self {
        fd.0
    }
}
