//! What a benchmark of the lanes writes: its plan, a record for each job, and what they add up to.

use crate::{GateDocument, OutcomeState, ReasonCode, Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `manifest.json`: what is run, in which order, on what. Written before anything is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchManifest {
    pub schema: String,
    /// `-` in a dry run that was given none.
    pub run_id: String,
    /// When the run began; not in a plan that is only shown, nor in that of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// Version of dx-runner.
    pub program: String,
    /// Version of each agent's program by provider, as it tells it; `-` when it tells none.
    pub agents: BTreeMap<String, String>,
    pub host: String,
    pub os: String,
    pub cores: u64,
    /// Commit of the repository that the benchmark was called in; `-` outside of one.
    pub commit: String,
    /// Version of the file of prompts, and a SHA-256 of its content.
    pub prompts_version: u32,
    pub prompts_sha256: String,
    pub workflows: Vec<BenchWorkflow>,
    pub prompts: Vec<BenchPrompt>,
    pub rounds: u32,
    pub parallel: u32,
    pub max_retries: u32,
    pub timeout_sec: u64,
    /// The gates of the run. One that was not asked for may be added when it goes on; none is taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_baseline: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Further versions of agents' programs that the run went on with, by provider, in their order: it mixes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub later_agents: BTreeMap<String, Vec<String>>,
    /// Host and port of the OpenCode server that `OPENCODE_URL` named for the lanes of a server; without it each had its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opencode_url: Option<String>,
    /// All jobs, in the order in which they are begun. Those of round 0 warm up and are in no figure.
    pub jobs: Vec<BenchPlanned>,
}

/// A lane of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BenchWorkflow {
    pub name: String,
    /// The program behind it: `opencode`, `cc-glm`, `claude-code`, `gemini`, `codex`.
    pub system: String,
    pub lane: String,
    /// As asked for; `-` for the provider's own choice.
    pub model: String,
}

/// A prompt, as the manifest names it; its text is in the file of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BenchPrompt {
    pub id: String,
    pub category: String,
    pub title: String,
    /// Its answer is judged by running a check.
    pub checked: bool,
}

/// One job to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BenchPlanned {
    /// Names the job within the run: `r1-latency-opencode_run_headless`.
    pub job: String,
    pub workflow: String,
    pub prompt: String,
    /// From 1; 0 for the warm-up.
    pub round: u32,
}

/// A line of `records.ndjson`: one job and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchRecord {
    pub schema: String,
    pub run_id: String,
    pub job: String,
    pub workflow: String,
    pub system: String,
    pub prompt: String,
    pub category: String,
    pub round: u32,
    /// Id of the job's last attempt; `-` when none was started.
    pub beads: String,
    pub run_uuid: String,
    pub started_at: String,
    /// Since the run began, for the picture of its lanes; of the last attempt.
    pub began_ms: u64,
    pub ended_ms: u64,
    /// From the call of the start until the agent's program ran. Times are those of the last attempt.
    pub startup_ms: Option<u64>,
    /// From the call of the start until the model's first word or tool was in the log.
    pub first_output_ms: Option<u64>,
    /// From the call of the start until the agent's process was gone.
    pub completion_ms: Option<u64>,
    pub success: bool,
    pub retries: u32,
    /// `null` for a success.
    pub failure: Option<BenchFailure>,
    pub outcome_state: Option<OutcomeState>,
    /// Of all attempts: what failed was paid for, too.
    pub usage: Usage,
    /// The attempts before the last one, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<BenchAttempt>,
    /// Whether the prompt's check passed; `null` without one, or when it could not run.
    pub check_passed: Option<bool>,
    /// Reported only: a word is no proof.
    pub hints_found: u32,
    pub hints_of: u32,
    /// Highest sum of resident memory of the agent's processes that was seen.
    pub memory_peak_kib: Option<u64>,
    pub session: Option<String>,
    pub model: String,
    /// The model was not the one asked for, or, where none was asked for, not the provider's preferred one.
    pub fallback_model: bool,
    /// Version of the agent's program, as it told before the jobs; `null` for a job that an earlier call began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub answer_chars: u64,
}

/// An attempt of a job that failed and was followed by another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchAttempt {
    /// Since the run began.
    pub began_ms: u64,
    pub ended_ms: u64,
    pub usage: Usage,
    pub failure: Option<BenchFailure>,
}

/// Why a job was no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BenchFailure {
    pub category: BenchCategory,
    pub reason_code: ReasonCode,
    pub detail: String,
}

/// Whose failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchCategory {
    /// Ours: the job could not be run or its end was not seen.
    Harness,
    /// The model, or who serves it.
    Model,
    /// The machine, its network, its credentials, its programs.
    Env,
}

impl BenchCategory {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Harness => "harness",
            Self::Model => "model",
            Self::Env => "env",
        }
    }
}

/// A share with its interval at 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchShare {
    pub count: u64,
    pub of: u64,
    pub rate: f64,
    pub low: f64,
    pub high: f64,
}

/// A quantile with its interval at 95 %; milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchEstimate {
    pub value: f64,
    /// `null`: so few values give no bound on this side.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Number of values.
    pub of: u64,
}

/// How many times as long the one took as the other, with its interval at 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchRatio {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Number of pairs.
    pub of: u64,
    /// The interval leaves out 1.
    pub differs: bool,
}

/// `summary.json`: the figures. Only successes have latencies; the warm-up is in nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchSummary {
    pub schema: String,
    pub run_id: String,
    pub jobs: u64,
    /// Planned and without a record.
    pub missing: u64,
    pub workflows: Vec<BenchFigures>,
    pub systems: Vec<BenchFigures>,
    pub failures: Vec<BenchFailures>,
    pub matrix: Vec<BenchCell>,
    /// Completion latency of each two workflows on the same prompts and rounds.
    pub comparisons: Vec<BenchComparison>,
    /// Gates that refused the run, of which there are no figures then, or failed it in the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_gates: Vec<BenchGate>,
}

/// The figures of a workflow, or of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchFigures {
    pub name: String,
    pub success: BenchShare,
    /// Jobs that needed a second attempt.
    pub retried: BenchShare,
    pub startup_p50: Option<BenchEstimate>,
    pub first_output_p50: Option<BenchEstimate>,
    pub first_output_p95: Option<BenchEstimate>,
    pub completion_p50: Option<BenchEstimate>,
    pub completion_p95: Option<BenchEstimate>,
    pub usage: Usage,
    pub memory_peak_kib: Option<u64>,
    /// Number of jobs whose memory was seen; not that of one that was taken up after its benchmark was killed.
    #[serde(default)]
    pub memory_of: u64,
    /// Share of the hints that were in answers; `null` without hints.
    pub hint_ratio: Option<f64>,
    /// Jobs that ran on another model than the one asked for or preferred.
    #[serde(default)]
    pub fallbacks: u64,
}

/// How often something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BenchFailures {
    pub workflow: String,
    pub category: BenchCategory,
    pub reason_code: ReasonCode,
    pub count: u64,
}

/// A prompt in a workflow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchCell {
    pub prompt: String,
    pub workflow: String,
    pub success: BenchShare,
    pub completion_p50_ms: Option<f64>,
}

/// Two workflows on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchComparison {
    pub a: String,
    pub b: String,
    /// Completion of `b` over that of `a`; `null` with fewer than six pairs in which both succeeded.
    pub completion: Option<BenchRatio>,
    pub success_differs: bool,
}

/// `governance_report.json`, and the answer of `bench run --json`: what was asked of the run and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchDocument {
    pub schema: String,
    pub run_id: String,
    /// The folder with all files.
    pub out: String,
    pub passed: bool,
    pub reason_code: ReasonCode,
    pub exit_code: i32,
    pub next_action: String,
    /// Preflight, baseline, integrity, in this order; without those that were not asked for or not reached.
    pub gates: Vec<BenchGate>,
    pub summary: Option<BenchSummary>,
}

/// What a gate said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchGate {
    pub name: String,
    pub passed: bool,
    pub reason_code: ReasonCode,
    pub details: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<GateDocument>,
}
