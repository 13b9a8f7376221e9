//! Repositories inside a worktree, also where git ignores everything: git does not tell of those, and no salvage holds them.
//!
//! Called by: `inspect`, `apply`, `diff`. Must never: follow a link, or take what it could not look into for empty.

use crate::git::Repository;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// About what a removal can delete in half a minute; what holds more is left to a person.
const MOST_ENTRIES: usize = 2_000_000;

/// What a look found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Their paths in the worktree.
    pub(crate) repositories: Vec<Vec<u8>>,
    /// Where it could not look; a sentence for each.
    pub(crate) unseen: Vec<String>,
}

/// Those that hold work or commits of their own, which no commit of the worktree can hold.
pub(crate) fn unsaved(worktree: &Path) -> Found {
    let mut found = look(worktree);
    found.repositories.retain(|path| !is_saved(&worktree.join(OsStr::from_bytes(path))));
    found
}

/// Looks for repositories in the whole worktree, those in others included.
pub(super) fn look(worktree: &Path) -> Found {
    look_at_most(worktree, MOST_ENTRIES)
}

fn look_at_most(worktree: &Path, most: usize) -> Found {
    let mut found = Found::default();
    let mut left = most;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let look = look_into(worktree, &folder, &mut left, &mut folders);
        match look {
            Ok(true) => found.repositories.push(folder.into_os_string().into_vec()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                found.unseen.push(format!("{} cannot be looked into: {error}", folder.display()));
            }
            _ => {}
        }
        if left == 0 {
            found
                .unseen
                .push(format!("more than {most} files, too many to look for repositories among them"));
            break;
        }
    }
    found.repositories.sort();
    found
}

/// Whether this folder is a repository of its own; the folders in it are left to be looked into.
fn look_into(
    worktree: &Path,
    folder: &Path,
    left: &mut usize,
    folders: &mut Vec<PathBuf>,
) -> io::Result<bool> {
    let mut is_repository = false;
    for entry in std::fs::read_dir(worktree.join(folder))? {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name == OsStr::new(".git") {
            // The worktree's own, or an empty folder of that name, holds nothing.
            let empty = kind.is_dir() && std::fs::read_dir(entry.path())?.next().is_none();
            is_repository = !folder.as_os_str().as_bytes().is_empty() && !empty;
        } else if kind.is_dir() {
            folders.push(folder.join(name));
        }
    }
    Ok(is_repository)
}

/// Whether a repository inside has neither changes nor commits that no remote has.
pub(super) fn is_saved(path: &Path) -> bool {
    let Some(inner) = Repository::find(path).filter(|inner| inner.work_tree == path) else { return false };
    let nothing = |args: &[&str]| inner.git(args).is_ok_and(|output| output.is_empty());
    // Not into its submodules, which git would ask with their own configuration: each is looked at for itself.
    nothing(&["status", "--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=dirty"])
        && nothing(&["rev-list", "--max-count=1", "HEAD", "--branches", "--tags", "--not", "--remotes"])
        && nothing(&["for-each-ref", "refs/stash"])
}

#[cfg(test)]
mod tests {
    use super::look_at_most;
    use std::fs::create_dir_all;

    #[test]
    fn repositories_are_found_and_what_is_too_much_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for path in [".git/x", "a/b/.git/objects", "a/empty/.git", "c"] {
            create_dir_all(dir.path().join(path)).unwrap();
        }
        std::fs::write(dir.path().join("c/.git"), "gitdir: /x\n").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let found = look_at_most(dir.path(), 100);
        assert_eq!((found.repositories, found.unseen), (vec![b"a/b".to_vec(), b"c".to_vec()], Vec::new()));
        let found = look_at_most(dir.path(), 3);
        assert!(found.unseen[0].contains("more than 3 files"), "{found:?}");
    }
}
