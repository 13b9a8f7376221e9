//! How a monitor is invoked: a hidden entry, the run, and descriptors at fixed numbers. Paths and ids only, no secret.

use dx_protocol::RunUuid;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// First argument of both binaries that means "be a monitor".
pub const ENTRY: &str = "__monitor";
/// First argument of `dx-monitor` that means "print [`crate::BUILD`]".
pub const BUILD_ENTRY: &str = "__build";
/// The journal, locked.
pub const JOURNAL_FD: i32 = 3;
/// Write end of the pipe on which `start` waits; closed by an adopter's time at the latest.
pub const READY_FD: i32 = 4;
/// Read end of the pipe with the [`crate::Plan`]; first monitor only.
pub const PLAN_FD: i32 = 5;
/// The `dx-runner` binary, held open for the settler.
pub const SETTLER_FD: i32 = 6;
/// A pidfd of the agent, opened while it lived; adopters only, and only when there is one.
pub const AGENT_FD: i32 = 7;
/// The master of the agent's pseudo-terminal; adopters only, and only with `--pty`.
pub(crate) const PTY_FD: i32 = 8;
/// A pidfd of the process that started an adopter and watches it from then on; not given by commands that pass a run on.
pub(crate) const PARTNER_FD: i32 = 9;

/// A file in memory with the job's secret values; adopters and the settler only, and only when there are any.
pub const SECRETS_FD: i32 = 10;

/// The environment variable with settings of the C library's allocator, which are for our own processes only.
pub const ALLOCATOR_SETTINGS: &str = "GLIBC_TUNABLES";

/// The environment variable whose value, the run's uuid, marks every process of a job.
pub const MARKER: &str = "DX_RUNNER_MARK";

/// What a monitor is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Whether it replaces a dead monitor.
    pub adopt: bool,
    pub run: RunUuid,
    pub state_dir: PathBuf,
}

impl Invocation {
    /// The argument list, program name first.
    pub fn to_argv(&self) -> Vec<OsString> {
        let mode = if self.adopt { "--adopt" } else { "--begin" };
        ["dx-monitor", ENTRY, mode, self.run.as_str()]
            .iter()
            .map(OsString::from)
            .chain([self.state_dir.clone().into_os_string()])
            .collect()
    }

    /// Reads the arguments after the program name; `None` when they mean something else.
    pub fn parse(args: &[OsString]) -> Option<Self> {
        let [entry, mode, run, state_dir] = args else { return None };
        let adopt = match (entry.as_os_str(), mode.as_os_str()) {
            (e, m) if e == OsStr::new(ENTRY) && m == OsStr::new("--adopt") => true,
            (e, m) if e == OsStr::new(ENTRY) && m == OsStr::new("--begin") => false,
            _ => return None,
        };
        Some(Self { adopt, run: run.to_str()?.parse().ok()?, state_dir: Path::new(state_dir).to_owned() })
    }
}
