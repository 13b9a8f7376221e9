//! What the agent needs and no record may hold: its environment with values. Comes over a pipe, stays in memory, and is
//! dropped by the monitor as soon as the launcher has it.

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The agent's command with its full environment. Bytes, because neither has to be UTF-8.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    argv: Vec<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the prompt file is the agent's standard input (otherwise `/dev/null`).
    pub prompt_on_stdin: bool,
}

impl Plan {
    pub fn new(argv: &[OsString], env: &[(OsString, OsString)], prompt_on_stdin: bool) -> Self {
        let bytes = |s: &OsString| s.as_bytes().to_vec();
        Self {
            argv: argv.iter().map(bytes).collect(),
            env: env.iter().map(|(k, v)| (bytes(k), bytes(v))).collect(),
            prompt_on_stdin,
        }
    }

    pub fn argv(&self) -> Vec<OsString> {
        self.argv.iter().cloned().map(OsString::from_vec).collect()
    }

    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let text = |b: &Vec<u8>| OsString::from_vec(b.clone());
        self.env.iter().map(|(k, v)| (text(k), text(v))).collect()
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
