//! File events.
//!
//! Called by the monitor, which tails logs, and by `wait`. Must never block: the descriptor is polled.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags};

use crate::error::{Error, Result};

/// The file was written.
pub const MODIFY: u32 = libc::IN_MODIFY;
/// Its metadata changed (link count too, so: unlinked while open).
pub const ATTRIB: u32 = libc::IN_ATTRIB;
/// A file opened for writing was closed.
pub const CLOSE_WRITE: u32 = libc::IN_CLOSE_WRITE;
/// An entry was created in the directory.
pub const CREATE: u32 = libc::IN_CREATE;
/// An entry was removed from the directory.
pub const DELETE: u32 = libc::IN_DELETE;
/// The watched file itself was removed.
pub const DELETE_SELF: u32 = libc::IN_DELETE_SELF;
/// An entry was moved out of the directory.
pub const MOVED_FROM: u32 = libc::IN_MOVED_FROM;
/// An entry was moved into the directory.
pub const MOVED_TO: u32 = libc::IN_MOVED_TO;
/// The watched file itself was moved.
pub const MOVE_SELF: u32 = libc::IN_MOVE_SELF;
/// Only for [`Watch::add`]: refuse what is no directory.
pub const ONLYDIR: u32 = libc::IN_ONLYDIR;
/// Only in events: the queue ran over and events are lost (its watch number is -1): read everything again.
pub const Q_OVERFLOW: u32 = libc::IN_Q_OVERFLOW;
/// Only in events: the watch has ended.
pub const IGNORED: u32 = libc::IN_IGNORED;

/// A set of watched paths (close-on-exec, non-blocking).
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Opens an empty set. Fails with [`Error::OpenWatch`] (`EMFILE`: the user's inotify limit; poll instead).
    pub fn new() -> Result<Self> {
        rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map(Self)
            .map_err(|errno| Error::OpenWatch { source: errno.into() })
    }

    /// Watches `path` for the events of `mask` and returns the watch number. Watching the same file again replaces
    /// its mask.
    ///
    /// Fails with [`Error::AddWatch`] (`ENOENT`, `ENOSPC`: the user's watch limit).
    pub fn add(&self, path: &Path, mask: u32) -> Result<i32> {
        rustix::fs::inotify::add_watch(&self.0, path, WatchFlags::from_bits_retain(mask))
            .map_err(|errno| Error::AddWatch { path: path.to_owned(), source: errno.into() })
    }

    /// Ends a watch. Fails with [`Error::RemoveWatch`].
    pub fn remove(&self, wd: i32) -> Result<()> {
        rustix::fs::inotify::remove_watch(&self.0, wd)
            .map_err(|errno| Error::RemoveWatch { wd, source: errno.into() })
    }

    /// Hands every pending event to `each` as watch number, mask and name within the directory (empty for the watched
    /// file itself), and returns how many there were.
    ///
    /// Fails with [`Error::ReadWatch`].
    pub fn read_events(&mut self, mut each: impl FnMut(i32, u32, &[u8])) -> Result<usize> {
        // One event needs at most 16 + 256 bytes.
        let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
        let mut reader = Reader::new(self.0.as_fd(), &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map_or(&[][..], std::ffi::CStr::to_bytes);
                    each(event.wd(), event.events().bits(), name);
                    count += 1;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(count),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::ReadWatch { source: io::Error::from(errno) }),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
