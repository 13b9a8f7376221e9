//! The paths that a gate judges: what differs at the end, and what any commit of the job touched. What one commit adds and
//! the next removes is no difference, but it stays in the branch's history.
//!
//! Called by the gates at a job's end and by the command of the scope gate. Must never: write, or leave a commit out.

use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::work::Work;
use dx_protocol::{HeadMove, TreeStart};
use std::collections::BTreeSet;

/// For each commit what it changed; for a merge what is as in none of its parents, whose own commits are in the list.
const TOUCHED: [&str; 10] = [
    "diff-tree",
    "--stdin",
    "-r",
    "--root",
    "-c",
    "--name-only",
    "-z",
    "--no-commit-id",
    "--no-renames",
    "--ignore-submodules=dirty",
];

/// All paths that count since the start. The caller knows that git could tell of the work.
pub(crate) fn paths(tree: &TreeStart, work: &Work) -> Result<Vec<String>, EngineError> {
    let mut paths: BTreeSet<Vec<u8>> = work.paths.clone();
    let report = &work.report;
    // Where HEAD only went to a commit that was there before, nobody wrote what that has.
    if let (Some(head), true) =
        (&report.head, report.head_move != HeadMove::Stay && !report.commits.is_empty())
    {
        paths.extend(by_commits(&Repository::recorded(tree), tree.head.as_deref(), head)?);
    }
    Ok(paths.into_iter().map(|path| String::from_utf8_lossy(&path).into_owned()).collect())
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
    let names = Call::new(repository, &TOUCHED).stdin(commits).run()?;
    Ok(names.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
}
