//! Gates: checks that allow or refuse by exact facts and change nothing. `start`, the end of a job and the command of each
//! gate call the same functions.
//!
//! Must never: discover a repository at the end of a job (paths come from its record), or write.

pub(crate) mod beads;
mod changes;
pub(crate) mod evidence;
pub(crate) mod feature_key;
mod history;
pub(crate) mod raw_secrets;
pub(crate) mod scope;
pub(crate) mod touched;
pub(crate) mod unseen;

pub(crate) use history::baseline;

use crate::Engine;
use crate::api::ScopeQuery;
use crate::error::EngineError;
use crate::git::Repository;
use crate::permission;
use crate::start::configure::project_of;
use dx_protocol::{Gate, GateDocument, GateFacts, GateReport, ReasonCode};
use std::path::{Path, PathBuf};

impl Engine {
    /// Whether a job may work at a place.
    pub fn permission_gate(&self, worktree: &Path) -> Result<GateDocument, EngineError> {
        let worktree = absolute(worktree);
        let places = self.layers(project_of(&worktree).as_deref(), None)?.places()?;
        let document = |report, place: &Path| GateDocument::new(Gate::Permission, report, at(place));
        match permission::check(&worktree, &self.state_root()?, &places) {
            Ok(real) => {
                let report = GateReport::new(true, ReasonCode::PermissionOk, real.display().to_string());
                Ok(document(report, &real))
            }
            Err(
                refused @ (EngineError::PathDenied { .. }
                | EngineError::WorktreeMissing(_)
                | EngineError::ProtectedCheckout { .. }),
            ) => {
                let report = GateReport::new(false, refused.reason(), refused.to_string());
                Ok(GateDocument { next_action: refused.next_action(), ..document(report, &worktree) })
            }
            Err(other) => Err(other),
        }
    }

    /// Whether HEAD of a worktree contains the required commit.
    pub fn baseline_gate(&self, worktree: &Path, required: &str) -> Result<GateDocument, EngineError> {
        in_repository(Gate::Baseline, worktree, |repository| history::baseline(repository, required))
    }

    /// Whether the reported commit is on a branch of a worktree's repository; on its HEAD when none is named.
    pub fn integrity_gate(
        &self,
        worktree: &Path,
        reported: &str,
        branch: Option<&str>,
    ) -> Result<GateDocument, EngineError> {
        in_repository(Gate::Integrity, worktree, |repository| {
            history::integrity(repository, reported, branch)
        })
    }

    /// Whether every commit of a branch, HEAD when none is named, that is not on the base carries the key.
    pub fn feature_key_gate(
        &self,
        worktree: &Path,
        key: &str,
        branch: Option<&str>,
        base: Option<&str>,
    ) -> Result<GateDocument, EngineError> {
        in_repository(Gate::FeatureKey, worktree, |repository| {
            feature_key::of_branch(repository, key, branch, base)
        })
    }

    /// Whether everything that changed in a worktree since the start of its newest job is allowed.
    pub fn scope_gate(&self, query: &ScopeQuery) -> Result<GateDocument, EngineError> {
        let scope = scope::Scope::parse(std::slice::from_ref(&query.scope), &[])?;
        let state = self.state_for_reading()?;
        let root = self.places()?.root;
        in_repository(Gate::Scope, &query.worktree, |repository| {
            let changes = changes::of(state.as_ref(), root.as_deref(), repository)?;
            changes.judge(&scope, query.mutation_budget)
        })
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn at(worktree: &Path) -> GateFacts {
    GateFacts { worktree: Some(worktree.display().to_string()), ..GateFacts::default() }
}

/// The gate's answer about the repository that a place lies in.
fn in_repository(
    which: Gate,
    worktree: &Path,
    gate: impl FnOnce(&Repository) -> Result<GateDocument, EngineError>,
) -> Result<GateDocument, EngineError> {
    let refused = |reason: ReasonCode, place: &Path| {
        let report = GateReport::new(false, reason, place.display().to_string());
        Ok(GateDocument::new(which, report, at(place)))
    };
    let Ok(real) = worktree.canonicalize() else {
        return refused(ReasonCode::WorktreeMissing, &absolute(worktree));
    };
    if !real.is_dir() {
        return refused(ReasonCode::WorktreeMissing, &real);
    }
    let Some(repository) = Repository::find(&real) else { return refused(ReasonCode::NotAGitRepo, &real) };
    let mut answer = gate(&repository)?;
    answer.facts.worktree = Some(repository.work_tree.display().to_string());
    Ok(answer)
}
