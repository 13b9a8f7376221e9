//! What a session's tools have left on a server of ours: processes that go on when their tool has ended.
//!
//! A server gives its tools no mark of their session (OpenCode 1.18 has one hook for that, a plugin's, and a server with a
//! plugin waits for the package registry in each directory). So this takes only what can be no other session's: processes of
//! that server which are not below it any more, were begun while the job ran, and work in the job's worktree, when no other
//! session was at work there in that time.
//!
//! Called by: the settler, when the job's session is gone. Must never: end a process that may be another session's, or one
//! that the server itself looks after.

use super::PATIENCE;
use crate::server::run_at;
use dx_core::Run;
use dx_jobdir::StateDir;
use dx_monitor::{MARKER, end_tree};
use dx_opencode::{Client, ClientError};
use dx_proc::{Host, ProcessIdentity, clock, tree};
use std::path::Path;

/// A turn that began earlier is not looked for.
const LONGEST_TURN_MS: i64 = 24 * 60 * 60 * 1000;
/// Times of processes are rounded, and clocks are read one after the other.
const SLACK_MS: u64 = 1_000;
/// TERM, and KILL after this.
const GRACE_MS: u64 = 500;

/// Ends them, and tells how many there were.
pub(super) fn end(state: &StateDir, run: &Run, client: &Client, title: &str) -> u32 {
    let left = find(state, run, client.url());
    if left.is_empty() || others_were_at_work(run, client, title).unwrap_or(true) {
        return 0;
    }
    // Nothing of the run carries its mark any more; these and what is below them count.
    u32::try_from(end_tree(&run.created.ids.run_uuid, &left, GRACE_MS)).unwrap_or(u32::MAX)
}

fn find(state: &StateDir, run: &Run, url: &str) -> Vec<ProcessIdentity> {
    let Some(server) = run_at(state, url) else { return Vec::new() };
    let (Some(agent), Ok(host)) = (&server.run.agent, Host::current()) else { return Vec::new() };
    let Ok(worktree) = Path::new(&run.created.spec.worktree).canonicalize() else { return Vec::new() };
    let mut pids = tree::marked(MARKER, server.run.created.ids.run_uuid.as_str());
    let (here, below) = (tree::working_in(&worktree), tree::descendants(agent.pid));
    pids.retain(|pid| here.contains(pid) && *pid != agent.pid && !below.contains(pid));
    let ran_ms = u64::try_from(clock::now_ms() - run.created_at.0).unwrap_or_default() + SLACK_MS;
    let found = pids.into_iter().filter_map(|pid| host.identify(pid).ok());
    found.filter(|process| tree::age_ms(process) <= ran_ms).collect()
}

/// Whether another session has done anything in the worktree, below it or above it since the job began.
fn others_were_at_work(run: &Run, client: &Client, title: &str) -> Result<bool, ClientError> {
    let (began, worktree) = (run.created_at.0, Path::new(&run.created.spec.worktree));
    let near = |folder: &str| {
        let folder = Path::new(folder);
        folder.starts_with(worktree) || worktree.starts_with(folder)
    };
    let since = u64::try_from(began - LONGEST_TURN_MS).unwrap_or_default();
    for session in client.sessions_everywhere(since, PATIENCE)? {
        if session.title == title || !near(&session.directory) {
            continue;
        }
        let client = client.in_directory(&session.directory);
        if client.statuses(PATIENCE)?.contains_key(&session.id) {
            return Ok(true);
        }
        let messages = client.raw_messages(&session.id, PATIENCE)?;
        let times = messages.iter().rev().take(2).map(|message| &message["info"]["time"]);
        let mut ends = times.flat_map(|time| [time["completed"].as_f64(), time["created"].as_f64()]);
        if ends.any(|at| at.is_some_and(|at| at >= began as f64)) {
            return Ok(true);
        }
    }
    Ok(false)
}
