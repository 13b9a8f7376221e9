//! One signal at the next write to a file of a directory.
//!
//! Called by a monitor that is about to sleep beside a silent agent. Directory notification (`F_NOTIFY`) takes no inotify
//! instance, of which a user has few. Must never be relied on: kernels without it exist, network file systems see only our
//! own machine's writes, and every caller looks by itself too.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The signal that is sent: blocked and read through a [`crate::SignalFd`] by whoever arms an alarm, because by default it
/// ends a process.
pub const SIGNAL: i32 = libc::SIGIO;

/// A file was written to or cut; the C library's bindings have no name for it.
const DN_MODIFY: libc::c_int = 2;

/// An alarm for one directory.
#[derive(Debug)]
pub struct WriteAlarm(OwnedFd);

impl WriteAlarm {
    /// An alarm that is not armed; `None` when the directory cannot be opened.
    pub fn new(directory: &Path) -> Option<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(directory, flags, Mode::empty()).ok().map(Self)
    }

    /// Asks for one signal to this process. Writes before are not told. `false` where the kernel cannot.
    pub fn arm(&self) -> bool {
        // SAFETY: takes no pointers; the descriptor is open as long as `self`.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_NOTIFY, DN_MODIFY) == 0 }
    }
}
