//! What of a git repository an agent may write: enough to commit, amend and rebase in a linked worktree, and neither hooks
//! nor configuration.
//!
//! Landlock knows only what is allowed, by hierarchy. In a linked worktree that fits: what git writes lies in folders of
//! its own. A main checkout is different: git makes its lock files beside `config` and `hooks`, and all of it lies in the
//! worktree, which is writable as a whole. There hooks and configuration cannot be kept from the agent, and the record
//! says so.
//!
//! An earlier agent may have written the worktree's `.git` file, and so have chosen what counts as its repository. So
//! nothing is allowed for it unless the repository names this worktree, too.

use super::real;
use crate::git::Repository;
use std::path::{Path, PathBuf};

/// Folders of a repository that hold data and nothing that git runs.
const SHARED: [&str; 6] = ["objects", "refs", "logs", "reftable", "lfs", "rr-cache"];
/// A file that names a folder is not longer.
const MAX_BYTES: u64 = 16 << 10;

/// What may be written, and what is to be said about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Git {
    /// Resolved up to the last name.
    pub(super) trees: Vec<PathBuf>,
    pub(super) limit: Option<&'static str>,
}

/// For a worktree of this repository.
pub(super) fn trees(repository: Option<&Repository>, worktree: &Path, dry: bool) -> Git {
    let Some(repository) = repository else { return Git::default() };
    let limit = |limit| Git { trees: Vec::new(), limit: Some(limit) };
    let Some((git_dir, common_dir)) = real(&repository.git_dir).zip(real(&repository.common_dir)) else {
        return limit("repository_read_only");
    };
    if common_dir.starts_with(worktree) {
        return limit("repository_open");
    }
    if !is_linked(&git_dir, &common_dir, &repository.work_tree) {
        return limit("repository_read_only");
    }
    // The first commit of a repository that keeps logs makes the folder.
    if !dry {
        let _there = std::fs::create_dir(common_dir.join("logs"));
    }
    let shared = SHARED.iter().map(|name| common_dir.join(name)).filter(|path| path.is_dir());
    Git { trees: shared.chain([git_dir.clone()]).collect(), limit: None }
}

/// Whether `git_dir` is what `git worktree add` made for this work tree: in `worktrees` of the repository, and naming the
/// work tree's `.git`.
fn is_linked(git_dir: &Path, common_dir: &Path, work_tree: &Path) -> bool {
    let in_repository = git_dir.parent().is_some_and(|parent| parent == common_dir.join("worktrees"));
    let named = || {
        let text = dx_jobdir::read_bounded(&git_dir.join("gitdir"), MAX_BYTES).ok()?;
        let path = PathBuf::from(String::from_utf8(text).ok()?.trim_end());
        // Newer git may write it relative to the git directory.
        real(git_dir.join(path).parent()?)
    };
    in_repository && named().is_some_and(|named| Some(named) == real(work_tree))
}
