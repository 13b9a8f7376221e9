//! The sandbox of a run: what was asked for, and what the agent was really confined to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a caller may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// The agent writes only where it must; refused where the kernel cannot do it.
    Strict,
    /// The agent has all rights of its user.
    Off,
}

/// What was asked for; `restart` asks again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SandboxSpec {
    /// `None`: strict where the kernel can, else none.
    pub mode: Option<SandboxMode>,
    /// Folders and files that the caller lets the agent write, too.
    #[serde(default)]
    pub write: Vec<String>,
}

/// What an agent is confined by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// By a Landlock domain.
    Strict,
    /// By nothing, as it was asked for.
    Off,
    /// By nothing, though nobody asked for that.
    #[default]
    None,
}

impl Confinement {
    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Off => "off",
            Self::None => "none",
        }
    }
}

/// The sandbox that a run has. In records of versions that had none: `none`, `not_recorded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sandbox {
    pub mode: Confinement,
    /// Landlock's version in this kernel, 0 when there is none.
    pub abi: u32,
    /// Why it is not strict: `asked`, `no_landlock`, `landlock_off`, `landlock_refused`, `shared_server` (its
    /// tools run in a server that others use, too), `not_recorded`; `-` when it is.
    pub reason: String,
    /// What strict does not keep the agent from here: `repository_open` (the git directory lies in the worktree, so its
    /// hooks and configuration can be changed), `repository_read_only` (the agent cannot commit), and for older kernels
    /// `rename_refused`, `truncate_open`, `ioctl_open`, `signals_open`.
    pub limits: Vec<String>,
    /// Folders below which, and files of which, everything may be changed; where the agent's tools run in a server that others
    /// use, too, by the job's check only.
    pub writable: Vec<String>,
    /// Files and folders that cannot be read, by whom `writable` is about.
    pub hidden: Vec<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::none(Confinement::None, "not_recorded")
    }
}

impl Sandbox {
    /// No sandbox, for this reason.
    pub fn none(mode: Confinement, reason: &str) -> Self {
        Self {
            mode,
            abi: 0,
            reason: reason.to_owned(),
            limits: Vec::new(),
            writable: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// One word, with the reason where it is not strict: `strict`, `off(asked)`, `none(no_landlock)`.
    pub fn word(&self) -> String {
        match self.mode {
            Confinement::Strict => "strict".to_owned(),
            mode => format!("{}({})", mode.as_str(), self.reason),
        }
    }
}
