//! The phases of the progressive benchmark: what is kept of each, and the answer of a call.

use crate::ReasonCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of thing that keeps a phase from passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchFault {
    /// The model is not offered, or not allowed.
    ModelUnavailable,
    /// Something that the jobs need is not there; nothing was run.
    PreflightFailed,
    /// A job ran into a limit of time.
    StalledRun,
    /// HEAD does not contain the required commit; nothing was run.
    BaselineGateFailed,
    /// The reported commit is not on the branch.
    IntegrityGateFailed,
    /// A job changed what its prompt does not allow.
    ScopeDriftFailed,
}

impl BenchFault {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelUnavailable => "model_unavailable",
            Self::PreflightFailed => "preflight_failed",
            Self::StalledRun => "stalled_run",
            Self::BaselineGateFailed => "baseline_gate_failed",
            Self::IntegrityGateFailed => "integrity_gate_failed",
            Self::ScopeDriftFailed => "scope_drift_failed",
        }
    }
}

/// Where a phase stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchPhaseState {
    /// Begun, and not ended: it runs, or was interrupted or killed.
    Begun,
    Passed,
    Failed,
}

/// A phase of the progressive benchmark, as it went the last time on a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchPhase {
    pub phase: String,
    /// The commit that it is about: the required one, else HEAD of the repository; `-` outside of one.
    pub baseline: String,
    /// Its run, a folder of this name beside that of the state.
    pub run_id: String,
    pub state: BenchPhaseState,
    /// Share of the jobs that must succeed.
    pub minimum: f64,
    pub succeeded: u64,
    /// Planned jobs without the warm-up; 0 when none was run.
    pub of: u64,
    pub reason_code: ReasonCode,
    /// What kept it from passing, where it is of a kind that has a name.
    pub faults: Vec<BenchFault>,
    pub details: String,
}

/// `progressive/state.json`: the last of each phase on each commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchProgress {
    pub schema: String,
    pub phases: Vec<BenchPhase>,
}

/// The answer of `bench progressive --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchProgressiveDocument {
    pub schema: String,
    /// The folder of all runs.
    pub out: String,
    pub baseline: String,
    pub passed: bool,
    pub reason_code: ReasonCode,
    pub exit_code: i32,
    pub next_action: String,
    /// Those that this call ran, in their order.
    pub phases: Vec<BenchPhase>,
}
