//! A private folder for temporary indexes. Must never lie where an agent could write, or be left behind.

use crate::error::EngineError;
use rustix::fs::Mode;
use std::path::{Path, PathBuf};

/// It goes with the value.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self, EngineError> {
        let path = std::env::temp_dir().join(format!("dx-runner-{}", uuid::Uuid::now_v7()));
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) => Ok(Self(path)),
            Err(e) => Err(EngineError::Io { what: "make a temporary folder", source: e.into() }),
        }
    }

    pub(crate) fn index(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A copy of an index.
    pub(crate) fn copy(&self, index: &Path, name: &str) -> std::io::Result<PathBuf> {
        let copy = self.index(name);
        copy_index(index, &copy).map(|()| copy)
    }
}

/// A copy of an index, with its time: by that git knows which entries were written in the second of their file's last change,
/// and are to be compared by content.
pub(crate) fn copy_index(index: &Path, copy: &Path) -> std::io::Result<()> {
    std::fs::copy(index, copy)?;
    let written = std::fs::metadata(index)?.modified()?;
    std::fs::File::options().write(true).open(copy)?.set_modified(written)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
