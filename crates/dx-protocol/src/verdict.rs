//! The four verdicts on a job, kept apart: what the process did, what the agent says, what work is there, what gates say.

use crate::{ErrorClass, ReasonCode, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the operating system says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessVerdict {
    /// Exit code 0.
    Ok,
    /// Another exit code.
    Failed,
    /// Ended by a signal.
    Signaled,
    /// None of ours was left to see the end.
    Unobserved,
    /// It never ran.
    NotStarted,
    /// Still running, or not judged yet.
    #[default]
    Pending,
    /// The lane has no process of its own.
    NotApplicable,
}

/// What the agent's own structured output says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum ProviderVerdict {
    /// The agent reported a result and no error after it.
    Ok,
    /// The agent reported an error.
    Failed { class: ErrorClass, status: Option<u16>, message: String },
    /// The agent was refused something it needed (and may call that a success).
    Refused { what: String },
    /// The output ended without a result.
    NoResult,
    /// The output has no structure to judge (plain text).
    NotApplicable,
}

/// What the agent's output adds up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderReport {
    pub verdict: ProviderVerdict,
    pub usage: Usage,
    /// Finished tool calls by name.
    pub tools: BTreeMap<String, u64>,
    /// The agent's session, when it told one.
    pub session: Option<String>,
}

/// What changed in the worktree since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkReport {
    /// `false` when the place is not a git worktree or git could not tell.
    pub known: bool,
    /// Paths changed or untracked since start, plus commits since the start HEAD.
    pub mutations: u64,
    /// Commit ids since the start HEAD, newest first, 100 at most.
    pub commits: Vec<String>,
    /// Paths changed since start, 1,000 at most, sorted.
    pub files_changed: Vec<String>,
    /// HEAD at the end.
    pub head: Option<String>,
    /// Hash over HEAD and the dirty paths with their times and sizes, for comparing two looks; empty in outcomes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stamp: String,
}

/// What one gate or check said at the end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateReport {
    pub passed: bool,
    pub reason_code: ReasonCode,
    pub details: String,
}

/// All verdicts as `check --json` and `report` show them; each a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictWords {
    pub process: String,
    pub provider: String,
    pub work: String,
    pub gates: String,
    pub check: String,
}
