//! Pseudo-terminals for agents that insist on one.
//!
//! Called by the monitor before it forks its launcher, so that both hold the master. Must never become the controlling
//! terminal of one of our own processes.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::os::fd::OwnedFd;

/// Size that programs see: wide enough that lines of JSON are not wrapped by programs that ask.
const ROWS: u16 = 50;
const COLUMNS: u16 = 200;

/// A new pseudo-terminal: the master (non-blocking, close-on-exec) and its other end.
///
/// Fails with [`Error::OpenPty`].
pub fn open() -> Result<(OwnedFd, OwnedFd)> {
    let fail = |errno: rustix::io::Errno| Error::OpenPty { source: errno.into() };
    let master =
        rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map_err(fail)?;
    rustix::pty::grantpt(&master).map_err(fail)?;
    rustix::pty::unlockpt(&master).map_err(fail)?;
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(fail)?;
    let other =
        rustix::fs::open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
    let size = rustix::termios::Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).map_err(fail)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(fail)?;
    Ok((master, other))
}
