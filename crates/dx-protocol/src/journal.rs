//! The journal of one run: append-only JSON lines, the truth from which everything else is folded.
//!
//! One writer at a time, the holder of the lock on the journal file itself. A line that does not parse is skipped and
//! counted; a type that this version does not know is [`Event::Unknown`].

use crate::{
    AgentEvent, Contract, ExitRecord, GateReport, Identity, JobSpec, Outcome, ProviderReport, ReasonCode,
    RunIds, Timestamp, TreeStart, WorkReport,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schema word of the first record.
pub const JOURNAL_SCHEMA: &str = "dx-runner/journal/1";
/// Highest journal version that this program reads.
pub const JOURNAL_VERSION: u32 = 1;

/// Who wrote a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// `start`, before it hands the lock over.
    Starter,
    Monitor,
    /// A command that found the lock free and all processes dead.
    Settler,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    pub at: Timestamp,
    /// CLOCK_MONOTONIC in milliseconds; comparable within one boot.
    pub mono_ms: u64,
    pub by: Writer,
    pub event: Event,
}

/// The first record of every journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Created {
    /// [`JOURNAL_SCHEMA`].
    pub schema: String,
    pub version: u32,
    /// Version of the program that wrote it.
    pub program: String,
    pub ids: RunIds,
    pub starter: Identity,
    /// Working directory of the caller.
    pub cwd: String,
    /// 0 for a first start, one more with each restart.
    pub retries: u32,
    /// The provider that ran this id before, when it was another one; `-` otherwise.
    pub provider_switch_from: String,
    pub spec: JobSpec,
    pub contract: Contract,
    /// `None` outside git.
    pub tree: Option<TreeStart>,
    /// How long its start waited for its turn; `None` when it did not offer to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
}

/// Why and how a run is being ended by us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ending {
    pub reason: ReasonCode,
    /// Exit code that the outcome shall carry (`finalize`).
    pub exit_code: Option<i32>,
    pub grace_ms: u64,
    /// What a person said.
    pub note: Option<String>,
}

/// A finished step of the settler; a later one of the same step replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Settled {
    /// The whole log parsed again.
    Provider(ProviderReport),
    /// Git asked once at the end.
    Work(WorkReport),
    /// A gate or check, by name.
    Gate { name: String, report: GateReport },
    /// The output may still hold secrets: values of these variables were not known to the one who settled, or a file could
    /// not be written.
    Masking { unresolved: Vec<String>, failed: bool },
    /// What the job's server says that its session does. For the monitor: an observation, and no step of the end.
    Session { event: AgentEvent },
    /// The settler itself failed; the outcome is made without what it would have told.
    Failed { message: String },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Created(Box<Created>),
    /// A monitor took over; `adopted` after another one died.
    MonitorStarted {
        monitor: Identity,
        adopted: bool,
    },
    /// The agent's process exists and runs its program.
    AgentStarted {
        agent: Identity,
    },
    /// What an adapter script told of the job that it left to us.
    AdapterTold {
        selected_model: Option<String>,
        fallback_reason: Option<String>,
        launch_mode: Option<String>,
    },
    /// The agent's program could not be started; nothing ran.
    SpawnFailed {
        errno: i32,
        message: String,
    },
    /// A line of the agent's output that matters, at this byte offset of the log.
    Agent {
        offset: u64,
        event: AgentEvent,
    },
    /// The agent cut its own log; this many bytes are gone.
    LogTruncated {
        lost_bytes: u64,
    },
    /// The process that copied a pseudo-terminal's output died; at most this many bytes may be missing here.
    LogGap {
        offset: u64,
        at_most_bytes: u64,
    },
    /// The journal's budget for agent events is used up; readers parse the log for the rest.
    EventsCapped,
    /// The process that watched the monitor died; a guard watches it now.
    LauncherLost {
        guard: Option<Identity>,
    },
    /// The decision to end the run. Signals follow this record, never precede it.
    Ending(Ending),
    /// The process is gone and the tree is swept; `exit` is `None` when nobody saw it.
    ProcessEnded {
        exit: Option<ExitRecord>,
        /// Why nobody saw it, when nobody did.
        unseen: Option<ReasonCode>,
        strays: u32,
        log_bytes: u64,
        cpu_ms: u64,
        /// The exit code as the file of an adapter script says, when nobody saw the exit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rc_file: Option<i32>,
    },
    Settled(Settled),
    /// The end. Nothing changes the outcome after this.
    Ended(Box<Outcome>),
    /// A watchdog or person marks an ended job.
    Blocked {
        reason: ReasonCode,
        /// What led to it: the look at the job, or why it could not be started again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Written by a newer minor version; kept, without effect here.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// Whether losing this record to a power cut could lose the truth (then it is synced before anything follows).
    pub fn is_durable(&self) -> bool {
        matches!(
            self,
            Self::Created(_)
                | Self::SpawnFailed { .. }
                | Self::ProcessEnded { .. }
                | Self::Ended(_)
                | Self::Blocked { .. }
        )
    }
}
