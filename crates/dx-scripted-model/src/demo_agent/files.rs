//! The demo agent's hands: reading and writing below the worktree.
//!
//! What for: the only file access the demo agent has. Called by `demo_agent`. Must never follow a symbolic link, leave
//! the worktree, or touch git's own files. It guards against a model's paths, not against another process that swaps
//! directories at the same moment.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

/// Why a file was not touched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("refused: {0}")]
    Refused(&'static str),
    #[error("failed: {0}")]
    Io(#[from] io::Error),
}

/// Writes a whole file, making the directories above it.
pub(super) fn write(worktree: &Path, path: &str, content: &[u8]) -> Result<(), FileError> {
    let target = resolve(worktree, path, true)?;
    if fs::symlink_metadata(&target).is_ok_and(|found| !found.is_file()) {
        return Err(FileError::Refused("it is not a plain file"));
    }
    // Through a new file beside it: a rename replaces a link and never follows it.
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".dx-demo-{}", std::process::id()));
    let fresh = target.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&fresh)?;
    let done = file.write_all(content).and_then(|()| fs::rename(&fresh, &target));
    if done.is_err() {
        fs::remove_file(&fresh).ok();
    }
    Ok(done?)
}

/// Reads a file, up to a limit.
pub(super) fn read(worktree: &Path, path: &str, limit: u64) -> Result<String, FileError> {
    let target = resolve(worktree, path, false)?;
    if !fs::symlink_metadata(&target)?.is_file() {
        return Err(FileError::Refused("it is not a plain file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(&target)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path below the worktree, after looking at every directory on the way.
fn resolve(worktree: &Path, path: &str, make: bool) -> Result<PathBuf, FileError> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) if name.eq_ignore_ascii_case(".git") => {
                return Err(FileError::Refused("it belongs to git"));
            }
            Component::Normal(name) => parts.push(name),
            _ => return Err(FileError::Refused("it is not below the work tree")),
        }
    }
    let Some(name) = parts.pop() else { return Err(FileError::Refused("it names no file")) };
    let mut directory = worktree.to_owned();
    for part in parts {
        directory.push(part);
        match fs::symlink_metadata(&directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(FileError::Refused("a part of its path is not a plain directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && make => fs::create_dir(&directory)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directory.join(name))
}
