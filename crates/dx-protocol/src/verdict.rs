//! The four verdicts on a job, kept apart: what the process did, what the agent says, what work is there, what gates say.

use crate::{ErrorClass, Exit, ReasonCode, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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

impl From<Exit> for ProcessVerdict {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(0) => Self::Ok,
            Exit::Code(_) => Self::Failed,
            Exit::Signal(_) => Self::Signaled,
        }
    }
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

/// An error that an agent was still trying to get over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    pub class: ErrorClass,
    pub status: Option<u16>,
    /// As the agent told it.
    pub message: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the agent was still told {}", self.message)?;
        self.status.map_or(Ok(()), |status| write!(f, " ({status})"))
    }
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
    /// Paths that the system refused a tool to write, 100 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes_refused: Vec<String>,
    /// The output ended while the agent tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// Processes that a server's session had left, and that were ended.
    #[serde(default)]
    pub strays: u32,
    /// Processes that may be another session's of the server as well, and go on.
    #[serde(default, skip_serializing_if = "crate::verdict::is_zero")]
    pub strays_left: u32,
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
    /// Branch at the end; `None` when detached or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Where HEAD is, seen from the start.
    #[serde(default, skip_serializing_if = "HeadMove::is_stay")]
    pub head_move: HeadMove,
    /// The same commits with their subjects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commit_list: Vec<CommitLine>,
    /// How many commits and paths there are in all, when the lists are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// Other branches that moved, were made or deleted while the job ran; 100 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign_refs: Vec<RefChange>,
    /// What a reviewer should know about the repository itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Hash over HEAD and the dirty paths with their times and sizes, for comparing two looks; empty in outcomes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stamp: String,
}

/// Where HEAD is, seen from the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadMove {
    /// The same commit.
    #[default]
    Stay,
    /// A commit that descends from it.
    Forward,
    /// A commit before it.
    Back,
    /// A commit that neither descends from it nor leads to it.
    Aside,
}

impl HeadMove {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it so")]
    fn is_stay(&self) -> bool {
        *self == Self::Stay
    }
}

/// A commit in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommitLine {
    pub id: String,
    /// First line of the message, 200 characters at most.
    pub subject: String,
}

/// Sizes of lists that were cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    pub commits: u64,
    pub files: u64,
}

/// A branch that is not the job's own and changed while the job ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefChange {
    /// For example `refs/heads/main`.
    pub name: String,
    /// `None`: it was made.
    pub was: Option<String>,
    /// `None`: it was deleted.
    pub now: Option<String>,
    /// The job that ran at the same time and whose own branch it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
}

/// Something about the repository that is no verdict but must be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub reason_code: ReasonCode,
    /// What it is about: files, hooks, branches; 100 at most.
    pub names: Vec<String>,
}

/// What one gate or check said at the end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateReport {
    pub passed: bool,
    pub reason_code: ReasonCode,
    pub details: String,
    /// What the command of `--check` ended with by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_exit: Option<i32>,
}

impl GateReport {
    /// A verdict with its reason.
    pub fn new(passed: bool, reason_code: ReasonCode, details: impl Into<String>) -> Self {
        Self { passed, reason_code, details: details.into(), check_exit: None }
    }
}

/// A gate's or check's report with its name, as outcomes hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GateVerdict {
    /// [`GATE_REPOSITORY`], [`GATE_READ_ONLY`], [`GATE_COMMIT`], [`GATE_SCOPE`], [`GATE_FEATURE_KEY`] or [`GATE_CHECK`].
    pub name: String,
    #[serde(flatten)]
    pub report: GateReport,
}

/// The worktree still leads to the repository it led to at the start; told only when it does not.
pub const GATE_REPOSITORY: &str = "repository";
/// `--require-commit`.
pub const GATE_COMMIT: &str = "commit";
/// `--read-only`.
pub const GATE_READ_ONLY: &str = "read_only";
/// `--feature-key`.
pub const GATE_FEATURE_KEY: &str = "feature_key";
/// `--scope`, and all else that is said about changed paths.
pub const GATE_SCOPE: &str = "scope";
/// `--check`.
pub const GATE_CHECK: &str = "check";

/// All verdicts as `check --json` and `report` show them; each a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerdictWords {
    pub process: String,
    pub provider: String,
    pub work: String,
    pub gates: String,
    pub check: String,
}

/// For fields that are mostly left out.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}
