//! `worktree list`: all worktrees below the root with their owner and what is in them. Reading only: git is asked for its quick
//! look, and writes nothing.

use super::made::{Made, Place, Stage, is_registered};
use super::{disk_use, salvage};
use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::git::{Call, Repository, line};
use crate::lookup::{self, Record};
use crate::secrets::{self, is_masked_form, mask_text};
use crate::view::View;
use dx_jobdir::StateDir;
use dx_proc::{Host, clock};
use dx_protocol::{BeadsId, Timestamp, WorktreeOwner, WorktreeRow, WorktreeState, WorktreesDocument};
use std::path::Path;

impl Engine {
    /// All worktrees, by id.
    pub fn worktree_list(&self) -> Result<WorktreesDocument, EngineError> {
        let places = self.places()?;
        let root = places.worktree_root()?;
        let state = self.state_for_reading()?;
        let rows: Vec<WorktreeRow> =
            Place::all(root).into_iter().map(|(beads, place)| row(state.as_ref(), &beads, &place)).collect();
        Ok(WorktreesDocument {
            schema: "dx-runner/worktrees/1".to_owned(),
            root: root.display().to_string(),
            size_bytes: disk_use::of(root),
            budget_bytes: places.budget,
            worktrees: rows,
        })
    }
}

fn row(state: Option<&StateDir>, beads: &BeadsId, place: &Place) -> WorktreeRow {
    let path = place.path();
    let made = place.load();
    let worktree = made.as_ref().and_then(|made| made.repository(place)).filter(is_registered);
    let there = path.join(".git").exists();
    let stage = match (made.as_ref().map(|made| made.stage), &worktree) {
        (Some(Stage::Making), _) => WorktreeState::Making,
        (Some(Stage::Removing), _) => WorktreeState::Removing,
        (Some(Stage::Ready), Some(_)) if there => WorktreeState::Ready,
        (None, _) => WorktreeState::Unrecorded,
        _ => WorktreeState::Broken,
    };
    let text = |f: fn(&Made) -> &String| made.as_ref().map_or_else(|| "-".to_owned(), |made| f(made).clone());
    let mut row = WorktreeRow {
        beads: beads.to_string(),
        repo: text(|made| &made.repo),
        path: path.display().to_string(),
        state: stage,
        branch: text(|made| &made.branch),
        base: text(|made| &made.base),
        head: "-".to_owned(),
        ahead: None,
        behind: None,
        dirty: None,
        size_bytes: disk_use::of(&path),
        age_sec: made.as_ref().map_or(0, |made| Timestamp(clock::now_ms()).since_ms(made.created_at) / 1000),
        owner: None,
        salvages: made.as_ref().map(salvages).unwrap_or_default(),
    };
    if let (WorktreeState::Ready, Some(made), Some(worktree)) = (stage, &made, &worktree) {
        look(&mut row, made, worktree);
    }
    let Some((owner, recorded)) = state.and_then(|state| owner(state, beads, &path)) else { return row };
    row.owner = Some(owner);
    // An agent may have put a secret into a branch's name; who wrote the record knew it.
    row.branch = match recorded {
        Some(name) if is_masked_form(&name, &row.branch) => name,
        _ => mask_text(&row.branch).into_owned(),
    };
    row
}

/// What git tells; what it cannot tell stays `null`.
fn look(row: &mut WorktreeRow, made: &Made, worktree: &Repository) {
    let ask = |args: &[&str]| worktree.git(args).ok();
    if let Some(head) = ask(&["rev-parse", "--verify", "HEAD"]) {
        row.head = line(&head);
    }
    if let Some(branch) = ask(&["symbolic-ref", "--quiet", "--short", "HEAD"]) {
        row.branch = line(&branch);
    }
    let status = ["status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=dirty"];
    row.dirty = worktree.git_unhidden(&status).ok().map(|list| !list.is_empty());
    // Against what the user's own checkout is on.
    let main = Call::new(&made.main(), &["rev-parse", "--verify", "--quiet", "HEAD"]).line();
    if let Ok(main) = main
        && let Some(counts) = ask(&["rev-list", "--left-right", "--count", &format!("{main}...{}", row.head)])
    {
        let counts = line(&counts);
        let mut counts = counts.split('\t').map(|n| n.parse().ok());
        (row.behind, row.ahead) = (counts.next().flatten(), counts.next().flatten());
    }
}

/// The newest job of this id that worked in it, and the branch that it was on at its end. What of its secrets can be known
/// is masked from here on.
fn owner(state: &StateDir, beads: &BeadsId, path: &Path) -> Option<(WorktreeOwner, Option<String>)> {
    let job = JobName { beads: beads.clone(), provider: None };
    let Ok(Some(Record::Ours(found))) = lookup::newest_known(state, &job) else { return None };
    let here = path.canonicalize().ok()?;
    if Path::new(&found.run.created.spec.worktree) != here {
        return None;
    }
    let host = Host::current().ok()?;
    secrets::also(&secrets::of_agent(&host, &found));
    let view = View::of(state, &host, &found);
    let branch = view.outcome.as_ref().and_then(|outcome| outcome.work.branch.clone());
    let owner = WorktreeOwner {
        provider: found.run.created.ids.provider.to_string(),
        run_instance: found.run.created.ids.run_instance.clone(),
        state: view.judgement.state,
        ended: view.ended(),
    };
    Some((owner, branch))
}

fn salvages(made: &Made) -> Vec<String> {
    let below = format!("{}/", salvage::refs_of(&made.beads));
    let list =
        Call::new(&made.main(), &["for-each-ref", "--format=%(refname)", &below]).run().unwrap_or_default();
    String::from_utf8_lossy(&list).lines().map(str::to_owned).collect()
}
