//! One provider as data: what is the same for one of ours, for one of the configuration and for an adapter script.
//!
//! Filled in by each provider's own folder. Must never: look at the machine; `table` and the hooks do.

use super::{Resolved, Wish};
use crate::environment;
use crate::error::EngineError;
use dx_protocol::{Lane, ReasonCode};
use std::path::PathBuf;

/// One provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) description: String,
    /// Its program: a name on PATH, or an absolute path. `None`: the command is the caller's.
    pub(crate) program: Option<String>,
    /// Why it cannot be started when the program is not there.
    pub(crate) missing: ReasonCode,
    pub(crate) prompt: Channel,
    pub(crate) needs_prompt: bool,
    /// The variable that names a model for this provider.
    pub(crate) model_env: Option<String>,
    /// Concurrency cap when nobody configures one.
    pub(crate) cap: Option<usize>,
    /// None for a service: a program of ours that runs as a job, under a command of its own.
    pub(crate) lanes: Vec<Lane>,
    /// The caller's variables that reach the agent, beyond those that reach every agent; `NAME` or `PREFIX*`.
    pub(crate) passes: Vec<String>,
    /// How a job becomes a command line.
    pub(crate) resolve: fn(&Provider, &Wish<'_>) -> Result<Resolved, EngineError>,
}

/// How the prompt reaches the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdin,
    /// As the caller's command says.
    Command,
}

impl Channel {
    /// For people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Command => "stdin, or {prompt_file} in an argument",
        }
    }
}

impl Provider {
    /// Whether this variable of the caller reaches the agent, beyond those that reach every agent.
    pub(crate) fn passes(&self, name: &str) -> bool {
        self.passes.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    }

    pub(crate) fn is_service(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Where its program is, if it is anywhere.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        self.program.as_deref().and_then(environment::find_program)
    }

    /// The same for a start, which needs it.
    pub(crate) fn binary(&self) -> Result<PathBuf, EngineError> {
        self.found().ok_or_else(|| EngineError::Provider {
            reason: self.missing,
            message: format!("no `{}` was found on PATH", self.program.as_deref().unwrap_or("-")),
            next_action: None,
        })
    }
}

/// Names as the owned texts of a provider.
pub(super) fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
