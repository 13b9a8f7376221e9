//! The journal file: append-only JSON lines under a lock that is the file itself.
//!
//! The holder of `flock` on it is the only writer; the lock goes with the descriptor from starter to monitor and launcher.
//! Readers never lock. A torn last line is ended by the next writer and skipped by all readers.

use crate::disk::DiskError;
use crate::locked::LockedLines;
use dx_protocol::{Event, JOURNAL_SCHEMA, JOURNAL_VERSION, Record};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// No journal is read beyond this; the monitor's own cap is far below.
const MAX_JOURNAL_BYTES: u64 = 256 << 20;

/// Why a journal tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("there is no journal at {}", .0.display())]
    Missing(PathBuf),
    #[error("the journal {} was written by a newer version ({found}; this program reads {JOURNAL_SCHEMA})", path.display())]
    Newer { path: PathBuf, found: String },
    #[error("the journal {} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// A journal as read.
#[derive(Debug, Clone)]
pub struct Journal {
    /// All readable records, the first is always `created`.
    pub records: Vec<Record>,
    /// Lines that did not parse.
    pub skipped: usize,
}

/// Opens a regular file for reading. A link is refused, not followed; a pipe is refused, not waited for.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Reads a regular file that is not a link, up to `max` bytes.
pub fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(max) as usize);
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads and checks a journal.
pub fn read_journal(path: &Path) -> Result<Journal, JournalError> {
    let bytes = read_bounded(path, MAX_JOURNAL_BYTES).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => JournalError::Missing(path.to_owned()),
        _ => JournalError::Read { path: path.to_owned(), source },
    })?;
    parse(path, &bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Journal, JournalError> {
    let damaged = |why: &str| JournalError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().ok_or_else(|| damaged("it is empty"))?;
    check_version(path, first)?;
    let first: Record =
        serde_json::from_slice(first).map_err(|e| damaged(&format!("its first record: {e}")))?;
    if !matches!(first.event, Event::Created(_)) {
        return Err(damaged("it does not begin with `created`"));
    }
    let mut journal = Journal { records: vec![first], skipped: 0 };
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(record) => journal.records.push(record),
            Err(_) => journal.skipped += 1,
        }
    }
    Ok(journal)
}

/// The version is looked at before the record, so that a newer one is called newer and not damaged.
fn check_version(path: &Path, line: &[u8]) -> Result<(), JournalError> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else { return Ok(()) };
    let event = &value["event"];
    let found = event["schema"].as_str().unwrap_or_default();
    let version = event["version"].as_u64().unwrap_or(0);
    let ours = found.is_empty() || found == JOURNAL_SCHEMA;
    if ours && version <= u64::from(JOURNAL_VERSION) {
        return Ok(());
    }
    Err(JournalError::Newer { path: path.to_owned(), found: format!("{found}, version {version}") })
}

/// The lock holder's hand on a journal.
#[derive(Debug)]
pub struct JournalWriter(LockedLines);

impl JournalWriter {
    /// Makes a new journal and locks it.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        LockedLines::create(path).map(Self)
    }

    /// Takes the lock if it is free. `None` when somebody holds it.
    pub fn try_lock(path: &Path) -> Result<Option<Self>, DiskError> {
        Ok(LockedLines::try_lock(path)?.map(Self))
    }

    /// Takes over an inherited descriptor whose lock is held already.
    pub fn inherited(fd: OwnedFd, path: PathBuf) -> Self {
        Self(LockedLines::inherited(fd, path))
    }

    /// Appends one record; durable kinds are on disk when this returns.
    pub fn append(&self, record: &Record) -> Result<(), DiskError> {
        self.0.append(record, record.event.is_durable())
    }

    /// Bytes in the file.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Reads the journal through the held descriptor, so a removed name does not matter.
    pub fn read(&self) -> Result<Journal, JournalError> {
        let read = |source| JournalError::Read { path: self.path().to_owned(), source };
        parse(self.path(), &self.0.bytes(MAX_JOURNAL_BYTES).map_err(read)?)
    }
}

impl AsFd for JournalWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
