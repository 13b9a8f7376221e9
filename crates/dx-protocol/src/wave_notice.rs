//! What `wave run --notify` is told: one change of a wave or of one of its items.
//!
//! Must never hold a secret, nor anything that a reader needs the journal for.

use crate::{BeadsId, ItemState, ProviderName, ReasonCode, Timestamp, WaveState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveNotice {
    pub schema: String,
    pub wave_id: String,
    pub name: String,
    /// Grows within a wave. The same number again is the same notice again.
    pub number: u64,
    pub at: Timestamp,
    pub change: WaveChange,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum WaveChange {
    Wave {
        state: WaveState,
        /// Closed items, and all.
        closed: u32,
        total: u32,
    },
    Item {
        id: BeadsId,
        state: ItemState,
        attempts: u32,
        /// Of the newest attempt.
        provider: Option<ProviderName>,
        reason_code: Option<ReasonCode>,
        message: String,
    },
}
