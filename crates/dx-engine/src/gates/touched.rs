//! The paths that a gate judges: what differs at the end, and what any commit of the job touched. What one commit adds and
//! the next removes is no difference, but it stays in the branch's history.
//!
//! Called by the gates at a job's end and by the command of the scope gate. Must never: write, or leave a commit out.

use super::scope::Scope;
use super::unseen::Look;
use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::work::Work;
use dx_protocol::{GateReport, HeadMove, ReasonCode, Timestamp, TreeStart};
use std::collections::BTreeSet;

/// For each commit what it changed; for a merge what is as in none of its parents, whose own commits are in the list.
const TOUCHED: [&str; 11] = [
    "diff-tree",
    "--stdin",
    "-r",
    "--root",
    "-c",
    "--raw",
    "--no-abbrev",
    "-z",
    "--no-commit-id",
    "--no-renames",
    "--ignore-submodules=dirty",
];

/// What is in the index and not as in the commit of the start.
const STAGED: [&str; 7] =
    ["diff-index", "--cached", "--raw", "--no-abbrev", "-z", "--no-renames", "--ignore-submodules=dirty"];
/// The mode of an entry that is a commit of another repository.
const GITLINK: &[u8] = b"160000";

/// All paths that count since the start. The caller knows that git could tell of the work. Where the time of the start is
/// not known, a repository inside is one path.
pub(crate) fn paths(tree: &TreeStart, work: &Work, look: Option<&Look>) -> Result<Vec<String>, EngineError> {
    let mut paths: BTreeSet<Vec<u8>> = work.paths.clone();
    let (repository, report) = (Repository::recorded(tree), &work.report);
    // Where HEAD only went to a commit that was there before, nobody wrote what that has.
    if let (Some(head), true) =
        (&report.head, report.head_move != HeadMove::Stay && !report.commits.is_empty())
    {
        paths.extend(by_commits(&repository, tree.head.as_deref(), head)?);
    }
    if let Some(start) = tree.head.as_deref() {
        let staged = repository.git(&[&STAGED[..], &[start, "--"]].concat())?;
        // Of what is staged only those: the rest is known already.
        paths.extend(touched(&staged).into_iter().filter(|path| path.ends_with(b"/.git")));
    }
    let mut paths: BTreeSet<String> =
        paths.into_iter().map(|path| String::from_utf8_lossy(&path).into_owned()).collect();
    if let Some(look) = look {
        // Git gives an untracked repository as one path that ends in a slash.
        let inside: Vec<String> = paths.iter().filter(|path| path.ends_with('/')).cloned().collect();
        for folder in inside {
            paths.extend(look.repository(folder.trim_end_matches('/')));
        }
    }
    Ok(paths.into_iter().collect())
}

/// The same, and what is forbidden among that of which git does not tell.
pub(crate) fn judged(
    tree: &TreeStart,
    work: &Work,
    look: &Look,
    scope: &Scope,
) -> Result<Vec<String>, EngineError> {
    let mut paths: BTreeSet<String> = paths(tree, work, Some(look))?.into_iter().collect();
    paths.extend(look.forbidden(scope));
    Ok(paths.into_iter().collect())
}

/// The scope gate's verdict on everything since the start. An empty list of allowed patterns allows all.
pub(crate) fn scope(
    tree: &TreeStart,
    work: &Work,
    since: Timestamp,
    (allowed, forbidden): (&[Vec<String>], &[String]),
    budget: Option<u64>,
) -> GateReport {
    let unanswered = |why: String| GateReport::new(false, ReasonCode::GateUnanswered, why);
    if !work.report.known {
        return unanswered("git could not tell what changed".to_owned());
    }
    let judged = Scope::parse(allowed, forbidden).and_then(|scope| {
        let paths = judged(tree, work, &Look::of(tree, since), &scope)?;
        Ok(scope.judge(&paths, budget))
    });
    // The patterns were checked at the start.
    judged.unwrap_or_else(|error| unanswered(error.to_string()))
}

fn by_commits(
    repository: &Repository,
    start: Option<&str>,
    head: &str,
) -> Result<BTreeSet<Vec<u8>>, EngineError> {
    let not_start = start.map(|start| format!("^{start}"));
    let range: Vec<&str> = ["rev-list", head].into_iter().chain(not_start.as_deref()).collect();
    let commits = repository.git(&range)?;
    // It prints while it reads: its input must be written beside that.
    Ok(touched(&Call::new(repository, &TOUCHED).stdin(commits).run()?))
}

/// The paths of a raw list, and `PATH/.git` for each that has become a commit of another repository.
fn touched(raw: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    let mut fields = raw.split(|byte| *byte == 0);
    while let (Some(entry), Some(path)) = (fields.next(), fields.next()) {
        // One colon and one mode for each side before, then the mode after.
        let before = entry.iter().take_while(|byte| **byte == b':').count();
        let modes: Vec<&[u8]> = entry[before..].split(|byte| *byte == b' ').take(before + 1).collect();
        if let Some((GITLINK, before)) = modes.split_last().map(|(after, before)| (*after, before))
            && !before.contains(&GITLINK)
        {
            paths.insert([path, b"/.git"].concat());
        }
        paths.insert(path.to_vec());
    }
    paths
}
