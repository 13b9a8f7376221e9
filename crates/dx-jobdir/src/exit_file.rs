//! The exit file: preallocated slots that launcher, monitor and guard fill without asking anybody.
//!
//! Writing a slot allocates no disk space. A slot that does not parse counts as empty.

use crate::disk::{self, DiskError, DiskFile};
use dx_protocol::{ExitFacts, SLOT_BYTES, SLOTS, Slot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// How often a slot is written before its writer gives up, and the pause between.
const WRITE_TRIES: usize = 20;
const WRITE_PAUSE: Duration = Duration::from_millis(10);

/// An exit file open for writing slots.
#[derive(Debug)]
pub struct ExitFile {
    file: DiskFile,
}

impl ExitFile {
    /// Makes and reserves the file.
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        let file = DiskFile::create_new_fixed(path)?;
        file.preallocate((SLOTS * SLOT_BYTES) as u64)?;
        Ok(Self { file })
    }

    /// Opens an existing one for writing.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        Ok(Self { file: DiskFile::open_fixed(path)? })
    }

    /// Fills a slot. Not synced.
    pub fn write<T: Serialize>(&self, slot: Slot, value: &T) -> Result<(), DiskError> {
        let mut bytes = serde_json::to_vec(value).unwrap_or_default();
        if bytes.len() >= SLOT_BYTES {
            let source = std::io::Error::other("record does not fit its slot");
            return Err(DiskError { op: "write to", path: self.file.path().to_owned(), source });
        }
        bytes.resize(SLOT_BYTES - 1, b' ');
        bytes.push(b'\n');
        // The space is reserved, but copy-on-write file systems may refuse for a moment all the same, and what a slot
        // tells is told nowhere else.
        let mut tries = WRITE_TRIES;
        loop {
            tries -= 1;
            match self.file.write_at((slot as usize * SLOT_BYTES) as u64, &bytes) {
                Err(_) if tries > 0 => std::thread::sleep(WRITE_PAUSE),
                done => return done,
            }
        }
    }

    /// Makes what was written durable, the file's name and its run's name included: `start` syncs neither.
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data()?;
        let mut folders = self.file.path().ancestors().skip(1).take(2);
        folders.try_for_each(disk::sync_dir)
    }

    /// Reads all slots.
    pub fn read(&self) -> ExitFacts {
        let mut bytes = vec![0; SLOTS * SLOT_BYTES];
        let n = std::os::unix::fs::FileExt::read_at(self.file.file(), &mut bytes, 0).unwrap_or(0);
        parse(&bytes[..n])
    }
}

/// Reads the exit file of a run; a missing or damaged one tells nothing.
pub fn read_exit_file(path: &Path) -> ExitFacts {
    crate::journal::read_bounded(path, (SLOTS * SLOT_BYTES) as u64)
        .map(|bytes| parse(&bytes))
        .unwrap_or_default()
}

fn parse(bytes: &[u8]) -> ExitFacts {
    fn slot<T: DeserializeOwned>(bytes: &[u8], slot: Slot) -> Option<T> {
        let at = slot as usize * SLOT_BYTES;
        serde_json::from_slice(bytes.get(at..at + SLOT_BYTES)?.trim_ascii()).ok()
    }
    ExitFacts {
        launcher: slot(bytes, Slot::Launcher),
        agent: slot(bytes, Slot::Agent),
        exec: slot(bytes, Slot::Exec),
        exits: [
            slot(bytes, Slot::ExitByLauncher),
            slot(bytes, Slot::ExitByMonitor),
            slot(bytes, Slot::ExitByPidfd),
        ],
        swept: slot(bytes, Slot::Swept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::{Exit, ExitRecord, Timestamp, Witness};

    #[test]
    fn slots_are_independent_and_garbage_is_empty() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("exit");
        let file = ExitFile::create(&path).unwrap();
        assert_eq!(read_exit_file(&path), ExitFacts::default());
        let record = ExitRecord {
            exit: Exit::Code(7),
            witness: Witness::Monitor,
            at: Timestamp(5),
            mono_ms: 5,
            cpu_ms: 0,
        };
        file.write(Slot::ExitByMonitor, &record).unwrap();
        assert_eq!(read_exit_file(&path).exit(), Some(&record));
        file.file.write_at((Slot::ExitByLauncher as usize * SLOT_BYTES) as u64, b"{\"exit\":").unwrap();
        assert_eq!(read_exit_file(&path).exit(), Some(&record));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (SLOTS * SLOT_BYTES) as u64);
    }
}
