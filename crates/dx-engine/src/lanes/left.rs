//! What the tools of a job's session have left on a server of ours: processes that go on when their tool has ended.
//!
//! The shell that our servers give to tools tells every process which call began it: when, and with which command. The
//! session's messages tell its calls. A process is the session's when one of its calls fits and no call of any other session
//! does, wherever the process works and whatever else the server does.
//!
//! Called by: the settler, while the job's session is there. Must never: end a process that may be another session's, or one
//! that the server itself looks after.

use super::{PATIENCE, Strays};
use crate::server::{Began, run_at};
use dx_core::Run;
use dx_jobdir::StateDir;
use dx_monitor::{MARKER, end_tree};
use dx_opencode::{Client, ClientError, Session};
use dx_proc::{Host, ProcessIdentity, tree};
use serde_json::Value;
use std::collections::BTreeSet;

/// A turn that began earlier is not looked for.
const LONGEST_TURN_MS: i64 = 24 * 60 * 60 * 1000;
/// Server and shell read the same clock, and the shell begins and ends within its call. More would take calls of others, made
/// just before or after, for possible ones.
const SLACK_MS: i64 = 20;
/// A call that nobody ended began its shell at most so long after the last word of its session.
const UNENDED_MS: i64 = 1_000;
/// TERM, and KILL after this.
const GRACE_MS: u64 = 500;

/// What any session's tools have begun since the run did and is still there, for when the server does not tell whose it is.
pub(super) fn unclear(state: &StateDir, run: &Run, client: &Client) -> Strays {
    let begun = begun_by_tools(state, client.url());
    let since = begun.iter().filter(|(_, began)| began.at_ms >= run.created_at.0);
    Strays { ended: 0, left: count(since.count()) }
}

/// Ends what these sessions, and those of their subagents, have left.
pub(super) fn end(
    state: &StateDir,
    run: &Run,
    client: &Client,
    sessions: &[String],
) -> Result<Strays, ClientError> {
    let begun = begun_by_tools(state, client.url());
    if begun.is_empty() || sessions.is_empty() {
        return Ok(Strays::default());
    }
    let uuid = &run.created.ids.run_uuid;
    let since = u64::try_from(run.created_at.0 - LONGEST_TURN_MS).unwrap_or_default();
    let all = client.sessions_everywhere(since, PATIENCE)?;
    let family = family(&all, sessions);
    let (ours, others): (Vec<&Session>, Vec<&Session>) =
        all.iter().partition(|session| family.contains(session.id.as_str()));
    let calls = calls(client, &ours)?;
    let of = |calls: &[Call], began: &Began| calls.iter().any(|call| call.began(began));
    let mine: Vec<_> = begun.into_iter().filter(|(_, began)| of(&calls, began)).collect();
    if mine.is_empty() {
        return Ok(Strays::default());
    }
    // A session that is gone meanwhile leaves nothing that anybody still wants.
    let theirs = self::calls(client, &others);
    let unclear = |began: &Began| theirs.as_ref().map_or(true, |theirs| of(theirs, began));
    let (left, surely): (Vec<_>, Vec<_>) = mine.into_iter().partition(|(_, began)| unclear(began));
    let surely: Vec<ProcessIdentity> = surely.into_iter().map(|(process, _)| process).collect();
    // Nothing of the run carries its mark any more; these and what is below them count.
    let ended = if surely.is_empty() { 0 } else { end_tree(uuid, &surely, GRACE_MS) };
    Ok(Strays { ended: count(ended), left: count(left.len()) })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Processes of that server which a call of a tool began.
fn begun_by_tools(state: &StateDir, url: &str) -> Vec<(ProcessIdentity, Began)> {
    let (Some(server), Ok(host)) = (run_at(state, url), Host::current()) else { return Vec::new() };
    let pids = tree::marked(MARKER, server.run.created.ids.run_uuid.as_str());
    // Who it is first: a number that has another owner by the time it is asked belongs to nobody who is signalled.
    let known = pids.into_iter().filter_map(|pid| host.identify(pid).ok());
    known.filter_map(|process| Began::of(process.pid).map(|began| (process, began))).collect()
}

/// These sessions and all that are parts of them.
fn family<'a>(all: &'a [Session], sessions: &'a [String]) -> BTreeSet<&'a str> {
    let mut family: BTreeSet<&str> = sessions.iter().map(String::as_str).collect();
    loop {
        let is_new = |session: &&Session| {
            let parent = session.parent.as_deref();
            !family.contains(session.id.as_str()) && parent.is_some_and(|parent| family.contains(parent))
        };
        let found: Vec<&str> = all.iter().filter(is_new).map(|session| session.id.as_str()).collect();
        if found.is_empty() {
            return family;
        }
        family.extend(found);
    }
}

/// One call of a tool with a command.
struct Call {
    from_ms: i64,
    /// `None`: it goes on.
    until_ms: Option<i64>,
    command: String,
}

impl Call {
    fn began(&self, began: &Began) -> bool {
        let in_time = began.at_ms >= self.from_ms && self.until_ms.is_none_or(|until| began.at_ms <= until);
        in_time && began.is_of(&self.command)
    }
}

/// All calls of these sessions.
fn calls(client: &Client, sessions: &[&Session]) -> Result<Vec<Call>, ClientError> {
    let mut calls = Vec::new();
    for session in sessions {
        let client = client.in_directory(&session.directory);
        for message in client.raw_messages(&session.id, PATIENCE)? {
            for part in message["parts"].as_array().into_iter().flatten() {
                let Some(mut call) = call(&message["info"], part) else { continue };
                if call.until_ms.is_none() && !client.statuses(PATIENCE)?.contains_key(&session.id) {
                    // Whoever worked on it has died.
                    call.until_ms = Some(session.time.updated as i64 + UNENDED_MS);
                }
                calls.push(call);
            }
        }
    }
    Ok(calls)
}

fn call(info: &Value, part: &Value) -> Option<Call> {
    let command = part["state"]["input"]["command"].as_str()?.to_owned();
    let time = |value: &Value| value.as_f64().map(|ms| ms as i64);
    // A call's own beginning moves with each of its outputs.
    let from_ms = time(&info["time"]["created"])? - SLACK_MS;
    let until_ms = time(&part["state"]["time"]["end"]).map(|end| end + SLACK_MS);
    Some(Call { from_ms, until_ms, command })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_of_parts_are_family() {
        let session = |id: &str, parent: Option<&str>| {
            serde_json::from_value::<Session>(json!({ "id": id, "parentID": parent })).unwrap()
        };
        let all =
            [session("c", Some("b")), session("b", Some("a")), session("a", None), session("x", Some("y"))];
        assert_eq!(family(&all, &["a".to_owned()]), BTreeSet::from(["a", "b", "c"]));
    }
}
