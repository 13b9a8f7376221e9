//! The exit file: facts that must be recordable on a full disk and without the monitor.
//!
//! `runs/<uuid>/exit` is preallocated at start and has fixed slots of [`SLOT_BYTES`], one JSON object each, padded with
//! spaces. Each slot has exactly one writer, so two witnesses of one exit can never spoil each other.

use crate::{Identity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of one slot.
pub const SLOT_BYTES: usize = 512;

/// Slots in file order. The order of the three exits is the order of trust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The launcher's identity ([`Identity`]), by the launcher, before it forks the agent.
    Launcher = 0,
    /// The agent's identity ([`Identity`]), by the launcher, before the agent may exec.
    Agent = 1,
    /// What became of the exec ([`ExecRecord`]), by the launcher.
    Exec = 2,
    /// The exit as its parent saw it ([`ExitRecord`]).
    ExitByLauncher = 3,
    /// The exit as the monitor saw it, parent by adoption.
    ExitByMonitor = 4,
    /// The exit as read through a pidfd by one who is not the parent.
    ExitByPidfd = 5,
    /// The sweep's end ([`SweepRecord`]), by whoever is the live subreaper.
    Swept = 6,
}

/// Number of slots; the file is this times [`SLOT_BYTES`] long.
pub const SLOTS: usize = 7;

/// How a process ended, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// Exit code 0 to 255.
    Code(i32),
    /// Ended by this signal.
    Signal(i32),
}

impl Exit {
    /// The shell's number: the code, or 128 plus the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Who saw the exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// The launcher, the agent's parent.
    Launcher,
    /// The monitor, which inherited the agent from a dead launcher.
    Monitor,
    /// A monitor or guard that is not the parent, through a pidfd.
    Pidfd,
}

/// An observed exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExitRecord {
    pub exit: Exit,
    pub witness: Witness,
    pub at: Timestamp,
    /// CLOCK_MONOTONIC in milliseconds, for spans within one boot.
    pub mono_ms: u64,
    /// CPU time of the agent and the children it waited for, in milliseconds; 0 when the witness cannot know.
    #[serde(default)]
    pub cpu_ms: u64,
}

/// What became of the agent's exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecRecord {
    /// 0, or the errno that made the start fail.
    pub errno: i32,
    pub at: Timestamp,
    pub mono_ms: u64,
    /// More than the errno says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ExecRecord {
    /// Why the start failed, for people.
    pub fn why(&self) -> String {
        self.message.clone().unwrap_or_else(|| std::io::Error::from_raw_os_error(self.errno).to_string())
    }
}

/// The proof that nothing of the tree is left (ECHILD in the live subreaper).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SweepRecord {
    /// Processes found alive after the agent's own end.
    pub strays: u32,
    pub at: Timestamp,
}

/// Everything that the exit file of a run tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitFacts {
    pub launcher: Option<Identity>,
    pub agent: Option<Identity>,
    pub exec: Option<ExecRecord>,
    /// Exits as told by launcher, monitor and pidfd, in the order of trust.
    pub exits: [Option<ExitRecord>; 3],
    pub swept: Option<SweepRecord>,
}

impl ExitFacts {
    /// The exit, from the first witness in the order of trust.
    pub fn exit(&self) -> Option<&ExitRecord> {
        self.exits.iter().flatten().next()
    }
}
