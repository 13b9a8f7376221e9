//! Answers of agents' own programs that are kept as long as nothing changes that they depend on.
//!
//! Called by providers that ask a program while a start is prepared. Must never: keep what a variable holds in a form that
//! can be read back, or take a file for unchanged by its name alone.

use super::Wish;
use crate::prompt::sha256_hex;
use dx_jobdir::disk::{self, DiskError};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An answer is asked for again after this, whatever it depends on.
const MOST_AGE: Duration = Duration::from_hours(24);
/// A longer file is not read to its end.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// No more entries of a folder count.
const MAX_ENTRIES: usize = 2000;

/// What an answer depends on.
#[derive(Debug, Default)]
pub(super) struct Grounds(String);

impl Grounds {
    /// A word, such as the question itself.
    pub(super) fn word(&mut self, name: &str, value: &str) {
        let _fits = writeln!(self.0, "{name}={value}");
    }

    /// A file, by what changes when it does.
    pub(super) fn file(&mut self, path: &Path) {
        self.0 += &stamped(path);
    }

    /// All files below a folder, each as [`Self::file`].
    pub(super) fn folder(&mut self, path: &Path) {
        for file in files_below(path) {
            self.file(&file);
        }
    }

    /// A file of a project, by what it says: each job may have a worktree of its own.
    pub(super) fn content(&mut self, base: &Path, relative: &Path) {
        if let Ok(content) = dx_jobdir::read_bounded(&base.join(relative), MAX_FILE_BYTES) {
            self.word(&relative.display().to_string(), &sha256_hex(&content));
        }
    }

    /// All files below a folder of a project, each as [`Self::content`].
    pub(super) fn contents(&mut self, base: &Path, relative: &Path) {
        for file in files_below(&base.join(relative)) {
            self.content(base, file.strip_prefix(base).unwrap_or(&file));
        }
    }

    /// The job's variables whose names are meant.
    pub(super) fn variables(&mut self, wish: &Wish<'_>, is_meant: impl Fn(&str) -> bool) {
        for (name, value) in wish.env {
            let name = name.to_string_lossy();
            if is_meant(&name) {
                self.word(&name, &value.to_string_lossy());
            }
        }
    }

    /// Where the answer is kept. Hashed: no value of the environment can be read back from the name.
    pub(super) fn place(&self, cache_dir: &Path, question: &str) -> PathBuf {
        cache_dir.join(format!("{question}-{}", &sha256_hex(self.0.as_bytes())[..24]))
    }
}

/// A kept answer, unless it is too old.
pub(super) fn recall(place: &Path, age: Option<Duration>) -> Option<String> {
    let written = std::fs::metadata(place).ok()?.modified().ok()?;
    // One from the future, by a clock that was set, is not known to be young.
    if written.elapsed().ok()? > age.unwrap_or(MOST_AGE) {
        return None;
    }
    std::fs::read_to_string(place).ok()
}

/// Whether it was a yes before; else asks, and keeps a yes. A no is asked again: what would mend it may lie where nobody
/// looks.
pub(super) fn yes<E: From<DiskError>>(
    wish: &Wish<'_>,
    grounds: &Grounds,
    question: &str,
    ask: impl FnOnce() -> Result<bool, E>,
) -> Result<(), E> {
    let cache_dir = wish.state.cache_dir();
    let place = grounds.place(&cache_dir, question);
    if recall(&place, wish.list_age).is_some() {
        return Ok(());
    }
    if ask()? {
        disk::make_dir(&cache_dir)?;
        disk::replace(&place, b"yes\n")?;
    }
    Ok(())
}

/// A file's name with what changes when the file does.
pub(super) fn stamped(path: &Path) -> String {
    let stamp = std::fs::metadata(path).map_or_else(
        |_| "-".to_owned(),
        |m| format!("{}:{}:{}:{}", m.dev(), m.ino(), m.size(), m.mtime() * 1_000_000_000 + m.mtime_nsec()),
    );
    format!("{}={stamp}\n", path.display())
}

/// All files below a folder, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                break;
            }
            // A link to a folder is not followed: it may lead round in a circle.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
}
