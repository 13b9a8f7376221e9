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
