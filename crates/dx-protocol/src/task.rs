//! Tasks on disk: the state beside a specification, and the documents about it.

use crate::{PackFinding, ReasonCode, RunUuid, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// There is no specification.
    Unplanned,
    /// There is one, and nothing was run.
    Planned,
    /// A run has begun and not ended; when nothing runs it, the next run goes on.
    Running,
    Done,
    /// A step failed.
    Failed,
    /// The fix cycle did not help: a person has to decide.
    Escalated,
    /// Nobody could begin or go on: nobody to run, a decision is missing.
    Blocked,
}

impl TaskStatus {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unplanned => "unplanned",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Escalated => "escalated",
            Self::Blocked => "blocked",
        }
    }
}

/// `state.json` beside a specification: what the runner itself saw. Agents never write it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskState {
    pub schema: String,
    pub task: String,
    pub status: TaskStatus,
    /// Of the specification that is, or was, carried out; of a plan, of all its specifications together.
    pub spec_sha256: String,
    /// How often it was begun anew.
    pub attempt: u32,
    #[serde(default)]
    pub approved: Option<TaskApproval>,
    /// Where the agents work.
    #[serde(default)]
    pub worktree: String,
    /// Of a plan: the wave that its units are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// Of a plan that is done: the branch with everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Of a unit that is done: its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub steps: Vec<TaskStep>,
    /// Test commands that the runner ran.
    pub commands: Vec<TaskCommand>,
    pub reason_code: Option<ReasonCode>,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// A user's yes to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskApproval {
    /// Of all its specifications together.
    pub sha256: String,
    pub at: Timestamp,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStepState {
    Running,
    Passed,
    Failed,
}

/// One agent's turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskStep {
    pub agent: String,
    /// 0 is the first, 1 the fix cycle.
    pub round: u32,
    /// The job's id.
    pub job: String,
    /// The provider, or `agy` in the implementer's place.
    #[serde(default)]
    pub by: String,
    pub run_uuid: Option<RunUuid>,
    pub state: TaskStepState,
    pub reason_code: Option<ReasonCode>,
    pub message: String,
    pub changed_paths: Vec<String>,
    /// Those that its role may not write.
    pub violations: Vec<String>,
    /// Its report, below the project.
    pub report: Option<String>,
    /// What a validator's report says.
    pub claims_pass: Option<bool>,
    /// What one should know of it, and what alone fails nothing: tools that its role refused it, files that were not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What git may not tell of, as it was when it began: hashes of files below `.ai`, sizes and times of others that git ignores.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub before: std::collections::BTreeMap<String, String>,
    /// While it runs: what `.ai/context.md` said of `agy` when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agy: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// One run of a test command by the runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCommand {
    pub command: String,
    pub round: u32,
    /// `null`: it did not end in time, or could not be run.
    pub exit_code: Option<i32>,
    /// The end of what it printed.
    pub output: String,
    /// It has begun, and nothing is known of its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub running: bool,
    /// What it changed and nobody's test may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<String>,
    /// As that of a step.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub before: std::collections::BTreeMap<String, String>,
    pub at: Timestamp,
}

/// `task new --json`, `task show --json`, `task approve --json`, `task run --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDocument {
    pub schema: String,
    pub id: String,
    /// Below the project.
    pub path: String,
    pub title: String,
    pub status: TaskStatus,
    /// `null` without a specification.
    pub spec_sha256: Option<String>,
    pub execution: Vec<String>,
    pub test_paths: Vec<String>,
    pub test_commands: Vec<String>,
    /// Of a plan of several units.
    pub units: Vec<TaskUnit>,
    /// Numbers of units: what one needs is in layers before its own.
    pub layers: Vec<Vec<u32>>,
    /// Reports that are there, below the project.
    pub reports: Vec<String>,
    /// Those of attempts that are over, which nothing counts any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_reports: Vec<String>,
    /// The approval is for the specifications as they are now.
    pub approved: bool,
    pub state: Option<TaskState>,
    pub next_action: String,
}

/// A unit of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskUnit {
    pub number: u32,
    pub folder: String,
    pub delivers: String,
    pub needs: Vec<u32>,
    pub parallel_with: Vec<u32>,
    pub status: TaskStatus,
}

/// `task list --json`, `task next --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TasksDocument {
    pub schema: String,
    pub tasks: Vec<TaskRow>,
    /// The one to be run next; `null` when none can be.
    pub next: Option<String>,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskRow {
    pub id: String,
    pub title: String,
    pub status: TaskStatus,
    pub units: u64,
    pub findings: u64,
    /// What stands in the way of running it; `-` when nothing does.
    pub waits_for: String,
}

/// `task check --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskCheckDocument {
    pub schema: String,
    pub tasks: Vec<String>,
    pub findings: Vec<PackFinding>,
}
