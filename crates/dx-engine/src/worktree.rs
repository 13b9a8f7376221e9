//! Worktrees for jobs: `<root>/<id>/<repo>`, each with a record of ours beside it. Making one, listing, keeping its work as
//! a ref, removing it.
//!
//! Two locks: that of a worktree's folder `<root>/<id>` for as long as something is done to it, and that of the
//! repository's common directory while one is registered there. Git is called by the recorded paths. Must never lose work
//! that is not in a ref.

mod branch_ref;
mod copy;
mod create;
pub(crate) mod disk_use;
mod inspect;
mod list;
pub(crate) mod lock;
pub(crate) mod made;
mod nested;
mod project;
mod register;
mod remove;
pub(crate) mod salvage;
pub(crate) mod setup;

pub(crate) use branch_ref::PATIENT;
pub(crate) use create::{Ready, Wish, create, is_branch_name, place, repository, undo_unused};
pub(crate) use disk_use::of as disk_use_of;
pub(crate) use inspect::{operation, paths};
pub(crate) use lock::Lock;
pub(crate) use made::Place;
pub(crate) use nested::{Found as Nested, unsaved as unsaved_inside};
pub(crate) use remove::{Keep, Unsaved, remove_saved, stranger};
pub(crate) use salvage::{commit, quoted};

use crate::Engine;
use crate::api::WorktreeRequest;
use crate::error::EngineError;
use crate::git::Repository;
use dx_protocol::{BeadsId, WorktreeDocument};
use std::path::{Path, PathBuf};

impl Engine {
    /// Makes a worktree, or answers with the one that is there.
    pub fn worktree_create(&self, request: &WorktreeRequest) -> Result<WorktreeDocument, EngineError> {
        let progress = |what: &str| self.progress(what);
        let ready = create(&Wish {
            beads: &request.beads,
            repo: &request.repo,
            base: request.base.as_deref(),
            branch: request.branch.as_deref(),
            places: &self.places()?,
            sandbox: &self.sandbox_in(&request.repo)?,
            progress: &progress,
            halt: None,
        })?;
        let Ready { made, place, .. } = &ready;
        let set_up = !made.setup.is_empty();
        Ok(WorktreeDocument {
            schema: "dx-runner/worktree/1".to_owned(),
            beads: made.beads.to_string(),
            path: place.path().display().to_string(),
            branch: made.branch.clone(),
            base: made.base.clone(),
            repo: made.repo.clone(),
            created: ready.fresh,
            setup: made.setup.clone(),
            setup_log: set_up.then(|| place.setup_log().display().to_string()),
            copied: made.copied.iter().map(|copied| copied.path.clone()).collect(),
            remarks: ready.remarks.clone(),
        })
    }
}

/// The text of a path; one that is not UTF-8 cannot be recorded and is refused before anything is made.
pub(crate) fn utf8(path: &Path) -> Result<&str, EngineError> {
    path.to_str().ok_or_else(|| EngineError::PathNotUtf8(path.to_owned()))
}

/// The commit that brought a job's work onto a branch, or could not for conflicts.
pub(crate) fn apply_ref(beads: &BeadsId) -> String {
    format!("refs/dx-runner/apply/{}", salvage::ref_part(beads))
}

/// The user's own checkout: what `.dx-runner.toml` is read from, and the branch that work is compared with. `None` for a bare
/// repository. A linked worktree is never it: that may be an agent's.
pub(crate) fn main_checkout(repository: &Repository) -> Option<PathBuf> {
    if repository.git_dir == repository.common_dir {
        return (repository.work_tree != repository.common_dir).then(|| repository.work_tree.clone());
    }
    let common = &repository.common_dir;
    let parent = common.file_name().is_some_and(|name| name == ".git").then(|| common.parent()).flatten();
    parent.map(Path::to_owned)
}
