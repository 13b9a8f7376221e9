//! The published `key=value` files of a job: a view for shell users, never the truth. Ours are rebuilt from the journal;
//! files that other programs wrote are read as they are.

use crate::disk::{self, DiskError};
use crate::journal::read_bounded;
use crate::layout::{RunPaths, StateDir, StateDirError};
use dx_protocol::{
    Created, GATE_CHECK, GateVerdict, HeadMove, Outcome, ReasonCode, RunIds, Sample, Timestamp, VerdictWords,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Foreign files are not read beyond this.
const MAX_VIEW_BYTES: u64 = 1 << 20;

/// Lines of `key=value`; values are made single lines.
#[derive(Debug, Default)]
pub struct Lines(String);

impl Lines {
    /// Adds a pair. Newlines, carriage returns and backslashes in the value are escaped.
    pub fn pair(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string();
        let _fits = write!(self.0, "{key}=");
        for c in value.chars() {
            match c {
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                '\\' => self.0.push_str("\\\\"),
                '\0' => self.0.push_str("\\0"),
                c => self.0.push(c),
            }
        }
        self.0.push('\n');
        self
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Reads a `key=value` file, ours or another program's; the first line of a key counts. `None` when there is none.
pub fn read(path: &Path) -> Option<BTreeMap<String, String>> {
    let bytes = read_bounded(path, MAX_VIEW_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut pairs = BTreeMap::new();
    for line in text.lines() {
        if let Some((key, value)) = line.split_once('=') {
            pairs.entry(key.trim().to_owned()).or_insert_with(|| unescape(value));
        }
    }
    Some(pairs)
}

fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

fn put(state: &StateDir, ids: &RunIds, suffix: &str, lines: &Lines) -> Result<(), DiskError> {
    disk::replace(&state.view(&ids.provider, &ids.beads, suffix), lines.bytes())
}

fn identity(lines: Lines, ids: &RunIds) -> Lines {
    lines
        .pair("beads", &ids.beads)
        .pair("provider", &ids.provider)
        .pair("run_id", &ids.run_id)
        .pair("run_instance", &ids.run_instance)
        .pair("run_uuid", &ids.run_uuid)
}

/// `.meta`.
pub fn meta(created: &Created, started_at: Timestamp, blocked: bool) -> Lines {
    let limits = &created.spec.limits;
    let head = created.tree.as_ref().and_then(|t| t.head.as_deref()).unwrap_or("-");
    identity(Lines::default(), &created.ids)
        .pair("repo", &created.spec.repo)
        .pair("worktree", &created.spec.worktree)
        .pair("prompt_file", &created.spec.prompt_file)
        .pair("started_at", started_at)
        .pair("retries", created.retries)
        .pair("use_pty", created.spec.pty)
        .pair("version", &created.program)
        .pair("host", &created.starter.host)
        .pair("cwd", &created.cwd)
        .pair("provider_switch_from", &created.provider_switch_from)
        .pair("selected_model", &created.contract.selected_model)
        .pair("fallback_reason", &created.contract.fallback_reason)
        .pair("execution_mode", &created.contract.execution_mode)
        .pair("profile", created.spec.profile.as_deref().unwrap_or("-"))
        .pair("start_head_commit", head)
        .pair("max_runtime_sec", limits.max_runtime_sec)
        .pair("no_mutation_timeout_sec", limits.no_mutation_sec)
        .pair("stall_sec", limits.stall_sec)
        .pair("blocked", blocked)
}

/// `.contract`.
pub fn contract(created: &Created) -> Lines {
    let contract = &created.contract;
    identity(Lines::default(), &created.ids)
        .pair("argv", serde_json::to_string(&contract.argv).unwrap_or_default())
        .pair("cwd", &contract.cwd)
        .pair("env_names", contract.env_names.join(","))
        .pair("grammar", contract.grammar.as_str())
        .pair("lane", created.spec.lane.as_str())
        .pair("model", &contract.selected_model)
        .pair("fallback_reason", &contract.fallback_reason)
        .pair("auth_source", &contract.auth_source)
        .pair("base_url", &contract.base_url)
        .pair("prompt_sha256", &contract.prompt_sha256)
        .pair("prompt_bytes", contract.prompt_bytes)
        .pair("prompt_channel", &contract.prompt_channel)
        .pair("sandbox", contract.sandbox.mode.as_str())
        .pair("sandbox_reason", &contract.sandbox.reason)
        .pair("sandbox_abi", contract.sandbox.abi)
        .pair("sandbox_limits", contract.sandbox.limits.join(","))
        .pair("sandbox_writable", serde_json::to_string(&contract.sandbox.writable).unwrap_or_default())
        .pair("sandbox_hidden", serde_json::to_string(&contract.sandbox.hidden).unwrap_or_default())
        .pair("limits", serde_json::to_string(&created.spec.limits).unwrap_or_default())
}

/// The verdicts of an outcome, a word each.
pub fn verdict_words(outcome: &Outcome) -> VerdictWords {
    let work = match (outcome.work.known, outcome.work.mutations, outcome.work.head_move) {
        (false, ..) => "unknown",
        (true, 0, HeadMove::Stay) => "none",
        (true, 0, _) => "moved",
        (true, ..) => "changed",
    };
    let (checks, gates): (Vec<_>, Vec<_>) = outcome.gates.iter().partition(|gate| gate.name == GATE_CHECK);
    let failed = |gate: &&&GateVerdict| !gate.report.passed;
    let unanswered = |gate: &&GateVerdict| gate.report.reason_code == ReasonCode::GateUnanswered;
    let gates_word = if gates.is_empty() {
        "none"
    } else if gates.iter().filter(failed).any(|gate| !unanswered(gate)) {
        "fail"
    } else if gates.iter().any(unanswered) {
        "unknown"
    } else {
        "pass"
    };
    let check = match checks.first().map(|check| check.report.reason_code) {
        None => "none",
        Some(ReasonCode::CheckOk) => "pass",
        Some(ReasonCode::CheckFailed | ReasonCode::UnverifiedClaims) => "fail",
        Some(ReasonCode::CheckTimeout) => "timeout",
        Some(ReasonCode::CheckNotRun) => "not_run",
        Some(_) => "infra",
    };
    VerdictWords {
        process: word(&outcome.process),
        provider: word(&outcome.provider_verdict),
        work: work.to_owned(),
        gates: gates_word.to_owned(),
        check: check.to_owned(),
    }
}

/// The published word of an enum is its serde name.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(value) => value["verdict"].as_str().unwrap_or("-").to_owned(),
        Err(_) => "-".to_owned(),
    }
}

/// `.outcome`.
pub fn outcome(outcome: &Outcome) -> Lines {
    let words = verdict_words(outcome);
    let cost = outcome.usage.cost_usd.map_or_else(|| "-".to_owned(), |c| format!("{c:.6}"));
    identity(Lines::default(), &outcome.ids)
        .pair("exit_code", &outcome.exit_code)
        .pair("state", outcome.state)
        .pair("reason_code", outcome.reason_code)
        .pair("detail", &outcome.detail)
        .pair("started_at", outcome.started_at)
        .pair("completed_at", outcome.completed_at)
        .pair("duration_sec", outcome.duration_sec)
        .pair("retries", outcome.retries)
        .pair("selected_model", &outcome.selected_model)
        .pair("fallback_reason", &outcome.fallback_reason)
        .pair("execution_mode", &outcome.execution_mode)
        .pair("host", &outcome.host)
        .pair("cwd", &outcome.cwd)
        .pair("worktree", &outcome.worktree)
        .pair("provider_switch_from", &outcome.provider_switch_from)
        .pair("mutations", outcome.work.mutations)
        .pair("commits", outcome.work.commits.len())
        .pair("log_bytes", outcome.log_bytes)
        .pair("cpu_time_sec", outcome.cpu_time_sec)
        .pair("tokens_in", outcome.usage.input_tokens + outcome.usage.cached_tokens)
        .pair("tokens_out", outcome.usage.output_tokens)
        .pair("cost_usd", cost)
        .pair("strays", outcome.strays)
        .pair("verdict_process", words.process)
        .pair("verdict_provider", words.provider)
        .pair("verdict_work", words.work)
        .pair("verdict_gates", words.gates)
        .pair("verdict_check", words.check)
}

/// Publishes that a run begins: `.meta`.
pub fn publish_start(state: &StateDir, created: &Created, started_at: Timestamp) -> Result<(), DiskError> {
    put(state, &created.ids, "meta", &meta(created, started_at, false))
}

/// Publishes the names of the run's files and, last of all, `.contract`: the same, whoever does it and how often.
pub fn publish_files(state: &StateDir, paths: &RunPaths, created: &Created) -> Result<(), DiskError> {
    let ids = &created.ids;
    let mut links = vec![(paths.log(), "log"), (paths.prompt(), "prompt"), (paths.journal(), "events.jsonl")];
    if paths.err().exists() {
        links.push((paths.err(), "err"));
    }
    for (from, suffix) in links {
        disk::link_over(&from, &state.view(&ids.provider, &ids.beads, suffix))?;
    }
    put(state, ids, "contract", &contract(created))
}

/// Whether [`publish_files`] was done for this run, or for a newer one.
pub fn has_files(state: &StateDir, ids: &RunIds) -> bool {
    read(&state.view(&ids.provider, &ids.beads, "contract"))
        .is_some_and(|c| c.get("run_uuid").is_some_and(|u| u.as_str() >= ids.run_uuid.as_str()))
}

/// Moves the views of the run before aside: `.log.<n>` and `.outcome.<n>`, the lowest free n; removes the rest.
pub fn rotate(state: &StateDir, ids: &RunIds) -> Result<(), DiskError> {
    for suffix in ["log", "outcome"] {
        let path = state.view(&ids.provider, &ids.beads, suffix);
        if !path.exists() {
            continue;
        }
        let free = (1u32..).map(|n| state.view(&ids.provider, &ids.beads, &format!("{suffix}.{n}")));
        if let Some(to) = free.into_iter().find(|p| !p.exists()) {
            disk::rename(&path, &to)?;
        }
    }
    for suffix in ["rc", "pid", "monitor.pid", "mutation", "heartbeat", "obs", "err"] {
        disk::remove(&state.view(&ids.provider, &ids.beads, suffix))?;
    }
    Ok(())
}

/// Publishes the living process ids.
pub fn publish_pids(
    state: &StateDir,
    ids: &RunIds,
    monitor: i32,
    agent: Option<i32>,
) -> Result<(), DiskError> {
    disk::replace(&state.view(&ids.provider, &ids.beads, "monitor.pid"), format!("{monitor}\n").as_bytes())?;
    match agent {
        Some(pid) => {
            disk::replace(&state.view(&ids.provider, &ids.beads, "pid"), format!("{pid}\n").as_bytes())
        }
        None => Ok(()),
    }
}

/// Publishes one observation: `.obs`, and the shell views `.heartbeat` and `.mutation` when their facts are there.
pub fn publish_sample(
    state: &StateDir,
    sample: &Sample,
    count: u64,
    now: Timestamp,
) -> Result<(), DiskError> {
    let ids = &sample.ids;
    let bytes = serde_json::to_vec(sample).unwrap_or_default();
    disk::replace(&state.view(&ids.provider, &ids.beads, "obs"), &bytes)?;
    let beat = identity(Lines::default(), ids)
        .pair("count", count)
        .pair("last_type", if sample.last_event.is_empty() { "log_output" } else { "provider_event" })
        .pair("last_detail", &sample.last_event)
        .pair("last_at", now);
    put(state, ids, "heartbeat", &beat)?;
    if let (Some(first), Some(last)) = (sample.mutation_first, sample.mutation_last) {
        let lines = identity(Lines::default(), ids)
            .pair("mutation_count", sample.mutations)
            .pair("first_seen_at", first)
            .pair("last_seen_at", last);
        put(state, ids, "mutation", &lines)?;
    }
    Ok(())
}

/// Reads the newest observation of a job.
pub fn read_sample(path: &Path) -> Option<Sample> {
    serde_json::from_slice(&read_bounded(path, MAX_VIEW_BYTES).ok()?).ok()
}

/// Publishes the end: `.outcome`, `.rc` when the exit was seen, `.meta` with the blocked mark; removes the pid files.
/// The same outcome gives the same bytes. Views of a newer run are left alone. `.outcome` is durable when this returns:
/// once the claim is gone, it is what leads to the run. Of a run whose record is lost there is no `created`: what the start
/// published of it stays.
pub fn publish_end(state: &StateDir, created: Option<&Created>, outcome_: &Outcome) -> Result<(), DiskError> {
    let ids = &outcome_.ids;
    let newest = read(&state.view(&ids.provider, &ids.beads, "meta"));
    let newer = newest.is_some_and(|m| m.get("run_uuid").is_some_and(|u| u.as_str() > ids.run_uuid.as_str()));
    if newer {
        return Ok(());
    }
    // The folder is not there when a power cut took it, which was made by the start.
    state.make_provider_dir(&ids.provider).map_err(|error| match error {
        StateDirError::Disk(error) => error,
        refused => DiskError {
            op: "write to",
            path: state.provider_dir(&ids.provider),
            source: std::io::Error::other(refused),
        },
    })?;
    disk::replace_synced(&state.view(&ids.provider, &ids.beads, "outcome"), outcome(outcome_).bytes())?;
    if let Some(created) = created {
        put(state, ids, "meta", &meta(created, outcome_.started_at, outcome_.blocked.is_some()))?;
        put(state, ids, "contract", &contract(created))?;
    }
    if let Some(exit) = outcome_.exit {
        disk::replace(
            &state.view(&ids.provider, &ids.beads, "rc"),
            format!("{}\n", exit.shell_code()).as_bytes(),
        )?;
    }
    for suffix in ["pid", "monitor.pid", "obs"] {
        disk::remove(&state.view(&ids.provider, &ids.beads, suffix))?;
    }
    disk::sync_dir(&state.provider_dir(&ids.provider))?;
    disk::sync_dir(state.root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_stay_single_lines_and_come_back(value in "(\\PC|[\n\r\\\\=\0])*") {
            let tmp = tempfile::tempdir().unwrap();
            let path = tmp.path().join("x");
            let lines = Lines::default().pair("a", &value).pair("b", "end");
            std::fs::write(&path, lines.bytes()).unwrap();
            let read = read(&path).unwrap();
            prop_assert_eq!(read.get("a"), Some(&value));
            prop_assert_eq!(read.get("b").map(String::as_str), Some("end"));
        }
    }
}
