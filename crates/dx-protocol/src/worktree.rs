//! The documents of worktrees: made, listed, salvaged, removed; and of bringing a job's work home.

use crate::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `worktree create --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorktreeDocument {
    pub schema: String,
    pub beads: String,
    pub path: String,
    pub branch: String,
    /// The commit it started from.
    pub base: String,
    /// The main checkout, or the folder of a bare repository.
    pub repo: String,
    /// `false` when it was there already.
    pub created: bool,
    /// The set-up commands that ran.
    pub setup: Vec<String>,
    /// Their output; `null` without any.
    pub setup_log: Option<String>,
    /// Files that were copied into it.
    pub copied: Vec<String>,
    pub remarks: Vec<String>,
}

/// `worktree list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorktreesDocument {
    pub schema: String,
    pub root: String,
    /// On disk, of all of them.
    pub size_bytes: u64,
    /// `worktree.budget` of the configuration.
    pub budget_bytes: Option<u64>,
    pub worktrees: Vec<WorktreeRow>,
}

/// How far the making or removal of a worktree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorktreeState {
    Ready,
    /// It is being made, or that was cut off: `worktree create` finishes it.
    Making,
    /// It is being removed, or that was cut off: `worktree remove` finishes it.
    Removing,
    /// It is there without a record of ours: `worktree create` takes it up.
    Unrecorded,
    /// It is recorded, but the folder or git's part of it is gone.
    Broken,
}

/// One worktree. What cannot be told is `null` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorktreeRow {
    pub beads: String,
    pub repo: String,
    pub path: String,
    pub state: WorktreeState,
    pub branch: String,
    /// The commit it started from.
    pub base: String,
    pub head: String,
    /// Commits that the main checkout's HEAD does not have.
    pub ahead: Option<u64>,
    /// Commits of the main checkout's HEAD that it does not have.
    pub behind: Option<u64>,
    pub dirty: Option<bool>,
    /// On disk.
    pub size_bytes: u64,
    pub age_sec: u64,
    /// The newest job of this id, when it works or worked here.
    pub owner: Option<WorktreeOwner>,
    /// Refs of salvages.
    pub salvages: Vec<String>,
}

/// The job of a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorktreeOwner {
    pub provider: String,
    pub run_instance: String,
    pub state: State,
    pub ended: bool,
}

/// `worktree salvage --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SalvageDocument {
    pub schema: String,
    pub beads: String,
    pub path: String,
    pub branch: String,
    /// The commit that is checked out.
    pub head: String,
    /// In the form of a stash: the worktree, on top of HEAD, the index and, where there are any, the untracked files.
    pub r#ref: String,
    /// The job's branch, when HEAD was elsewhere and does not have all its commits.
    #[serde(default)]
    pub branch_ref: Option<String>,
    pub commit: String,
    /// Files whose staged state differs from HEAD.
    pub staged: u64,
    /// Tracked files that differ from what is staged.
    pub unstaged: u64,
    /// Files that git does not know, and those listed in `copy`.
    pub untracked: u64,
    /// What a ref cannot hold.
    pub not_kept: Vec<String>,
    /// Commands that bring it back.
    pub restore: Vec<String>,
}

/// `worktree remove --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorktreeRemovedDocument {
    pub schema: String,
    pub beads: String,
    pub path: String,
    pub branch: String,
    /// A branch that was made for the worktree goes with it when other refs have its commits.
    pub branch_removed: bool,
    /// Refs that hold the work.
    pub salvaged: Vec<String>,
}

/// `apply --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplyDocument {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub branch: String,
    /// Where the branch was; `null` when there was none.
    pub was: Option<String>,
    pub now: Option<String>,
    /// The branch was made.
    pub created: bool,
    /// `false` when the branch had everything already.
    pub changed: bool,
    /// The main checkout, when the branch is checked out there.
    pub checked_out: Option<String>,
    /// What the branch got, newest first, at most 100.
    pub commits: Vec<String>,
    pub files_changed: Vec<String>,
    pub remarks: Vec<String>,
}

/// `diff --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiffDocument {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub worktree: String,
    /// In the form of `git diff`; empty when nothing changed.
    pub diff: String,
}

/// `gc --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcDocument {
    pub schema: String,
    pub removed: Vec<GcRemoved>,
    pub kept: Vec<GcKept>,
    pub freed_bytes: u64,
}

/// A job whose files were deleted; its lines in the history stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcRemoved {
    pub beads: String,
    pub provider: String,
    pub runs: u64,
    /// A worktree of ours that went too.
    pub worktree: Option<String>,
    pub bytes: u64,
}

/// A job that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcKept {
    pub beads: String,
    pub provider: String,
    pub why: String,
}
