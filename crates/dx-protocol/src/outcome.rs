//! What is true after the end: `<id>.outcome`, the last journal record and a line of the ended index have the same content.

use crate::{
    Exit, GateVerdict, OutcomeState, ProcessVerdict, ProviderVerdict, ReasonCode, RunIds, Timestamp, Trouble,
    Usage, Witness, WorkReport,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The outcome of one run; a pure function of its journal and exit file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    pub ids: RunIds,
    pub state: OutcomeState,
    pub reason_code: ReasonCode,
    /// What a person gave as reason, or what the agent said of its error.
    pub detail: String,
    /// Decimal, or `-` when nobody saw the end. 124, 137 and 44 are ours and stand beside the reason that says so.
    pub exit_code: String,
    /// The exit as seen.
    pub exit: Option<Exit>,
    pub witness: Option<Witness>,
    pub started_at: Timestamp,
    pub completed_at: Timestamp,
    pub duration_sec: u64,
    pub retries: u32,
    pub selected_model: String,
    pub fallback_reason: String,
    pub execution_mode: String,
    pub host: String,
    pub cwd: String,
    pub worktree: String,
    pub provider_switch_from: String,
    pub process: ProcessVerdict,
    pub provider_verdict: ProviderVerdict,
    /// What the agent had trouble with, where the reason is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    pub work: WorkReport,
    /// Gates and checks at the end, in the order of their steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateVerdict>,
    pub usage: Usage,
    pub tools: BTreeMap<String, u64>,
    pub log_bytes: u64,
    pub cpu_time_sec: u64,
    /// Processes that outlived the agent and were ended.
    pub strays: u32,
    /// Processes that a tool in a shared server left and that go on there: they may be another session's.
    #[serde(default, skip_serializing_if = "crate::verdict::is_zero")]
    pub strays_left: u32,
    /// Variables whose values were not masked in the output once more, because only processes that had died knew them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmasked: Vec<String>,
    /// Set by [`crate::Event::Blocked`] after the end.
    #[serde(default)]
    pub blocked: Option<ReasonCode>,
}
