//! The JSON documents that commands print. Types are a promise: fields are added, never changed.

use crate::{ExitCode, Outcome, ReasonCode, Record, Sandbox, State, VerdictWords};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusDocument {
    pub schema: String,
    pub generated_at: String,
    pub jobs: Vec<StatusRow>,
}

/// One job in `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRow {
    pub beads: String,
    pub provider: String,
    /// Decimal, or `-`.
    pub pid: String,
    pub state: State,
    pub reason_code: ReasonCode,
    /// `42s`, `5m`, `2h1m`.
    pub elapsed: String,
    pub log_bytes: u64,
    pub mutation_count: u64,
    pub retry_count: u32,
    /// `-` until the end, then for example `success:0 (600s)`.
    pub outcome: String,
    pub run_instance: String,
    pub host: String,
    pub cwd: String,
    pub worktree: String,
    pub started_at: String,
    pub elapsed_sec: u64,
    pub selected_model: String,
    /// Age in seconds of the observation behind a live row; 0 for ended ones.
    pub sample_age_sec: u64,
    pub ended: bool,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub cost_usd: Option<f64>,
    /// `null` until the end.
    #[serde(default)]
    pub verdicts: Option<VerdictWords>,
}

/// `check --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckDocument {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub state: State,
    pub reason_code: ReasonCode,
    pub next_action: String,
    pub host: String,
    pub cwd: String,
    pub worktree: String,
    pub run_instance: String,
    pub selected_model: String,
    pub fallback_reason: String,
    pub mutation_count: u64,
    pub log_bytes: u64,
    pub cpu_time_sec: u64,
    pub pid_age_sec: u64,
    pub log_age_sec: u64,
    pub verdicts: VerdictWords,
    /// What the agent is confined to.
    #[serde(default)]
    pub sandbox: Sandbox,
    pub ended: bool,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub cost_usd: Option<f64>,
    /// Finished tool calls by name, for ended jobs.
    pub tools: std::collections::BTreeMap<String, u64>,
    /// `null` until the end.
    pub outcome: Option<Outcome>,
    /// How long the start of this run waited for its turn; only when it was started with `--queue`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queued_ms: Option<u64>,
    /// What `--notify` could not be told last, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub notify_failure: Option<String>,
    /// With `--explain`: observation and rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub explain: Option<Explanation>,
}

/// What a state was decided from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The rule that fired.
    pub rule: String,
    /// The observation, one `name=value` per fact.
    pub observation: Vec<String>,
}

/// What a mutating command did to one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionDocument {
    pub schema: String,
    /// `start`, `stop`, `restart`, `finalize`.
    pub action: String,
    pub beads: String,
    pub provider: String,
    pub run_instance: String,
    pub run_uuid: String,
    pub pid: String,
    pub state: State,
    pub reason_code: ReasonCode,
    pub log: String,
    pub worktree: String,
    pub selected_model: String,
    /// `false` when there was nothing to do.
    pub changed: bool,
    pub next_action: String,
    /// What the caller should know, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How long the start waited for its turn; only with `--queue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
}

/// `stop --all --json` and the like: one entry per job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionsDocument {
    pub schema: String,
    pub actions: Vec<ActionDocument>,
}

/// `start --dry-run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DryRunDocument {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub argv: Vec<String>,
    pub cwd: String,
    pub env_names: Vec<String>,
    pub prompt_channel: String,
    pub prompt_bytes: u64,
    pub selected_model: String,
    pub fallback_reason: String,
    pub worktree: String,
    pub files: Vec<String>,
    #[serde(default)]
    pub sandbox: Sandbox,
    /// With `--queue`: for whom it would wait now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePlace>,
}

/// Where a start stands among those that want to run under one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueuePlace {
    /// 0: it need not wait.
    pub position: u64,
    /// `null`: the provider has no cap.
    pub cap: Option<u64>,
    /// Ids of the jobs that run.
    pub running: Vec<String>,
    /// Ids of those that wait before it; `-` for one whose id is made at its start.
    pub waiting: Vec<String>,
}

/// `prune --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneDocument {
    pub schema: String,
    pub checked: u64,
    pub pruned: u64,
    /// What was done, a line each.
    pub details: Vec<String>,
}

/// One line of `events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLine {
    pub schema: String,
    pub beads: String,
    pub provider: String,
    pub run_instance: String,
    pub record: Record,
}

/// `providers --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProvidersDocument {
    pub schema: String,
    pub providers: Vec<ProviderRow>,
}

/// One provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderRow {
    pub name: String,
    pub description: String,
    pub lanes: Vec<String>,
    /// Path of the program, `-` when there is none or it is not found.
    pub binary: String,
    pub prompt_channel: String,
    /// Concurrency cap, `null` when there is none.
    pub cap: Option<u64>,
    /// Names of caller's variables that reach the agent.
    pub env: Vec<String>,
    /// `built-in`, or the place in the configuration, or the adapter script.
    #[serde(default)]
    pub origin: String,
    /// Syntax of the output.
    #[serde(default)]
    pub grammar: crate::Grammar,
    /// Models that may be asked for; empty for all.
    #[serde(default)]
    pub allowed_models: Vec<String>,
    /// Variables that can hold credentials, in the order in which they are looked for.
    #[serde(default)]
    pub credentials: Vec<String>,
    /// Versions of the program that dx-runner was tested with, by their beginnings; empty when it is not asked.
    #[serde(default)]
    pub tested_versions: Vec<String>,
}

/// Result of one check of `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    Warn,
    Error,
}

/// `doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorDocument {
    pub schema: String,
    pub checks: Vec<DoctorRow>,
}

/// One line of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorRow {
    pub name: String,
    pub level: Level,
    pub found: String,
    /// `-` when all is well.
    pub next_action: String,
}

/// `exit-codes --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitCodesDocument {
    pub schema: String,
    pub exit_codes: Vec<ExitCodeRow>,
}

/// One exit code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitCodeRow {
    pub code: u8,
    pub name: String,
    pub meaning: String,
}

impl ExitCodeRow {
    /// The whole table.
    pub fn all() -> Vec<Self> {
        let row = |c: &ExitCode| Self {
            code: c.code(),
            name: c.name().to_owned(),
            meaning: c.meaning().to_owned(),
        };
        ExitCode::ALL.iter().map(row).collect()
    }
}

/// What every command prints on standard error when it fails with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDocument {
    pub schema: String,
    pub error: ErrorBody,
}

/// The error itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub reason_code: ReasonCode,
    pub message: String,
    pub causes: Vec<String>,
    pub next_action: String,
    pub exit_code: u8,
}
