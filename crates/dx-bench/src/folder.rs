//! The folder of a run: `manifest.json`, `records.ndjson`, `raw/`, and what is rendered from them.
//!
//! A record is synced before the run goes on, so that a run which is killed goes on behind it. Must never: change a record,
//! or let two processes write one run.

use crate::error::BenchError;
use dx_engine::mask_text;
use dx_jobdir::{DiskError, DiskFile, disk};
use dx_protocol::{BenchDocument, BenchManifest, BenchRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MANIFEST: &str = "manifest.json";
const RECORDS: &str = "records.ndjson";
const GOVERNANCE: &str = "governance_report.json";
const LOCK: &str = ".lock";
/// Far above what any run writes.
const MAX_BYTES: u64 = 1 << 30;

/// A run's folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held while records are written.
    lock: Option<File>,
}

impl Folder {
    /// The folder of a run that is to be looked at, be it one that was refused: itself, or its name below `out`.
    pub fn find(name: &Path, out: &Path) -> Result<Self, BenchError> {
        let is_run = |path: &PathBuf| [MANIFEST, GOVERNANCE].iter().any(|name| path.join(name).is_file());
        let found = [name.to_owned(), out.join(name)].into_iter().find(is_run);
        let path = found.ok_or_else(|| BenchError::NotFound(name.to_owned()))?;
        Ok(Self { path, lock: None })
    }

    /// Makes the folder, or takes up the one that is there, and keeps others from it.
    pub(crate) fn take(path: PathBuf, run_id: &str) -> Result<Self, BenchError> {
        make(&path.join("raw"))?;
        let lock = lock(&path, run_id)?;
        Ok(Self { path, lock: Some(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces a file, whole or not at all. What is secret in it is masked, as on stdout.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), BenchError> {
        replace(&self.file(name), text)
    }

    pub(crate) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), BenchError> {
        replace_json(&self.file(name), value)
    }

    /// The plan; `None` for a run that was not begun.
    pub fn manifest(&self) -> Result<Option<BenchManifest>, BenchError> {
        let path = self.file(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        read(&path).map(Some)
    }

    pub(crate) fn begin(&self, manifest: &BenchManifest) -> Result<(), BenchError> {
        self.write_json(MANIFEST, manifest)
    }

    /// What the run ended with, or what refused it; `None` when neither has come.
    pub(crate) fn ending(&self) -> Result<Option<BenchDocument>, BenchError> {
        let path = self.file(GOVERNANCE);
        if !path.exists() {
            return Ok(None);
        }
        read(&path).map(Some)
    }

    pub(crate) fn end(&self, document: &BenchDocument) -> Result<(), BenchError> {
        self.write_json(GOVERNANCE, document)
    }

    /// Takes back what an earlier call ended with, because the run goes on.
    pub(crate) fn go_on(&self) -> Result<(), BenchError> {
        let path = self.file(GOVERNANCE);
        disk::remove(&path).map_err(|e| failed("remove", &path, e))
    }

    /// All records, the last of each job. A line that was cut off is none.
    pub fn records(&self) -> Result<Vec<BenchRecord>, BenchError> {
        let path = self.file(RECORDS);
        let bytes = match dx_jobdir::read_bounded(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(BenchError::io("read", &path, error)),
        };
        let mut records: Vec<BenchRecord> = Vec::new();
        for record in bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
        {
            let record: BenchRecord = record;
            records.retain(|other| other.job != record.job);
            records.push(record);
        }
        Ok(records)
    }

    pub(crate) fn append(&self, record: &BenchRecord) -> Result<(), BenchError> {
        debug_assert!(self.lock.is_some());
        let path = self.file(RECORDS);
        let line = serde_json::to_string(record).map_err(|e| BenchError::Argument(e.to_string()))?;
        let line = format!("{}\n", mask_text(&line));
        let append = || {
            let file = DiskFile::open_append_or_create(&path)?;
            // Behind a line that was cut off.
            if !ends_a_line(&path) {
                file.append(b"\n")?;
            }
            file.append(line.as_bytes())?;
            file.sync_data()
        };
        append().map_err(|e| failed("write", &path, e))
    }
}

/// Every file of a run and of the phases but the records: whole or not at all, and without secrets.
fn replace(path: &Path, text: &str) -> Result<(), BenchError> {
    disk::replace_synced(path, mask_text(text).as_bytes()).map_err(|e| failed("write", path, e))
}

pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<(), BenchError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| BenchError::Argument(e.to_string()))?;
    replace(path, &format!("{text}\n"))
}

/// Makes what is missing of a folder, for its user only: it may be the first of the state directory. Where that cannot be done,
/// `--out` names another one.
pub(crate) fn make(folder: &Path) -> Result<(), BenchError> {
    let mut missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    while let Some(folder) = missing.pop() {
        disk::make_dir(folder).map_err(|error| {
            BenchError::Argument(format!("the folder {} cannot be made: {}", folder.display(), error.source))
        })?;
    }
    Ok(())
}

/// A child of whoever has just let go, or was killed, holds the lock until its program begins.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Keeps other processes from a folder as long as the file is open.
pub(crate) fn lock(folder: &Path, name: &str) -> Result<File, BenchError> {
    let file = folder.join(LOCK);
    let lock = File::options().create(true).append(true).open(&file);
    let lock = lock.map_err(|e| BenchError::io("open", &file, e))?;
    for _ in 0..LOCK_TRIES {
        if lock.try_lock().is_ok() {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(BenchError::Busy(name.to_owned()))
}

fn ends_a_line(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let last = || -> std::io::Result<u8> {
        let mut file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(b'\n');
        }
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte).map(|()| byte[0])
    };
    // One that cannot be read tells its own error when it is written.
    last().unwrap_or(b'\n') == b'\n'
}

fn failed(what: &'static str, path: &Path, error: DiskError) -> BenchError {
    BenchError::io(what, path, error.source)
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, BenchError> {
    let bytes =
        dx_jobdir::read_bounded(path, MAX_BYTES).map_err(|source| BenchError::io("read", path, source))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| BenchError::Damaged { path: path.to_owned(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::Folder;
    use serde_json::{Value, json};

    #[test]
    fn files_hold_no_secret() {
        let out = tempfile::tempdir().unwrap();
        let folder = Folder::take(out.path().join("r"), "r").unwrap();
        let secret = format!("ghp_{}", "a1".repeat(18));
        folder.write_json("a.json", &json!({ "version": format!("1-{secret}") })).unwrap();
        folder.write("a.md", &format!("branch {secret}\n")).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.file(name)).unwrap();
        assert!(!read("a.json").contains(&secret) && !read("a.md").contains(&secret));
        let value: Value = serde_json::from_str(&read("a.json")).unwrap();
        assert!(value["version"].as_str().unwrap().starts_with("1-"), "{value}");
    }
}
