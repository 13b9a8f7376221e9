//! `--pty`: the one case in which output passes through us. Monitor and launcher both hold the master; the launcher
//! copies it to the log, and when it dies the monitor goes on. With both dead the agent is hung up.

use dx_proc::pty;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Copied at once; what a killed copier can lose.
pub(crate) const PIECE: usize = 16 << 10;
/// Pieces per round, so that a flood starves nothing else.
const PIECES: usize = 64;

pub(crate) struct Pty {
    master: OwnedFd,
    /// The agent's end, until the agent has it.
    other: Option<OwnedFd>,
    log: OwnedFd,
    hung_up: std::cell::Cell<bool>,
}

impl Pty {
    /// A new terminal whose output goes to the log. `None` when one cannot be had.
    pub(crate) fn open(log: &Path) -> Option<Self> {
        let (master, other) = pty::open().ok()?;
        Some(Self { other: Some(other), ..Self::inherited(master, log)? })
    }

    /// A terminal that was handed down.
    pub(crate) fn inherited(master: OwnedFd, log: &Path) -> Option<Self> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let log = rustix::fs::open(log, flags, Mode::empty()).ok()?;
        Some(Self { master, other: None, log, hung_up: std::cell::Cell::new(false) })
    }

    /// The agent's end, once more.
    pub(crate) fn other(&self) -> Option<OwnedFd> {
        self.other.as_ref()?.try_clone().ok()
    }

    /// Gives the agent's end up: only when nobody of ours has it does its end show.
    pub(crate) fn release(&mut self) {
        self.other = None;
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// What to poll; `None` once the agent's end is closed.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.hung_up.get()).then(|| self.master.as_fd())
    }

    /// Copies what is there.
    pub(crate) fn copy(&self) {
        let mut buffer = [0; PIECE];
        for _ in 0..PIECES {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::IO) => {
                    self.hung_up.set(true);
                    return;
                }
                Ok(n) => {
                    let mut rest = &buffer[..n];
                    while !rest.is_empty() {
                        match rustix::io::write(&self.log, rest) {
                            Ok(written) => rest = &rest[written..],
                            Err(rustix::io::Errno::INTR) => {}
                            // A full disk loses output, never the agent.
                            Err(_) => break,
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
