//! What the monitor last saw: `<id>.obs`, small, overwritten, never the truth. `status` reads one of these per live job.

use crate::{Identity, Limits, RunIds, Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schema word of the file.
pub const OBSERVATION_SCHEMA: &str = "dx-runner/obs/1";

/// A known reason to be silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wait {
    /// A tool that started has not ended; since this monotonic time.
    Tool { name: String, since_mono_ms: u64 },
    /// The agent retries; until this monotonic time where it said how long.
    Retry { until_mono_ms: Option<u64> },
    /// Rate limited; until this Unix time where it was told, which was then this monotonic one: agents wait by theirs.
    RateLimit {
        until: Option<Timestamp>,
        #[serde(default)]
        until_mono_ms: Option<u64>,
    },
    /// The agent asks a question; or a process reads the terminal since this monotonic time.
    Input {
        what: String,
        #[serde(default)]
        read_since_mono_ms: Option<u64>,
    },
}

/// One observation. Times are CLOCK_MONOTONIC milliseconds of the boot in the identities, less `paused_ms`; 0 means
/// never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    pub schema: String,
    pub ids: RunIds,
    /// When this was written, by CLOCK_MONOTONIC itself.
    pub mono_ms: u64,
    /// When the next one is written at the latest, by the same clock; 0: not known. After that nobody looks at the run.
    #[serde(default)]
    pub due_mono_ms: u64,
    /// Time in which the monitor could not look, as nobody could work: a frozen machine. It counts for nothing.
    #[serde(default)]
    pub paused_ms: u64,
    pub monitor: Option<Identity>,
    pub launcher: Option<Identity>,
    pub agent: Option<Identity>,
    pub started_at: Timestamp,
    pub started_mono_ms: u64,
    pub limits: Limits,
    pub retries: u32,
    pub selected_model: String,
    pub worktree: String,
    pub host: String,
    pub cwd: String,
    /// The run is being ended.
    pub ending: bool,
    /// The last agent event's kind, and when.
    pub last_event: String,
    pub last_event_mono_ms: u64,
    pub wait: Option<Wait>,
    pub log_bytes: u64,
    pub log_mono_ms: u64,
    /// Bytes of the log that the monitor has parsed.
    pub parsed_bytes: u64,
    /// CPU time of the tree in milliseconds, when it was sampled, and when it last grew.
    pub cpu_ms: u64,
    pub cpu_sampled_mono_ms: u64,
    pub cpu_grew_mono_ms: u64,
    /// Bytes that the tree wrote to storage, sampled together with its CPU time, and when they last grew.
    #[serde(default)]
    pub written_bytes: u64,
    #[serde(default)]
    pub write_grew_mono_ms: u64,
    pub mutations: u64,
    pub mutation_first: Option<Timestamp>,
    pub mutation_last: Option<Timestamp>,
    pub mutation_mono_ms: u64,
    /// When git was asked last; 0 when it never was.
    #[serde(default)]
    pub observed_mono_ms: u64,
    /// When git was to be asked again, as was clear with that answer: the longer it takes, the later.
    #[serde(default)]
    pub observe_again_mono_ms: u64,
    pub usage: Usage,
}

impl Sample {
    /// The time that the others are compared with, at this reading of CLOCK_MONOTONIC. It stands still when the next
    /// observation is overdue: then the monitor is held up, and perhaps the agent with it.
    pub fn now(&self, mono_ms: u64) -> u64 {
        let seen = if self.due_mono_ms == 0 { mono_ms } else { mono_ms.min(self.due_mono_ms) };
        seen.saturating_sub(self.paused_ms)
    }
}
