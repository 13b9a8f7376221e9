//! Gates: checks that allow or refuse by exact facts and change nothing. `start`, the end of a job and whoever offers a gate
//! by itself call the same functions.
//!
//! Must never: discover a repository at the end of a job (paths come from its record), or write.

mod history;
pub(crate) mod scope;

pub(crate) use history::baseline;

use crate::Engine;
use crate::error::EngineError;
use crate::git::Repository;
use dx_protocol::{GateReport, ReasonCode};
use std::path::Path;

impl Engine {
    /// Whether HEAD of a worktree contains the required commit.
    pub fn baseline_gate(&self, worktree: &Path, required: &str) -> Result<GateReport, EngineError> {
        in_repository(worktree, |repository| history::baseline(repository, required))
    }

    /// Whether the reported commit is on a branch of a worktree's repository; on its HEAD when none is named.
    pub fn integrity_gate(
        &self,
        worktree: &Path,
        reported: &str,
        branch: Option<&str>,
    ) -> Result<GateReport, EngineError> {
        in_repository(worktree, |repository| history::integrity(repository, reported, branch))
    }
}

fn in_repository(
    worktree: &Path,
    gate: impl FnOnce(&Repository) -> Result<GateReport, EngineError>,
) -> Result<GateReport, EngineError> {
    let place = worktree.display().to_string();
    let Ok(worktree) = worktree.canonicalize() else {
        return Ok(GateReport::new(false, ReasonCode::WorktreeMissing, place));
    };
    match Repository::find(&worktree) {
        Some(repository) => gate(&repository),
        None => Ok(GateReport::new(false, ReasonCode::NotAGitRepo, place)),
    }
}
