//! Waves: what is to be done, and the journal of one wave from which its state is folded.
//!
//! The journal's first record holds the whole plan, so that a wave goes on whatever becomes of its file. One writer at a
//! time, the holder of the lock on the journal itself: the coordinator.

use crate::{
    BeadsId, GateVerdict, Identity, ProviderName, QuotaPool, ReasonCode, RunUuid, SandboxMode, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Schema word of a wave journal's first record.
pub const WAVE_JOURNAL_SCHEMA: &str = "dx-runner/wave-journal/1";
/// Highest version of it that this program reads.
pub const WAVE_JOURNAL_VERSION: u32 = 1;

/// A wave as its file says, with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WavePlan {
    pub name: String,
    /// A folder in the repository, absolute.
    pub repo: String,
    /// What items without needs start from: as it was named in a plan, the commit in a journal.
    pub base: String,
    pub max_parallel: u32,
    /// After the first item that did not end well nothing new is begun.
    pub fail_fast: bool,
    /// The branch that gets everything at the end.
    pub merge_into: Option<String>,
    /// In the order of the file.
    pub items: Vec<WaveItem>,
}

/// A node of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveItem {
    /// The id of its job, its worktree and its branch.
    pub id: BeadsId,
    pub needs: Vec<BeadsId>,
    /// The one that is tried first, and those that take its place.
    pub providers: Vec<ProviderName>,
    /// In the words of the first provider; the others take their own.
    pub model: Option<String>,
    pub profile: Option<String>,
    /// The command of `exec`.
    pub command: Vec<String>,
    pub sandbox: Option<SandboxMode>,
    pub scope: Vec<String>,
    pub check: Option<String>,
    pub require_commit: bool,
    pub review: Option<WaveReview>,
    /// All runs of the item count.
    pub max_attempts: u32,
    /// Where the prompt was read; `-` when it stands in the file, `bd` when it is an issue's, `none` when there is none.
    pub prompt_file: String,
    pub prompt_bytes: u64,
    /// The item is a unit of a task's plan: its work is the unit's agents and tests, each a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<WaveUnit>,
}

/// A unit of a task's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveUnit {
    /// `001-plan/01-unit`.
    pub task: String,
    /// Of the specification that was approved.
    pub spec_sha256: String,
    /// Of the plan.
    pub attempt: u32,
    /// Its work from an attempt before; nothing more is done then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Models by agent, in the place of the item's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, String>,
    #[serde(default)]
    pub allow_model_override: bool,
}

/// A second opinion on an item's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveReview {
    pub provider: ProviderName,
    pub model: Option<String>,
    pub profile: Option<String>,
    /// The command of `exec`.
    pub command: Vec<String>,
    pub prompt_file: String,
}

/// Where an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    /// Waits for its needs, or for a place.
    Pending,
    /// Its agent works.
    Running,
    /// Its agent has ended; check and gates are looking.
    Checking,
    /// A review looks.
    Reviewing,
    /// Check or review wants another attempt, which gets the findings.
    Revision,
    Done,
    Failed,
    /// A person must act.
    Blocked,
    /// What it needs did not get done, or the wave was told to stop at the first failure.
    Skipped,
    Cancelled,
}

impl ItemState {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Checking => "checking",
            Self::Reviewing => "reviewing",
            Self::Revision => "revision",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens to it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Blocked | Self::Skipped | Self::Cancelled)
    }
}

impl std::fmt::Display for ItemState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a review says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReviewVerdict {
    Approved,
    RevisionRequired,
    Blocked,
}

/// What an attempt's end means for its item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptVerdict {
    /// Job, check and gates are content.
    Passed,
    /// Another attempt may mend it.
    Revise,
    /// This provider cannot do it now; the next one of the chain may.
    Fallback,
    /// No attempt can mend it.
    Failed,
    /// A person ended the job.
    Cancelled,
}

/// The first record of a wave journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WaveCreated {
    /// [`WAVE_JOURNAL_SCHEMA`].
    pub schema: String,
    pub version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    pub wave_id: String,
    /// The wave file; `-` when there was none.
    pub file: String,
    /// Working directory of the caller.
    pub cwd: String,
    /// `--notify`, a command or an address; never with a secret in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// Whether states of items are written to the issues of Beads that they came from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub write_back: bool,
    /// The coordinator ends when everything that is left waits for a parked provider.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exit_when_parked: bool,
    pub plan: WavePlan,
}

/// One line of a wave journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaveRecord {
    pub at: Timestamp,
    pub event: WaveEvent,
}

/// What happened to a wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WaveEvent {
    Created(Box<WaveCreated>),
    /// A coordinator took the wave up.
    Coordinator {
        process: Identity,
        resumed: bool,
    },
    /// An attempt is decided; nothing of it exists before this is on disk.
    Attempt {
        item: BeadsId,
        attempt: u32,
        provider: ProviderName,
        base: String,
    },
    /// Its job runs.
    Started {
        item: BeadsId,
        attempt: u32,
        run: RunUuid,
        worktree: String,
        model: String,
    },
    /// Its job could not be started; no agent ran.
    Refused {
        item: BeadsId,
        attempt: u32,
        provider: ProviderName,
        reason: ReasonCode,
        message: String,
        /// When the same may be tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What is parked until then in the ledger of all jobs, which may know better later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<QuotaPool>,
    },
    /// Its job has ended and was looked at.
    Judged {
        item: BeadsId,
        attempt: u32,
        verdict: AttemptVerdict,
        reason: ReasonCode,
        exit_code: String,
        /// What the next attempt shall know.
        findings: Vec<String>,
        /// Everything the item has done so far, as a commit.
        commit: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gates: Vec<GateVerdict>,
        /// What is no verdict and must be seen.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What is parked until then in the ledger of all jobs, which may know better later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<QuotaPool>,
    },
    /// A review is decided.
    Review {
        item: BeadsId,
        attempt: u32,
        round: u32,
    },
    ReviewStarted {
        item: BeadsId,
        attempt: u32,
        round: u32,
        run: RunUuid,
    },
    /// The review has ended; without a verdict nobody could read one.
    Reviewed {
        item: BeadsId,
        attempt: u32,
        round: u32,
        verdict: Option<ReviewVerdict>,
        findings: Vec<String>,
        /// There is none yet: who was asked for it takes nothing before then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// What is parked until then in the ledger of all jobs, which may know better later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<QuotaPool>,
    },
    /// Nothing more happens to the item.
    Closed {
        item: BeadsId,
        state: ItemState,
        reason: ReasonCode,
        message: String,
    },
    /// The ledger of all jobs says something else of what an item waits for: parked until another time, or no more.
    Parked {
        pool: QuotaPool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// A person wants the wave to end.
    Cancelling,
    /// The branch that got everything, or why it did not.
    Merged {
        branch: String,
        commit: Option<String>,
        conflicts: Vec<MergeConflict>,
        /// Why the branch was not moved.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
    },
    /// All items are closed.
    Ended,
    /// Written by a newer minor version; kept, without effect here.
    #[serde(other)]
    Unknown,
}

impl WaveEvent {
    /// The item that it is about.
    pub fn item(&self) -> Option<&BeadsId> {
        match self {
            Self::Attempt { item, .. }
            | Self::Started { item, .. }
            | Self::Refused { item, .. }
            | Self::Judged { item, .. }
            | Self::Review { item, .. }
            | Self::ReviewStarted { item, .. }
            | Self::Reviewed { item, .. }
            | Self::Closed { item, .. } => Some(item),
            Self::Created(_)
            | Self::Coordinator { .. }
            | Self::Parked { .. }
            | Self::Cancelling
            | Self::Merged { .. }
            | Self::Ended
            | Self::Unknown => None,
        }
    }

    /// Whether it is synced before anything follows: what is decided before it is done, and what would be done again.
    pub fn is_durable(&self) -> bool {
        !matches!(
            self,
            Self::Coordinator { .. }
                | Self::Started { .. }
                | Self::ReviewStarted { .. }
                | Self::Parked { .. }
                | Self::Unknown
        )
    }
}

/// Two items whose work does not fit together; or an item and the branch whose own work it does not fit with, which comes
/// first then, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MergeConflict {
    pub items: [String; 2],
    /// Paths with the reason, one a line.
    pub paths: Vec<String>,
}
