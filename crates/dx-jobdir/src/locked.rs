//! A file of JSON lines whose lock is the file itself: only the holder appends, and the lock goes with the descriptor from
//! process to process. A torn last line is ended by the next writer and skipped by all readers.
//!
//! Called by the journals of runs and of waves. Must never decide what a line means.

use crate::disk::{DiskError, DiskFile};
use rustix::fs::FlockOperation;
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The lock holder's hand on the file.
#[derive(Debug)]
pub(crate) struct LockedLines {
    file: DiskFile,
    /// The last append failed halfway, or the file came with a torn line: end it before the next record.
    torn: std::cell::Cell<bool>,
}

impl LockedLines {
    /// Makes a new file and locks it.
    pub(crate) fn create(path: &Path) -> Result<Self, DiskError> {
        let file = DiskFile::create_new(path)?;
        file.lock()?;
        Ok(Self { file, torn: std::cell::Cell::new(false) })
    }

    /// Takes the lock if it is free. `None` when somebody holds it.
    pub(crate) fn try_lock(path: &Path) -> Result<Option<Self>, DiskError> {
        let file = DiskFile::open_append(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self::over(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(failed(path, e)),
        }
    }

    /// Takes over an inherited descriptor whose lock is held already.
    pub(crate) fn inherited(fd: OwnedFd, path: PathBuf) -> Self {
        Self::over(DiskFile::from_fd(fd, path))
    }

    fn over(file: DiskFile) -> Self {
        let len = file.file().metadata().map_or(0, |m| m.len());
        let mut last = [b'\n'];
        let torn = len > 0 && file.file().read_at(&mut last, len - 1).is_ok() && last[0] != b'\n';
        Self { file, torn: std::cell::Cell::new(torn) }
    }

    /// Appends one record; with `sync` it is on disk when this returns.
    pub(crate) fn append(&self, record: &impl Serialize, sync: bool) -> Result<(), DiskError> {
        let mut line = Vec::with_capacity(256);
        if self.torn.get() {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record).map_err(|e| DiskError {
            op: "append to",
            path: self.file.path().to_owned(),
            source: e.into(),
        })?;
        line.push(b'\n');
        self.torn.set(true);
        self.file.append(&line)?;
        self.torn.set(false);
        if sync {
            self.file.sync_data()?;
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.file.file().metadata().map_or(0, |m| m.len())
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file's first bytes through the held descriptor, so a removed name does not matter.
    pub(crate) fn bytes(&self, most: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len().min(most) as usize];
        self.file.file().read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl AsFd for LockedLines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn failed(path: &Path, errno: rustix::io::Errno) -> DiskError {
    DiskError { op: "lock", path: path.to_owned(), source: errno.into() }
}
