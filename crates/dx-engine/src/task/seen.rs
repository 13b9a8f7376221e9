//! What a job of a task changed: the work that its record tells, what git passes over, and git's own files.
//!
//! Called by `step`, after an agent and after a test command. Must never: judge whether it was allowed.

use super::files::Task;
use super::ignored;
use super::step::Ground;
use crate::apply::Work;
use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::gates::scope::Scope;
use crate::gates::unseen::Look;
use crate::git::Repository;
use crate::lookup::{self, Found};
use dx_protocol::{Confinement, HeadMove, ReasonCode, RunUuid, TaskState};
use dx_workflow::hash;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What is compared by content.
const PAPERS: &str = ".ai/";
/// Of `.ai` no more files are looked at.
const MAX_FILES: usize = 10_000;
/// In the record of a sandbox that does not keep hooks and configuration from the agent.
const REPOSITORY_OPEN: &str = "repository_open";

/// What one job changed.
pub(super) struct Seen {
    /// Below the place where the agents work; git's own files as `.git/…`.
    pub(super) changed: BTreeSet<String>,
    /// HEAD is not where it was, or on another branch.
    pub(super) moved: bool,
    /// Not all files that git ignores were compared.
    pub(super) is_part: bool,
}

/// Looks; `before` are the [`hidden_files`] from before the job. Of what git ignores only what is `denied` to the job is told: all
/// of it would be every build's output.
pub(super) fn of(
    ground: &Ground<'_>,
    uuid: &RunUuid,
    before: &BTreeMap<String, String>,
    denied: &dyn Fn(&str) -> bool,
) -> Result<Seen, EngineError> {
    let state = ground.engine.state()?;
    let found = lookup::read_run(&state, &state.run(uuid).journal(), false)?;
    let mut seen = Seen { changed: of_git(&found), moved: false, is_part: false };
    if let Some(tree) = &found.run.created.tree {
        let work = Work::of(&found, tree)?;
        seen.changed.extend(work.changes.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()));
        // A branch of its own is no more the agent's to choose than a commit is: what comes after it would be made there.
        let report = &work.changes.report;
        seen.moved = report.head_move != HeadMove::Stay || (report.known && report.branch != tree.branch);
        // Of what git ignores: what no job should write unasked, and new repositories.
        let look = Look::of(tree, found.run.created_at);
        seen.changed.extend(look.forbidden(&Scope::parse(&[], &[])?));
    }
    let (had, stamps): (BTreeMap<_, _>, BTreeMap<_, _>) =
        before.clone().into_iter().partition(|(path, _)| path.starts_with(PAPERS));
    let now = papers(ground.place);
    let all: BTreeSet<&String> = had.keys().chain(now.keys()).collect();
    seen.changed.extend(all.into_iter().filter(|path| had.get(*path) != now.get(*path)).cloned());
    let now = ignored::look(ground.place)?;
    seen.is_part = !now.whole || stamps.len() == ignored::MOST;
    let changed = ignored::changed(ground.place, &stamps, &now, found.run.created_at);
    seen.changed.extend(changed.into_iter().filter(|path| denied(path)));
    // What we write ourselves beside an agent.
    let own = own_files(ground.task);
    seen.changed.retain(|path| !own.contains(path));
    Ok(seen)
}

fn own_files(task: &Task) -> [String; 2] {
    [task.path("state.json"), task.path("agy-handoff.md")]
}

/// Hooks and configuration, where the job could have changed them. Where it could not, somebody else did.
fn of_git(found: &Found) -> BTreeSet<String> {
    let sandbox = &found.run.created.contract.sandbox;
    if sandbox.mode == Confinement::Strict && !sandbox.limits.iter().any(|limit| limit == REPOSITORY_OPEN) {
        return BTreeSet::new();
    }
    let findings = found.run.outcome.iter().flat_map(|outcome| &outcome.work.findings);
    let mut names = BTreeSet::new();
    for finding in findings {
        let folder = match finding.reason_code {
            ReasonCode::GitConfigChanged => ".git",
            ReasonCode::GitHooksChanged => ".git/hooks",
            _ => continue,
        };
        names.extend(finding.names.iter().map(|name| format!("{folder}/{name}")));
    }
    names
}

/// Whether the place in which a run began is gone, or another one stands there: then what its steps made is not in it.
pub(super) fn is_lost(ground: &Ground<'_>, state: &TaskState) -> Result<bool, EngineError> {
    if state.steps.is_empty() {
        return Ok(false);
    }
    if Path::new(&state.worktree) != ground.place || !ground.place.is_dir() {
        return Ok(true);
    }
    let last = state.steps.iter().rev().find_map(|step| step.run_uuid.as_ref());
    last.map_or(Ok(false), |uuid| is_misled(ground, uuid))
}

/// Whether the place of a job is no worktree any more, or that of another repository than at its start.
pub(super) fn is_misled(ground: &Ground<'_>, uuid: &RunUuid) -> Result<bool, EngineError> {
    let dir = ground.engine.state()?;
    // A run whose record was cleared away tells nothing.
    let Ok(found) = lookup::read_run(&dir, &dir.run(uuid).journal(), false) else { return Ok(false) };
    let Some(tree) = &found.run.created.tree else { return Ok(false) };
    let before = Fingerprint::load(&found.paths.repository());
    Ok(before.is_some_and(|before| before.misleads(&Repository::recorded(tree))))
}

/// What git may not tell of, as it stands: hashes of everything below `.ai`, which some projects have it ignore, and stamps of
/// the other files that it ignores.
pub(super) fn hidden_files(place: &Path) -> Result<BTreeMap<String, String>, EngineError> {
    let mut found = papers(place);
    found.extend(ignored::look(place)?.stamps);
    Ok(found)
}

fn papers(place: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![".ai".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(place.join(&folder)).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{folder}/{name}");
            match fs::symlink_metadata(entry.path()) {
                Ok(meta) if meta.is_dir() => folders.push(path),
                Ok(meta) if meta.is_file() && found.len() < MAX_FILES => {
                    let bytes = dx_jobdir::read_bounded(&entry.path(), 64 << 20).unwrap_or_default();
                    found.insert(path, hash(&bytes));
                }
                _ => {
                    let to = fs::read_link(entry.path()).unwrap_or_default();
                    found.insert(path, format!("-> {}", to.display()));
                }
            }
        }
    }
    // Written by the runner while an agent works.
    found.retain(|path, _| !path.ends_with("/state.json"));
    found
}
