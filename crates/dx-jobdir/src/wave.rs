//! The files of a wave: its folder, its journal, its prompts, and the request to cancel it.
//!
//! Called by the engine. Must never start anything, or decide what a record means.

use crate::disk::{self, DiskError, DiskFile};
use crate::journal::{JournalError, read_bounded};
use crate::layout::StateDir;
use crate::locked::LockedLines;
use dx_protocol::{BeadsId, WAVE_JOURNAL_SCHEMA, WAVE_JOURNAL_VERSION, WaveEvent, WaveRecord};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// No journal is read beyond this.
const MAX_BYTES: u64 = 256 << 20;

/// The files of one wave.
#[derive(Debug, Clone)]
pub struct WavePaths {
    dir: PathBuf,
}

impl WavePaths {
    /// A wave of this id; an id that is no plain name has none.
    pub fn of(state: &StateDir, wave_id: &str) -> Option<Self> {
        let _plain: BeadsId = wave_id.parse().ok()?;
        Some(Self { dir: state.waves_dir().join(wave_id) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// The prompt of an item, until the wave has ended.
    pub fn prompt(&self, item: &BeadsId) -> PathBuf {
        self.dir.join(format!("prompt.{item}"))
    }

    /// The prompt of an item's review.
    pub fn review_prompt(&self, item: &BeadsId) -> PathBuf {
        self.dir.join(format!("review.{item}"))
    }

    /// Its presence asks the coordinator to cancel.
    pub fn cancel(&self) -> PathBuf {
        self.dir.join("cancel")
    }

    /// Writes a new file, synced.
    pub fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
        let file = DiskFile::create_new(path)?;
        file.append(bytes)?;
        file.sync_data()
    }
}

/// Held from the look whether the ids of a new wave are free until its record takes them.
#[derive(Debug)]
pub struct WavesLock {
    _file: DiskFile,
}

impl WavesLock {
    /// Waits for the lock; it is held for moments.
    pub fn take(state: &StateDir) -> Result<Self, DiskError> {
        let file = DiskFile::open_append_or_create(&state.waves_lock())?;
        file.lock()?;
        Ok(Self { _file: file })
    }
}

/// Makes the folder of a new wave: `<name>-<n>` with the first free number, durable with its first record.
pub fn create(state: &StateDir, name: &str) -> Result<(String, WavePaths), DiskError> {
    if disk::make_dir(&state.waves_dir())? {
        disk::sync_dir(state.root())?;
    }
    for number in 1_u32.. {
        let id = format!("{name}-{number}");
        let paths = WavePaths { dir: state.waves_dir().join(&id) };
        if disk::make_dir(paths.dir())? {
            return Ok((id, paths));
        }
    }
    Err(DiskError {
        op: "name a wave below",
        path: state.waves_dir(),
        source: io::Error::other("no number is free"),
    })
}

/// All waves that have a folder, unsorted.
pub fn all(state: &StateDir) -> Vec<(String, WavePaths)> {
    let Ok(entries) = std::fs::read_dir(state.waves_dir()) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    named.filter_map(|id| WavePaths::of(state, &id).map(|paths| (id, paths))).collect()
}

/// The coordinator's hand on a wave: the lock, and the right to append.
#[derive(Debug)]
pub struct WaveWriter(LockedLines);

impl WaveWriter {
    /// Makes the journal and locks it.
    pub fn create(paths: &WavePaths) -> Result<Self, DiskError> {
        LockedLines::create(&paths.journal()).map(Self)
    }

    /// Takes the lock if it is free.
    pub fn try_lock(paths: &WavePaths) -> Result<Option<Self>, DiskError> {
        Ok(LockedLines::try_lock(&paths.journal())?.map(Self))
    }

    /// Takes over an inherited descriptor whose lock is held already.
    pub fn inherited(fd: OwnedFd, paths: &WavePaths) -> Self {
        Self(LockedLines::inherited(fd, paths.journal()))
    }

    /// Appends one record; durable kinds are on disk when this returns.
    pub fn append(&self, record: &WaveRecord) -> Result<(), DiskError> {
        self.0.append(record, record.event.is_durable())
    }
}

impl AsFd for WaveWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a wave's journal; lines that do not parse are skipped.
pub fn read(paths: &WavePaths) -> Result<Vec<WaveRecord>, JournalError> {
    let path = paths.journal();
    let bytes = read_bounded(&path, MAX_BYTES).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => JournalError::Missing(path.clone()),
        _ => JournalError::Read { path: path.clone(), source },
    })?;
    let damaged = |why: &str| JournalError::Damaged { path: path.clone(), why: why.to_owned() };
    let mut lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let first = lines.next().ok_or_else(|| damaged("it is empty"))?;
    let value: serde_json::Value =
        serde_json::from_slice(first).map_err(|e| damaged(&format!("its first record: {e}")))?;
    let (schema, version) = (value["event"]["schema"].as_str(), value["event"]["version"].as_u64());
    if schema.is_some_and(|schema| schema != WAVE_JOURNAL_SCHEMA)
        || version.is_some_and(|version| version > u64::from(WAVE_JOURNAL_VERSION))
    {
        let found = format!("{}, version {}", schema.unwrap_or("-"), version.unwrap_or(0));
        return Err(JournalError::Newer { path: path.clone(), found });
    }
    let first: WaveRecord =
        serde_json::from_value(value).map_err(|e| damaged(&format!("its first record: {e}")))?;
    if !matches!(first.event, WaveEvent::Created(_)) {
        return Err(damaged("it does not begin with `created`"));
    }
    let mut records = vec![first];
    records.extend(lines.filter_map(|line| serde_json::from_slice::<WaveRecord>(line).ok()));
    Ok(records)
}
