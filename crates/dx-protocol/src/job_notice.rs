//! What `start --notify` is told: one change of a run.
//!
//! Must never hold a secret, nor anything that a reader needs the journal for.

use crate::{BeadsId, OutcomeState, ProviderName, ReasonCode, RunUuid, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobNotice {
    pub schema: String,
    pub beads: BeadsId,
    pub provider: ProviderName,
    /// A restart is another run.
    pub run_uuid: RunUuid,
    pub run_instance: String,
    pub retries: u32,
    /// Grows within a run. The same number again is the same notice again.
    pub number: u64,
    pub at: Timestamp,
    pub change: JobChange,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobChange {
    Running,
    Ended {
        outcome: OutcomeState,
        /// As the outcome has it: decimal, or `-` when nobody saw the end.
        exit_code: String,
        reason_code: ReasonCode,
        message: String,
    },
    /// The watchdog has given it up.
    Blocked {
        reason_code: ReasonCode,
        message: String,
    },
}
