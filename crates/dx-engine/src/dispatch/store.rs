//! Stored batches: one file each, replaced after each answer, and a lock that tells whether somebody still works on it.
//!
//! Must never: take a batch whose program died for one that runs.

use crate::error::EngineError;
use dx_jobdir::{DiskFile, JournalError, StateDir, disk};
use dx_protocol::BatchDocument;
use std::path::PathBuf;

/// A batch that is worked on.
pub(super) struct Stored {
    pub(super) document: BatchDocument,
    file: PathBuf,
    lock: DiskFile,
}

impl Stored {
    pub(super) fn create(state: &StateDir, document: BatchDocument) -> Result<Self, EngineError> {
        disk::make_dir(&state.batches_dir())?;
        let path = lock_of(state, &document.id);
        let lock = DiskFile::create_new(&path)?;
        lock.file().lock().map_err(|source| disk::DiskError { op: "lock", path, source })?;
        let stored = Self { file: file_of(state, &document.id), document, lock };
        stored.save()?;
        Ok(stored)
    }

    pub(super) fn save(&self) -> Result<(), EngineError> {
        write(&self.file, &self.document)
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        // Who finds no lock file knows that nobody works on the batch.
        let _removed = disk::remove(self.lock.path());
    }
}

fn write(file: &std::path::Path, document: &BatchDocument) -> Result<(), EngineError> {
    let text = serde_json::to_vec(document).map_err(|e| EngineError::Argument(e.to_string()))?;
    Ok(disk::replace_synced(file, &text)?)
}

/// Replaces a batch that nobody works on.
pub(super) fn save(state: &StateDir, document: &BatchDocument) -> Result<(), EngineError> {
    write(&file_of(state, &document.id), document)
}

fn file_of(state: &StateDir, id: &str) -> PathBuf {
    state.batches_dir().join(format!("{id}.json"))
}

fn lock_of(state: &StateDir, id: &str) -> PathBuf {
    state.batches_dir().join(format!("{id}.lock"))
}

/// A batch by its id; `None` when there is none.
pub(super) fn load(state: &StateDir, id: &str) -> Result<Option<BatchDocument>, EngineError> {
    let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let path = file_of(state, id);
    if !plain || !path.is_file() {
        return Ok(None);
    }
    let read = || -> Result<BatchDocument, EngineError> {
        let damaged = |why: String| JournalError::Damaged { path: path.clone(), why };
        let text = std::fs::read(&path).map_err(|error| damaged(error.to_string()))?;
        Ok(serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?)
    };
    let mut document = read()?;
    if document.status == "running" && !is_locked(&lock_of(state, id)) {
        // It may have ended between the two looks: the lock is given back last.
        document = read()?;
        if document.status == "running" {
            super::batch::interrupt(&mut document);
        }
    }
    Ok(Some(document))
}

/// Whether somebody holds the lock; asked with a shared one, which is given back at once.
fn is_locked(path: &std::path::Path) -> bool {
    std::fs::File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// Ids, the oldest first.
pub(super) fn list(state: &StateDir) -> Vec<String> {
    let entries = std::fs::read_dir(state.batches_dir()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut ids: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
    ids.sort();
    ids
}
