//! What differs inside submodules from what they have checked out. Git would tell of it with the rest, and would run for
//! that what a submodule's own configuration names; so each is looked at as a repository of its own, as safely as the others.
//!
//! Called by [`super::Snapshot::take`]. Must never: follow a link, or look into a repository that is not the submodule's own.

use super::{Snapshot, Stamp};
use crate::error::EngineError;
use crate::git::Repository;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Submodules of submodules are not looked into beyond this.
const MAX_DEPTH: usize = 8;

/// The submodules that are filled, and the dirty paths in them, all by their paths in the worktree.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pub(super) submodules: BTreeSet<Vec<u8>>,
    pub(super) dirty: BTreeMap<Vec<u8>, Stamp>,
}

impl Inside {
    pub(super) fn look(repository: &Repository, depth: usize) -> Result<Self, EngineError> {
        let mut inside = Self::default();
        // Without this file git itself knows of none.
        if depth > MAX_DEPTH || !repository.work_tree.join(".gitmodules").exists() {
            return Ok(inside);
        }
        let list = repository.git(&["ls-files", "--stage", "-z"])?;
        for entry in list.split(|byte| *byte == 0).filter(|entry| entry.starts_with(b"160000 ")) {
            let Some(path) = entry.splitn(2, |byte| *byte == b'\t').nth(1) else { continue };
            let Some(own) = own_repository(repository, &repository.work_tree.join(OsStr::from_bytes(path)))
            else {
                continue;
            };
            let below = |inner: &[u8]| [path, b"/", inner].concat();
            let found = Snapshot::take_at(&own, depth + 1)?;
            inside.dirty.extend(found.dirty.into_iter().map(|(inner, stamp)| (below(&inner), stamp)));
            inside.submodules.extend(found.submodules.iter().map(|inner| below(inner)));
            inside.submodules.insert(path.to_vec());
        }
        Ok(inside)
    }
}

/// The submodule at a path: one whose git folder is where git puts it, in the repository's own or in itself.
fn own_repository(around: &Repository, path: &Path) -> Option<Repository> {
    let is_folder = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let found = Repository::find(path).filter(|found| is_folder && found.work_tree == path)?;
    let git_dir = found.git_dir.canonicalize().ok()?;
    let homes = [around.common_dir.join("modules"), around.git_dir.join("modules"), path.to_owned()];
    let at_home =
        homes.iter().filter_map(|home| home.canonicalize().ok()).any(|home| git_dir.starts_with(home));
    // A folder with another common directory is a linked worktree, and no submodule.
    (at_home && found.common_dir == found.git_dir).then_some(found)
}
