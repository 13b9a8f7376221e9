//! Bringing the files of a checkout from one commit to another, all of them or none. Git writes the files one by one and its
//! index last; when it fails or is killed in between, what it wrote is put back here. When this process is killed too, a note
//! in the repository is left, and the next apply tells how to put it back.
//!
//! Called by [`super::target`], which has looked that nothing there is the user's. Must never change a path that is the same
//! in both commits.

use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::worktree::{paths, quoted};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

/// Beside the repository's other files: no agent in a sandbox can write there.
const NOTE: &str = "dx-runner-apply";
const MAX_NOTE: u64 = 4096;

/// The note that files are being changed; it goes when they are whole again.
pub(super) struct Note(PathBuf);

impl Note {
    fn path(checkout: &Repository) -> PathBuf {
        checkout.common_dir.join(NOTE)
    }

    /// Refuses when an earlier apply left one: the checkout may be half changed.
    pub(super) fn refuse_left(checkout: &Repository) -> Result<(), EngineError> {
        let path = Self::path(checkout);
        let Ok(text) = dx_jobdir::read_bounded(&path, MAX_NOTE) else { return Ok(()) };
        let at = String::from_utf8_lossy(&text).trim().to_owned();
        let (repo, note) = (checkout.work_tree.display().to_string(), path.display().to_string());
        let (repo, note, at) = (quoted(&repo), quoted(&note), quoted(&at));
        let lock = quoted(&checkout.git_dir.join("index.lock").display().to_string());
        let put_back = format!(
            "rm -f {lock}; git -C {repo} reset --hard {at} && rm {note}; files that git status shows as new then are of the \
             job's work or yours"
        );
        Err(EngineError::ApplyCutOff { path: checkout.work_tree.clone(), put_back })
    }

    fn leave(checkout: &Repository, at: &str) -> Result<Self, EngineError> {
        let path = Self::path(checkout);
        std::fs::write(&path, format!("{at}\n"))
            .map_err(|source| EngineError::Output { path: path.clone(), source })?;
        Ok(Self(path))
    }

    fn remove(self) -> Result<(), EngineError> {
        std::fs::remove_file(&self.0).map_err(|source| EngineError::Output { path: self.0, source })
    }
}

/// Changes the files and the index, and runs `commit` then. Nothing has changed when this fails.
pub(super) fn change(
    checkout: &Repository,
    at: &str,
    new: &str,
    commit: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=A", at, new];
    let there = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    let full = |path: &[u8]| checkout.work_tree.join(OsStr::from_bytes(path));
    let added = Call::new(checkout, &args).run()?;
    // Git refuses to write over the others.
    let added: Vec<PathBuf> = paths(&added).map(full).filter(|path| !there(path)).collect();
    let note = Note::leave(checkout, at)?;
    let output = Call::new(checkout, &["read-tree", "-m", "-u", at, new]).output()?;
    let failed = if output.status.success() {
        commit().err()
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let files = said.lines().filter_map(|l| l.strip_prefix('\t')).map(|l| l.trim().to_owned());
        let mut work: Vec<String> = files.collect();
        if work.is_empty() {
            work.extend(said.trim().lines().map(|l| l.trim_start_matches("error: ").to_owned()));
        }
        Some(match output.status.signal() {
            // It had no time to say anything.
            Some(signal) => EngineError::Git {
                command: "git read-tree -m -u".to_owned(),
                message: format!("it was ended by signal {signal}; all files are as they were"),
            },
            None => EngineError::TargetDirty { path: checkout.work_tree.clone(), work },
        })
    };
    if let Some(failed) = failed {
        if output.status.signal().is_some() {
            // The lock of a git that is dead.
            let _gone = std::fs::remove_file(checkout.git_dir.join("index.lock"));
        }
        put_back(checkout, at, new, &added)?;
        note.remove()?;
        return Err(failed);
    }
    note.remove()
}

/// The index, the files that `at` has, and none of those that only `new` has and that were not there.
fn put_back(checkout: &Repository, at: &str, new: &str, added: &[PathBuf]) -> Result<(), EngineError> {
    Call::new(checkout, &["read-tree", "-m", at]).run()?;
    let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=a", at, new];
    let changed = Call::new(checkout, &args).run()?;
    if !changed.is_empty() {
        let args = ["checkout-index", "--force", "--quiet", "-u", "-z", "--stdin"];
        Call::new(checkout, &args).stdin(changed).run()?;
    }
    for path in added {
        let _gone = std::fs::remove_file(path);
        let below = |folder: &&Path| folder.starts_with(&checkout.work_tree) && *folder != checkout.work_tree;
        for folder in path.ancestors().skip(1).take_while(below) {
            // Git makes folders for files only; one that holds something stays.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    Ok(())
}
