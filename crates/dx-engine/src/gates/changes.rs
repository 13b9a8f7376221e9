//! What changed in a worktree since its job started, for gates that are asked by themselves: by the record of the newest job
//! there; else by the commit it was made from, when we made it; else against HEAD.
//!
//! Must never: write, or take another worktree's job for this one's.

use super::scope::Scope;
use super::touched;
use super::unseen::Look;
use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::git::Repository;
use crate::lookup::{self, Found, Record};
use crate::work::{self, Snapshot, Work};
use crate::worktree::made::Place;
use dx_jobdir::StateDir;
use dx_protocol::{Gate, GateDocument, GateFacts, GateReport, ReasonCode, TreeStart};
use std::path::Path;

/// A document names no more paths than this.
const MAX_NAMED: usize = 100;

/// What changed, and since when.
pub(super) struct Changes {
    work: Work,
    tree: TreeStart,
    /// Of a job: when it began.
    look: Option<Look>,
    since: String,
}

/// Looks.
pub(super) fn of(
    state: Option<&StateDir>,
    root: Option<&Path>,
    repository: &Repository,
) -> Result<Changes, EngineError> {
    if let Some((found, tree)) = state.and_then(|state| newest_in(state, repository)) {
        let before = Fingerprint::load(&found.paths.repository());
        let work = work::report(&tree, &found.paths.tree(), before.as_ref(), found.changed());
        let since = format!("the start of job {}", found.run.created.ids.beads);
        let look = Look { work_tree: repository.work_tree.clone(), since: found.run.created_at };
        return Ok(Changes { work, tree, look: Some(look), since });
    }
    let made = root.and_then(|root| {
        let place = Place::all(root).into_iter().find(|(_, place)| place.path() == repository.work_tree)?.1;
        place.load()
    });
    let now = Snapshot::take(repository)?.record(repository);
    let (head, since) = match made {
        Some(made) => (Some(made.base), "the worktree was made"),
        None => (now.head.clone(), "HEAD"),
    };
    let tree = TreeStart { head, dirty: 0, ..now };
    // No list of dirty paths: nothing was there before.
    let work = work::report(&tree, Path::new("/dev/null"), None, &[]);
    Ok(Changes { work, tree, look: None, since: since.to_owned() })
}

/// The newest run in this worktree that began with this repository.
fn newest_in(state: &StateDir, repository: &Repository) -> Option<(Found, TreeStart)> {
    let here = |tree: &TreeStart| {
        let recorded = Repository::recorded(tree);
        recorded.work_tree == repository.work_tree && recorded.git_dir == repository.git_dir
    };
    let run = |(provider, beads)| match lookup::newest_under(state, &provider, &beads) {
        Ok(Some(Record::Ours(found))) => {
            let tree = found.run.created.tree.clone().filter(here)?;
            Some((*found, tree))
        }
        _ => None,
    };
    let runs = lookup::known(state).into_iter().filter_map(run);
    // A UUIDv7 begins with the time.
    runs.max_by(|a, b| a.0.run.created.ids.run_uuid.as_str().cmp(b.0.run.created.ids.run_uuid.as_str()))
}

impl Changes {
    /// The scope gate's answer.
    pub(super) fn judge(&self, scope: &Scope, budget: Option<u64>) -> Result<GateDocument, EngineError> {
        let paths = match &self.look {
            _ if !self.work.report.known => Vec::new(),
            Some(look) => touched::judged(&self.tree, &self.work, look, scope)?,
            None => touched::paths(&self.tree, &self.work, None)?,
        };
        let (report, mut violations) = if self.work.report.known {
            let violations = scope.violations(&paths);
            let report = scope.judge(&paths, budget);
            (
                GateReport { details: format!("{}, since {}", report.details, self.since), ..report },
                violations,
            )
        } else {
            let report =
                GateReport::new(false, ReasonCode::GateUnanswered, "git could not tell what changed");
            (report, Vec::new())
        };
        violations.truncate(MAX_NAMED);
        let facts = GateFacts {
            base: Some(self.tree.head.clone().unwrap_or_else(|| "-".to_owned())),
            mutations: Some(self.work.report.mutations),
            checked_files: Some(paths.len() as u64),
            violations: Some(violations),
            ..GateFacts::default()
        };
        Ok(GateDocument::new(Gate::Scope, report, facts))
    }
}
