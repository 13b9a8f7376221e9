//! What a gate says when it is asked by itself: the verdict, and the facts it was made from.

use crate::{ExitCode, GateReport, ReasonCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schema word of [`GateDocument`].
pub const GATE_SCHEMA: &str = "dx-runner/gate/1";

/// Which gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gate {
    /// The worktree is at an allowed place.
    Permission,
    /// HEAD contains a required commit.
    Baseline,
    /// A reported commit is on the branch.
    Integrity,
    /// Every commit carries the feature's key.
    FeatureKey,
    /// Beads can be used.
    Beads,
    /// Every changed path is allowed.
    Scope,
    /// Every claim of a sign-off is true.
    Evidence,
}

impl Gate {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permission => "permission",
            Self::Baseline => "baseline",
            Self::Integrity => "integrity",
            Self::FeatureKey => "feature-key",
            Self::Beads => "beads",
            Self::Scope => "scope",
            Self::Evidence => "evidence",
        }
    }

    /// Exit code of its command when it fails, whatever the reason.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Permission => ExitCode::PermissionDenied,
            Self::Baseline | Self::Integrity | Self::FeatureKey => ExitCode::Error,
            Self::Beads => ExitCode::BeadsGate,
            Self::Scope => ExitCode::Scope,
            Self::Evidence => ExitCode::Evidence,
        }
    }
}

/// What a gate looked at. Each gate fills in its own fields; the others are not in the document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateFacts {
    /// The place that was asked about; resolved where that was possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// Baseline: the commit that the worktree is on; `-` when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Baseline: the commit that was required, as a full id where it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<String>,
    /// Integrity and feature-key: the branch, `HEAD` when none was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Integrity: the commit that the branch is on; `-` when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Integrity: the commit that was reported, as a full id where it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported: Option<String>,
    /// Feature-key and scope: where the range begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Feature-key: the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_key: Option<String>,
    /// Feature-key: commits that were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_commits: Option<u64>,
    /// Feature-key: commits without the key, newest first, 100 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits_without_key: Option<Vec<String>>,
    /// Scope: paths that changed, plus commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutations: Option<u64>,
    /// Scope: paths that were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_files: Option<u64>,
    /// Scope: paths that are not allowed, 100 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<Vec<String>>,
    /// Evidence: claims whose commands all succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_claims: Option<u64>,
    /// Evidence: claims in the sign-off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_claims: Option<u64>,
    /// Evidence: each claim with what came of it; one row for each command that it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Vec<ClaimRow>>,
    /// Beads: `ok`, `error`, `timeout`, or `-` when it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db_status: Option<String>,
    /// Beads: which store the repository's files name; `-` when they name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_id_local: Option<String>,
    /// Beads: which store `bd` uses there; `-` when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_id_db: Option<String>,
    /// Beads: the external repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_repo: Option<String>,
    /// Beads: the address of its origin; `-` when it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_remote: Option<String>,
}

/// A command that a claim of a sign-off names, or a claim that names none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimRow {
    /// Its line in the file, counted from 1.
    pub line: u64,
    pub text: String,
    /// The command; `-` when there is none.
    pub command: String,
    pub verified: bool,
    /// How that is known, or why it is not.
    pub how: String,
}

/// The answer of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateDocument {
    pub schema: String,
    pub gate: Gate,
    #[serde(flatten)]
    pub report: GateReport,
    /// What to do; `-` when nothing.
    pub next_action: String,
    #[serde(flatten)]
    pub facts: GateFacts,
}

impl GateDocument {
    /// The document of a verdict.
    pub fn new(gate: Gate, report: GateReport, facts: GateFacts) -> Self {
        let next_action = report.reason_code.next_action().to_owned();
        Self { schema: GATE_SCHEMA.to_owned(), gate, report, next_action, facts }
    }

    /// What its command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self.report.reason_code {
            _ if self.report.passed => ExitCode::Ok,
            ReasonCode::BeadsTimeout => ExitCode::Timeout,
            _ => self.gate.exit_code(),
        }
    }
}

/// What `hooks install` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookDocument {
    pub schema: String,
    /// The hook's file.
    pub hook: String,
    /// The hook that was there before, which runs first; `null` when there is none.
    pub kept: Option<String>,
    /// `false` when it was there already; it is written anew all the same.
    pub changed: bool,
}
