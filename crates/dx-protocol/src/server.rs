//! The JSON documents about OpenCode servers. Types are a promise: fields are added, never changed.

use crate::ReasonCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `probe-attach --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeAttachDocument {
    pub schema: String,
    pub url: String,
    /// `ok` or `failed`.
    pub status: String,
    pub exit_code: u8,
    pub reason_code: ReasonCode,
    /// `-` when it is not known.
    pub version: String,
    /// For people.
    pub details: String,
    pub next_action: String,
}

/// `server start|status|stop --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerDocument {
    pub schema: String,
    /// `running`, `unhealthy` or `stopped`.
    pub status: String,
    /// `-` when there is none.
    pub url: String,
    pub version: String,
    /// The job that it runs as, `-` when there is none.
    pub beads: String,
    pub provider: String,
    pub pid: String,
    /// Where its password is; only its owner can read that.
    pub file: String,
    pub log: String,
    /// `false` when there was nothing to do.
    pub changed: bool,
    pub details: String,
}

/// `models --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelsDocument {
    pub schema: String,
    /// The server that was asked.
    pub url: String,
    pub providers: Vec<ModelProviderRow>,
}

/// One model provider of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelProviderRow {
    pub id: String,
    pub name: String,
    /// Whether it has the credentials it needs.
    pub connected: bool,
    pub models: Vec<ModelRow>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelRow {
    pub id: String,
    pub name: String,
}

/// `routes --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoutesDocument {
    pub schema: String,
    /// The server that was asked with `--check`, else `-`.
    pub url: String,
    pub routes: Vec<RouteRow>,
}

/// Which model is asked for one type of task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteRow {
    pub task_type: String,
    /// From 1, the cheapest.
    pub tier: u64,
    pub provider: String,
    pub model: String,
    /// `built in` or `configuration`.
    pub source: String,
    /// Whether the server offers it; `null` without `--check`.
    pub available: Option<bool>,
    /// What the server offers instead, `-` when nothing or not needed.
    pub nearest: String,
}

/// `dispatch --json`: an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchDocument {
    pub schema: String,
    /// As `--member` takes it.
    pub member: String,
    pub provider: String,
    pub model: String,
    /// What was special: `routed: T`, `custom-system`, `structured-json`, `timeout-Ns`, `truncated`.
    pub mods: Vec<String>,
    pub answer: String,
    /// The value, when a schema was asked for.
    pub structured: Option<serde_json::Value>,
    /// Of the whole answer.
    pub chars: u64,
    pub truncated: bool,
    pub duration_ms: u64,
    /// The session that stays, `-` when none does.
    pub session: String,
    /// How often the answer did not fit the schema.
    pub corrections: u32,
    pub retries: u32,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_usd: Option<f64>,
    /// What the caller should know, a sentence each.
    pub warnings: Vec<String>,
}

/// `batch --json` and `batch show --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchDocument {
    pub schema: String,
    pub id: String,
    /// `running`, `ended`, or `interrupted` when its program died.
    pub status: String,
    pub started_at: String,
    pub prompt: String,
    pub mods: Vec<String>,
    pub members: Vec<BatchMember>,
    /// Only checked answers.
    pub success: u64,
    pub errors: u64,
    pub timeouts: u64,
    pub wall_ms: u64,
    /// Of the slowest member.
    pub slowest_ms: u64,
    /// So many answers were wanted.
    pub quorum: u64,
    pub reason_code: ReasonCode,
    pub exit_code: u8,
    /// Who gave no answer, and why.
    pub missing: Vec<String>,
    /// For answers with a schema, by field.
    pub agreement: Vec<FieldAgreement>,
    /// With `--compare`: members whose answers are the same.
    pub groups: Vec<Vec<String>>,
    /// With `--judge`.
    pub verdict: Option<JudgeVerdict>,
}

/// One member of a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchMember {
    /// As `--members` takes it.
    pub member: String,
    pub provider: String,
    pub model: String,
    /// `running`, `ok`, `timeout` or `error`.
    pub status: String,
    /// Why there is no answer; `null` for an answer.
    pub reason_code: Option<ReasonCode>,
    pub message: String,
    pub next_action: String,
    pub duration_ms: u64,
    pub answer: String,
    pub structured: Option<serde_json::Value>,
    pub truncated: bool,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub cost_usd: Option<f64>,
}

/// How far answers agree on one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldAgreement {
    pub field: String,
    pub unanimous: bool,
    /// How often each value was given.
    pub values: std::collections::BTreeMap<String, u64>,
}

/// What a judge said of the answers, which it was shown twice, in opposite orders and without names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JudgeVerdict {
    pub judge: String,
    /// The best member, `-` when the judge named none that counts.
    pub winner: String,
    /// Whether both orders had the same winner.
    pub consistent: bool,
    /// The mean of both rounds, by member.
    pub scores: std::collections::BTreeMap<String, f64>,
    pub reasons: Vec<String>,
    /// Why there is no winner, `-` when there is one.
    pub problem: String,
    /// Why there is no verdict; `null` for one, also for one without a winner.
    #[serde(default)]
    pub reason_code: Option<ReasonCode>,
}
