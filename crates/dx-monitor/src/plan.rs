//! What the agent needs and no record may hold: its environment with values. With it come the rules of its sandbox. Comes
//! over a pipe, stays in memory, and is dropped by the monitor as soon as the launcher has it.

use dx_proc::sandbox::Rules;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The agent's command with its full environment. Bytes, because neither has to be UTF-8.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    argv: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    /// What no output may show.
    secrets: Vec<Vec<u8>>,
    /// What the agent is confined to; `None` for nothing.
    sandbox: Option<SandboxPlan>,
    /// Whether the command only starts the job and leaves it to us: see the module `handover`.
    #[serde(default)]
    pub adapter: bool,
    /// Whether the prompt file is the agent's standard input (otherwise `/dev/null`).
    pub prompt_on_stdin: bool,
}

impl Plan {
    pub fn new(
        argv: &[OsString],
        env: &[(OsString, OsString)],
        secrets: Vec<Vec<u8>>,
        prompt_on_stdin: bool,
        sandbox: Option<&Rules>,
    ) -> Self {
        let bytes = |s: &OsString| s.as_bytes().to_vec();
        Self {
            argv: argv.iter().map(bytes).collect(),
            env: env.iter().map(|(k, v)| (bytes(k), bytes(v))).collect(),
            secrets,
            sandbox: sandbox.map(SandboxPlan::of),
            prompt_on_stdin,
            adapter: false,
        }
    }

    /// The values to be masked, taken out.
    pub fn take_secrets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.secrets)
    }

    /// What the agent is confined to.
    pub(crate) fn sandbox(&self) -> Option<Rules> {
        let paths =
            |list: &[Vec<u8>]| list.iter().map(|b| PathBuf::from(OsString::from_vec(b.clone()))).collect();
        self.sandbox.as_ref().map(|plan| Rules {
            trees: paths(&plan.trees),
            devices: paths(&plan.devices),
            appended: paths(&plan.appended),
            hidden: paths(&plan.hidden),
        })
    }

    pub fn argv(&self) -> Vec<OsString> {
        self.argv.iter().cloned().map(OsString::from_vec).collect()
    }

    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let text = |b: &Vec<u8>| OsString::from_vec(b.clone());
        self.env.iter().map(|(k, v)| (text(k), text(v))).collect()
    }
}

/// [`Rules`] as bytes.
#[derive(Clone, Serialize, Deserialize)]
struct SandboxPlan {
    trees: Vec<Vec<u8>>,
    devices: Vec<Vec<u8>>,
    appended: Vec<Vec<u8>>,
    hidden: Vec<Vec<u8>>,
}

impl SandboxPlan {
    fn of(rules: &Rules) -> Self {
        let bytes = |paths: &[PathBuf]| paths.iter().map(|p| p.as_os_str().as_bytes().to_vec()).collect();
        Self {
            trees: bytes(&rules.trees),
            devices: bytes(&rules.devices),
            appended: bytes(&rules.appended),
            hidden: bytes(&rules.hidden),
        }
    }
}

impl std::fmt::Debug for Plan {
    /// Never prints the environment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("argv", &self.argv.len())
            .field("env", &self.env.len())
            .finish_non_exhaustive()
    }
}
