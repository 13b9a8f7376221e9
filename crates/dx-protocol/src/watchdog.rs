//! What the watchdog tells of a round.

use crate::{ReasonCode, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `watchdog --json`: one document for each round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchdogDocument {
    pub schema: String,
    pub generated_at: Timestamp,
    /// Live jobs that were looked at.
    pub looked_at: u64,
    /// What was done; jobs that were left alone are not among them.
    pub actions: Vec<WatchdogAction>,
}

/// What was done about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchdogDone {
    /// It was ended and started again.
    Restarted,
    /// It was ended and marked: a person must look.
    Blocked,
    /// None of its processes was left; its end was recorded.
    Settled,
    /// Its monitor was gone; it has another one.
    Adopted,
    /// It ended by itself, or somebody else ended or restarted it, before anything was done.
    Overtaken,
    /// Nothing could be done now; the next round tries again.
    Failed,
}

impl WatchdogDone {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restarted => "restarted",
            Self::Blocked => "blocked",
            Self::Settled => "settled",
            Self::Adopted => "adopted",
            Self::Overtaken => "overtaken",
            Self::Failed => "failed",
        }
    }
}

/// One job that something was done about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchdogAction {
    pub beads: String,
    pub provider: String,
    pub done: WatchdogDone,
    pub reason_code: ReasonCode,
    /// The look that led to it, or why something failed.
    pub message: String,
}
