//! Documents of `preflight` and `probe`: whether a provider could run a job here and now.

use crate::{Level, ReasonCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `preflight --json`, and `probe --json` with one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreflightDocument {
    pub schema: String,
    /// Whether no check is an error.
    pub passed: bool,
    /// Whether warnings were taken for errors.
    pub strict: bool,
    pub checks: Vec<PreflightRow>,
}

/// One check of one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreflightRow {
    pub provider: String,
    /// `binary`, `version`, `credentials`, `model`, `lane`, `worktree`, `live`, or one of the provider's own.
    pub check: String,
    pub level: Level,
    /// `null` when all is well.
    pub code: Option<ReasonCode>,
    pub found: String,
    /// `-` when all is well.
    pub next_action: String,
}
