//! Work that git is told to overlook: files that a job recorded as changed, and that an ignore rule covers since. The rule may
//! lie outside of the worktree, where no look at the worktree's own files finds it.
//!
//! Called by [`super`] and by the inspection of worktrees. Must never: follow a link, or take for work what git knows.

use super::{Stamp, stamp_of};
use crate::git::stands_at;
use std::collections::BTreeMap;
use std::path::Path;

/// Those of the recorded paths at which a file or a link still is, with their stamps.
pub(crate) fn still_there<'a>(
    work_tree: &Path,
    recorded: impl IntoIterator<Item = &'a String>,
) -> BTreeMap<Vec<u8>, Stamp> {
    recorded
        .into_iter()
        .filter(|path| {
            stands_at(work_tree, Path::new(path)).is_some_and(|kind| kind.is_file() || kind.is_symlink())
        })
        .map(|path| (path.as_bytes().to_vec(), stamp_of(work_tree, path.as_bytes())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::still_there;

    #[test]
    fn only_files_that_are_really_in_the_worktree_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        for file in ["tree/a/b/file", "tree/top", "outside/file"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("../outside", tree.join("led")).unwrap();
        std::os::unix::fs::symlink("/nowhere", tree.join("link")).unwrap();
        let recorded =
            ["a/b/file", "top", "link", "a/b", "led/file", "../outside/file", "gone", ""].map(str::to_owned);
        let names: Vec<_> = still_there(&tree, &recorded).into_keys().collect();
        assert_eq!(names, [&b"a/b/file"[..], b"link", b"top"]);
    }
}
