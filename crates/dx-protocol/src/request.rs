//! What others ask of the holder of a run's lock: a file `request.<kind>` in the run's directory, first one wins.

use crate::{ReasonCode, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the request files this program writes.
pub const REQUEST_VERSION: u32 = 1;

/// Ends the job. The file's existence is the request: when its content could not be written (full disk) or read, the
/// defaults apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndRequest {
    pub version: u32,
    pub reason: ReasonCode,
    /// Exit code for the outcome, where the reason carries one of its own.
    pub exit_code: Option<i32>,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: Option<u64>,
    /// Free text of the person who asked (`finalize --reason`).
    pub note: Option<String>,
    pub at: Timestamp,
}

/// The file's suffix of a `stop`.
pub const REQUEST_STOP: &str = "request.stop";
/// The file's suffix of a `finalize`.
pub const REQUEST_FINALIZE: &str = "request.finalize";
