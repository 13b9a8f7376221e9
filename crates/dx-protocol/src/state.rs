//! The closed set of ten states that people and scripts see.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// State of a job as `status`, `check` and `report` tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Started, no output yet, inside the first-output grace.
    Launching,
    /// CPU progress in the tree, no output past the threshold.
    WaitingFirstOutput,
    /// The worktree changed, no output.
    SilentMutation,
    /// Running with evidence of progress.
    Healthy,
    /// No progress of any kind for the stall threshold.
    Stalled,
    /// No evidence ever: no tool call, no log, no CPU, no mutation.
    NoOp,
    /// Ended with 0 and the provider's own result agrees.
    ExitedOk,
    /// Ended otherwise: failed, stopped, timed out, lost.
    ExitedErr,
    /// Retries are used up, or a person must act.
    Blocked,
    /// No record.
    Missing,
}

impl State {
    /// All states, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Launching,
        Self::WaitingFirstOutput,
        Self::SilentMutation,
        Self::Healthy,
        Self::Stalled,
        Self::NoOp,
        Self::ExitedOk,
        Self::ExitedErr,
        Self::Blocked,
        Self::Missing,
    ];

    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::WaitingFirstOutput => "waiting_first_output",
            Self::SilentMutation => "silent_mutation",
            Self::Healthy => "healthy",
            Self::Stalled => "stalled",
            Self::NoOp => "no_op",
            Self::ExitedOk => "exited_ok",
            Self::ExitedErr => "exited_err",
            Self::Blocked => "blocked",
            Self::Missing => "missing",
        }
    }

    /// Whether the job has an outcome behind it.
    pub fn is_ended(self) -> bool {
        matches!(self, Self::ExitedOk | Self::ExitedErr | Self::Blocked)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Final state in an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeState {
    Success,
    Failed,
    /// Ended by a person's `stop`.
    Killed,
    /// Ended by us for doing nothing.
    NoOp,
}

impl OutcomeState {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::NoOp => "no_op",
        }
    }
}

impl fmt::Display for OutcomeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
