//! The documents of waves: plan, state, list.

use crate::{AttemptVerdict, GateVerdict, ItemState, MergeConflict, ReasonCode, Timestamp, WavePlan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `wave plan --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WavePlanDocument {
    pub schema: String,
    pub file: String,
    /// Ids by layer: an item's needs are all in layers before its own.
    pub layers: Vec<Vec<String>>,
    pub plan: WavePlan,
    /// Open issues of Beads that are no items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<WaveLeftOut>,
}

/// An open issue that is no item of a wave from Beads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveLeftOut {
    pub id: String,
    pub why: String,
}

/// How a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaveState {
    /// A coordinator works on it.
    Running,
    /// No coordinator does, and it has not ended: `wave resume`.
    Interrupted,
    /// All items are done.
    Done,
    /// Some are.
    Partial,
    /// None is.
    Failed,
}

impl WaveState {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }

    pub fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Partial | Self::Failed)
    }
}

/// `wave status --json`, `wave report --json`, `wave run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaveDocument {
    pub schema: String,
    pub generated_at: Timestamp,
    pub wave_id: String,
    pub name: String,
    pub state: WaveState,
    pub repo: String,
    pub base: String,
    pub file: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub elapsed_sec: u64,
    /// Closed items, and all.
    pub closed: u32,
    pub total: u32,
    /// What is left, from how long closed items took; `null` while nothing is known.
    pub estimate_sec: Option<u64>,
    /// All pools that could go on are parked until then.
    pub waits_until: Option<Timestamp>,
    pub items: Vec<WaveItemRow>,
    pub merged: Option<WaveMerge>,
    /// A person asked for its end.
    #[serde(default)]
    pub cancelled: bool,
    /// The newest notice of `--notify` that could not be delivered, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_failure: Option<String>,
    /// The newest state that could not be written back to Beads, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_back_failure: Option<String>,
    pub next_action: String,
}

/// What became of `merge_into`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveMerge {
    pub branch: String,
    /// `null` when it was not moved.
    pub commit: Option<String>,
    pub conflicts: Vec<MergeConflict>,
    /// Why the branch was not moved.
    pub message: String,
}

/// One item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaveItemRow {
    pub id: String,
    pub needs: Vec<String>,
    pub state: ItemState,
    pub reason_code: Option<ReasonCode>,
    pub message: String,
    /// Those that count: not those whose provider took nothing, which stand in the history.
    pub attempts: u32,
    pub max_attempts: u32,
    /// Of the newest attempt; of an item that was never begun the first of its chain.
    pub provider: String,
    pub model: String,
    pub base: Option<String>,
    pub branch: String,
    pub commit: Option<String>,
    pub worktree: Option<String>,
    pub elapsed_sec: u64,
    /// What check, gates or review found last.
    pub findings: Vec<String>,
    /// Integrity, commit and scope of the whole item, as looked at last.
    pub gates: Vec<GateVerdict>,
    /// What is no verdict and must be seen: branches of others that moved meanwhile, work that no commit can hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its job as it is now, while one lives.
    pub job: Option<WaveJob>,
    pub history: Vec<WaveAttempt>,
}

/// A live job of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveJob {
    pub state: String,
    pub reason_code: ReasonCode,
}

/// One attempt of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveAttempt {
    pub attempt: u32,
    pub provider: String,
    pub run_uuid: Option<String>,
    /// `null` while it runs.
    pub verdict: Option<AttemptVerdict>,
    pub reason_code: Option<ReasonCode>,
    pub exit_code: Option<String>,
    pub review: Option<String>,
}

/// `wave list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WavesDocument {
    pub schema: String,
    /// Newest first.
    pub waves: Vec<WaveRow>,
    /// Those whose journal cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<WaveDamaged>,
}

/// A wave of which no more than this is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct WaveDamaged {
    pub wave_id: String,
    pub why: String,
    /// A newer version wrote it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub newer: bool,
}

/// A wave in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveRow {
    pub wave_id: String,
    pub name: String,
    pub state: WaveState,
    pub closed: u32,
    pub total: u32,
    pub started_at: Timestamp,
    pub repo: String,
}
