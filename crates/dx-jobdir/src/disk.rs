//! The one layer through which everything is written. Tests record it, cut it (drop what was not synced) and fill it
//! (ENOSPC at the n-th write) through [`crate::faults`]; nothing else in the program may write to the state directory.

use crate::faults;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A failed operation on the state directory.
#[derive(Debug, thiserror::Error)]
#[error("failed to {op} {}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb.
    pub op: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    /// Kind of the I/O error behind it.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

fn fail<T>(op: &'static str, path: &Path, source: impl Into<io::Error>) -> Result<T, DiskError> {
    Err(DiskError { op, path: path.to_owned(), source: source.into() })
}

fn checked<T>(op: &'static str, path: &Path, run: impl FnOnce() -> io::Result<T>) -> Result<T, DiskError> {
    faults::before_write(op).and_then(|()| run()).map_err(|source| DiskError {
        op,
        path: path.to_owned(),
        source,
    })
}

/// An open file with the path it was opened by.
#[derive(Debug)]
pub struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    /// Takes over a descriptor that was opened elsewhere (inherited).
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self { file: File::from(fd), path: path.into() }
    }

    /// Creates a file that must not exist, mode 0600, for appending and reading.
    pub fn create_new(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::CREATE
            | OFlags::EXCL
            | OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW;
        Self::open_with("create", path, flags)
    }

    /// Creates a file that must not exist, for writing at offsets.
    pub fn create_new_fixed(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::open_with("create", path, flags)
    }

    fn open_with(op: &'static str, path: &Path, flags: OFlags) -> Result<Self, DiskError> {
        let file =
            checked(op, path, || Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?)))?;
        faults::trace(op, path, None, 0, &[]);
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens an existing file for appending and reading; creates nothing.
    pub fn open_append(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { file: File::from(fd), path: path.to_owned() }),
            Err(e) => fail("open", path, e),
        }
    }

    /// Opens for appending, creating when absent.
    pub fn open_append_or_create(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Self::open_with("open", path, flags)
    }

    /// Waits for the file's lock, which goes with its descriptor.
    pub fn lock(&self) -> Result<(), DiskError> {
        rustix::fs::flock(&self.file, FlockOperation::LockExclusive).map_err(|errno| DiskError {
            op: "lock",
            path: self.path.clone(),
            source: errno.into(),
        })
    }

    /// Opens an existing file for writing at offsets.
    pub fn open_fixed(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { file: File::from(fd), path: path.to_owned() }),
            Err(e) => fail("open", path, e),
        }
    }

    /// Appends all bytes with as few writes as the kernel allows (one, unless the disk is full).
    pub fn append(&self, bytes: &[u8]) -> Result<(), DiskError> {
        checked("append to", &self.path, || io::Write::write_all(&mut &self.file, bytes))?;
        faults::trace("append", &self.path, None, 0, bytes);
        Ok(())
    }

    /// Writes all bytes at the offset.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        checked("write to", &self.path, || self.file.write_all_at(bytes, offset))?;
        faults::trace("write_at", &self.path, None, offset, bytes);
        Ok(())
    }

    /// Reserves space, so that later writes below `len` cannot fail for a full disk. File systems without `fallocate`
    /// get zeros written.
    pub fn preallocate(&self, len: u64) -> Result<(), DiskError> {
        checked("reserve space for", &self.path, || {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
                Ok(()) => Ok(()),
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                    self.file.write_all_at(&vec![0; len as usize], 0)
                }
                Err(e) => Err(e.into()),
            }
        })?;
        faults::trace("preallocate", &self.path, None, len, &[]);
        Ok(())
    }

    /// fdatasync.
    pub fn sync_data(&self) -> Result<(), DiskError> {
        checked("sync", &self.path, || self.file.sync_data())?;
        faults::trace("sync_data", &self.path, None, 0, &[]);
        Ok(())
    }

    /// The standard file behind it, for reading.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up the path and keeps the descriptor.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }
}

impl AsFd for DiskFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes a directory's entries durable.
pub fn sync_dir(path: &Path) -> Result<(), DiskError> {
    checked("sync directory", path, || {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::fsync(fd)?)
    })?;
    faults::trace("sync_dir", path, None, 0, &[]);
    Ok(())
}

/// Makes everything of the file system that a folder is on durable, also what other programs wrote there.
pub fn sync_filesystem(folder: &Path) -> Result<(), DiskError> {
    checked("sync the file system of", folder, || {
        let fd =
            rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::syncfs(fd)?)
    })?;
    faults::trace("sync_filesystem", folder, None, 0, &[]);
    Ok(())
}

/// Makes a directory, mode 0700. `Ok(false)` when it is there already.
pub fn make_dir(path: &Path) -> Result<bool, DiskError> {
    let made = checked("make directory", path, || match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    })?;
    faults::trace("make_dir", path, None, 0, &[]);
    Ok(made)
}

/// Writes a file that must not exist. It may be seen half written: for folders that nobody looks into yet.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    DiskFile::create_new(path)?.append(bytes)
}

/// Publishes a view: written beside and renamed over, so that readers see the old or the new one. Not synced: views are
/// rebuilt from the journal.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    replace_with(path, bytes, |_| Ok(()))?;
    faults::trace("replace", path, None, 0, bytes);
    Ok(())
}

/// As [`replace`], and the content is durable before it has the name. The name is durable with its folder ([`sync_dir`]).
pub fn replace_synced(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    replace_with(path, bytes, File::sync_data)?;
    faults::trace("replace_synced", path, None, 0, bytes);
    Ok(())
}

/// As [`replace`], and it can be run by its user.
pub fn replace_program(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    replace_with(path, bytes, |file| file.set_permissions(Permissions::from_mode(0o700)))?;
    faults::trace("replace_program", path, None, 0, bytes);
    Ok(())
}

fn replace_with(
    path: &Path,
    bytes: &[u8],
    settle: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), DiskError> {
    let temp = temporary(path);
    checked("write", path, || {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(&temp, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file
            .write_all_at(bytes, 0)
            .and_then(|()| settle(&file))
            .and_then(|()| std::fs::rename(&temp, path));
        if written.is_err() {
            let _gone = std::fs::remove_file(&temp);
        }
        written
    })
}

/// Gives an existing file a second name; fails when the name is taken.
pub fn link(from: &Path, to: &Path) -> Result<(), DiskError> {
    checked("link", to, || std::fs::hard_link(from, to))?;
    faults::trace("link", from, Some(to), 0, &[]);
    Ok(())
}

/// Gives an existing file a second name, taking the name from whatever had it.
pub fn link_over(from: &Path, to: &Path) -> Result<(), DiskError> {
    let temp = temporary(to);
    checked("link", to, || {
        match std::fs::hard_link(from, to) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let _stale = std::fs::remove_file(&temp);
        std::fs::hard_link(from, &temp)?;
        std::fs::rename(&temp, to)?;
        // The kernel leaves both names when `to` is the same file already.
        let _gone = std::fs::remove_file(&temp);
        Ok(())
    })?;
    faults::trace("link_over", from, Some(to), 0, &[]);
    Ok(())
}

/// Renames within the state directory.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    checked("rename", from, || std::fs::rename(from, to))?;
    faults::trace("rename", from, Some(to), 0, &[]);
    Ok(())
}

/// Removes a file; absent is fine.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    checked("remove", path, || match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    })?;
    faults::trace("remove", path, None, 0, &[]);
    Ok(())
}

/// Removes a run's directory that never became a run.
pub fn remove_dir_all(path: &Path) -> Result<(), DiskError> {
    checked("remove", path, || std::fs::remove_dir_all(path))?;
    faults::trace("remove_dir_all", path, None, 0, &[]);
    Ok(())
}

/// Name beside `path` that only this process uses.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp-{}", std::process::id()))
}
