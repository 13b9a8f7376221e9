//! The documents of `report`, `history query` and `bundle`. Types are a promise: fields are added, never changed.

use crate::{GateVerdict, HistoryLine, ReasonCode, State, Usage, VerdictWords, WorkReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `report --beads ID --format json`: one run of a job, and the job's other runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportDocument {
    pub schema: String,
    pub generated_at: String,
    pub beads: String,
    pub provider: String,
    pub state: State,
    pub reason_code: ReasonCode,
    pub started_at: String,
    /// Whole seconds, of a live run until now.
    pub duration_sec: String,
    pub retries: u64,
    /// Decimal, or `-`.
    pub exit_code: String,
    /// `-` until the end.
    pub outcome_state: String,
    pub selected_model: String,
    pub fallback_reason: String,
    /// `detached`, `pty-detached`, …; of other programs' records what they say.
    pub execution_mode: String,
    pub host: String,
    pub cwd: String,
    pub run_instance: String,
    pub worktree: String,
    pub provider_switch_from: String,
    pub mutations: u64,
    pub log_bytes: u64,
    pub cpu_time_sec: u64,
    pub pid_age_sec: u64,
    /// `-` until the end.
    pub completed_at: String,
    /// Commit ids since the start, newest first.
    pub commits: Vec<String>,
    /// Paths changed since the start, sorted.
    pub files_changed: Vec<String>,
    pub usage: Usage,
    /// Finished tool calls by name.
    pub tools: BTreeMap<String, u64>,
    pub verdicts: VerdictWords,
    /// All runs of the id that are known, oldest first, this one included.
    pub attempts: Vec<ReportAttempt>,
    pub next_action: String,
    /// Number of this run among the attempts, from 1.
    pub run: u64,
    pub run_uuid: String,
    pub ended: bool,
    /// What a person gave as reason, or what the agent said of its error; `-` when nothing.
    pub detail: String,
    /// Processes that outlived the agent and were ended.
    pub strays: u64,
    /// Processes that a tool in a shared server left and that go on there: they may be another session's.
    #[serde(default)]
    pub strays_left: u64,
    /// All about the work; `null` until the end, and when it was never looked at.
    pub work: Option<WorkReport>,
    /// Gates and checks at the end.
    pub gates: Vec<GateVerdict>,
    /// Lines added and removed per file, in the worktree as it is now; `null` when git was not or could not be asked.
    pub diff_stat: Option<Vec<ReportFile>>,
    /// Files that differ now and are not in the run's record: their names are not told.
    #[serde(default)]
    pub diff_stat_left_out: u64,
    /// What happened, in order. Of a long run the middle is left out, and a row says so.
    pub timeline: Vec<ReportStep>,
    /// Of the record itself, what somebody should know who relies on it.
    pub record: ReportRecord,
}

/// One run of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAttempt {
    /// From 1, the oldest.
    pub run: u64,
    pub run_instance: String,
    pub run_uuid: String,
    pub provider: String,
    /// Outcome state; the job's state while it lives.
    pub state: String,
    pub reason_code: String,
    pub exit_code: String,
    pub selected_model: String,
    pub started_at: String,
    pub completed_at: String,
    pub duration_sec: u64,
    pub retries: u64,
}

/// Lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportFile {
    pub path: String,
    pub added: u64,
    pub removed: u64,
    pub binary: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportStep {
    pub at: String,
    pub what: String,
    /// Empty when there is no more to say.
    pub detail: String,
}

/// How good a record is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportRecord {
    /// `journal`; `history` when only the line of the history is left; `foreign` when another program wrote it.
    pub source: String,
    /// Monitors that the run had; more than 1 when one was replaced.
    pub monitors: u64,
    /// Records that could not happen where they stood.
    pub illegal_records: u64,
    /// Lines of the journal that could not be read.
    pub skipped_lines: u64,
    /// Bytes that the agent cut from its own log.
    pub lost_log_bytes: u64,
    /// Why the outcome was made without the settler's facts; `-` when it was not.
    pub settle_error: String,
}

/// `report --all --format json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportAllDocument {
    pub schema: String,
    pub generated_at: String,
    /// Only runs that ended after this; `-` for all.
    pub since: String,
    pub total: ReportTotals,
    /// One row per provider, the model being `*`.
    pub providers: Vec<ReportTotals>,
    /// One row per provider and model.
    pub models: Vec<ReportTotals>,
    /// The runs, the last ended first.
    pub runs: Vec<HistoryLine>,
}

/// What some runs add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportTotals {
    /// `*` for all.
    pub provider: String,
    /// `*` for all.
    pub model: String,
    pub runs: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub killed: u64,
    pub no_op: u64,
    /// Succeeded runs among all, 0 to 1; `null` without a run.
    pub success_rate: Option<f64>,
    /// Half of the runs took no longer.
    pub duration_p50_sec: u64,
    /// 95 of 100 runs took no longer.
    pub duration_p95_sec: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    /// `null` when no agent told a cost.
    pub cost_usd: Option<f64>,
    pub mutations: u64,
    pub commits: u64,
}

/// `history query --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryQueryDocument {
    pub schema: String,
    pub columns: Vec<String>,
    /// One list of values per row, in the order of the columns.
    pub rows: Vec<Vec<HistoryValue>>,
}

/// A value of a query's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HistoryValue {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

/// `bundle --json`, and `manifest.json` inside the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BundleDocument {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub run_instance: String,
    /// Version of the program that made it.
    pub program: String,
    /// Where it was written; the file's name alone inside the bundle.
    pub file: String,
    pub contents: Vec<BundleEntry>,
    /// What is not in it on purpose, and why.
    pub left_out: Vec<String>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BundleEntry {
    pub path: String,
    pub bytes: u64,
    /// Of the content as it is in the bundle.
    pub sha256: String,
    /// Bytes that were left out in the middle because the file is long.
    pub cut_bytes: u64,
}
