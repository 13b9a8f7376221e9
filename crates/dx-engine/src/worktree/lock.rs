//! The locks under which worktrees are made and removed: file locks, so that they go with the process that holds them.

use crate::error::EngineError;
use dx_jobdir::DiskError;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock on a folder or file; it goes with the value.
#[derive(Debug)]
pub(crate) struct Lock {
    fd: OwnedFd,
    path: PathBuf,
}

fn failed(op: &'static str, path: &Path, source: impl Into<std::io::Error>) -> EngineError {
    EngineError::Disk(DiskError { op, path: path.to_owned(), source: source.into() })
}

fn flock(fd: &OwnedFd, path: &Path, how: FlockOperation) -> Result<(), EngineError> {
    loop {
        match rustix::fs::flock(fd, how) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(|e| failed("lock", path, e)),
        }
    }
}

impl Lock {
    /// The folder of a worktree, made when it is not there.
    pub(crate) fn folder(path: &Path) -> Result<Self, EngineError> {
        loop {
            std::fs::create_dir_all(path).map_err(|e| failed("make directory", path, e))?;
            if let Some(lock) = Self::existing(path)? {
                return Ok(lock);
            }
        }
    }

    /// The folder of a worktree; `None` when there is none.
    pub(crate) fn existing(path: &Path) -> Result<Option<Self>, EngineError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed("open", path, e)),
        };
        flock(&fd, path, FlockOperation::LockExclusive)?;
        // Whoever held it may have removed the folder, and somebody else made another one.
        let locked = rustix::fs::fstat(&fd).map_err(|e| failed("look at", path, e))?;
        let same = std::fs::symlink_metadata(path).is_ok_and(|now| now.ino() == locked.st_ino);
        Ok(same.then(|| Self { fd, path: path.to_owned() }))
    }

    /// The registrations of a repository.
    pub(crate) fn repository(common_dir: &Path) -> Result<Self, EngineError> {
        Self::file(common_dir.join("dx-runner-worktrees.lock"))
    }

    /// The turn to bring work onto a branch of a repository, from the look at it until it has moved.
    pub(crate) fn merging(common_dir: &Path) -> Result<Self, EngineError> {
        Self::file(common_dir.join("dx-runner-merge.lock"))
    }

    fn file(path: PathBuf) -> Result<Self, EngineError> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| failed("lock", &path, e))?;
        flock(&fd, &path, FlockOperation::LockExclusive)?;
        Ok(Self { fd, path })
    }

    /// Lets others hold it too, none of them exclusively.
    pub(crate) fn share(&self) -> Result<(), EngineError> {
        flock(&self.fd, &self.path, FlockOperation::LockShared)
    }

    /// Takes it back from being shared; `false` when somebody else holds it too. Then it may not be held at all any more.
    pub(crate) fn try_exclusive(&self) -> bool {
        rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
