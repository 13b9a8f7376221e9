//! Providers: how a job becomes a command line. One folder or file per provider; this table is the only place that knows
//! them all.

mod ask;
mod claude_code;
mod exec;
mod opencode;

pub(crate) use opencode::ALSO_ALLOWED as OPENCODE_ALSO_ALLOWED;

use crate::environment;
use crate::error::EngineError;
use crate::settings::Layers;
use dx_jobdir::StateDir;
use dx_protocol::{Grammar, ProviderName, ProviderRow};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a provider is asked to resolve.
pub(crate) struct Wish<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) worktree: &'a Path,
    pub(crate) model: Option<&'a str>,
    pub(crate) allow_model_override: bool,
    /// The agent definition to run, in the provider's words.
    pub(crate) agent: Option<&'a str>,
    /// The command of `exec`.
    pub(crate) command: &'a [String],
    pub(crate) has_prompt: bool,
    /// Where the prompt's copy will be.
    pub(crate) prompt_file: &'a Path,
    /// The agent's environment so far: for asking the agent's own program about itself.
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) progress: &'a dyn Fn(&str),
    pub(crate) settings: &'a Layers,
}

/// A resolved command.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) argv: Vec<OsString>,
    /// Variables that the provider sets.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) grammar: Grammar,
    pub(crate) prompt_on_stdin: bool,
    pub(crate) prompt_channel: &'static str,
    pub(crate) selected_model: String,
    pub(crate) fallback_reason: String,
    pub(crate) auth_source: String,
    pub(crate) base_url: String,
    /// What of its own the agent must be able to change.
    pub(crate) state: Vec<StatePath>,
}

/// A place of an agent's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatePath {
    /// A folder; made when it is missing, as the agent could not.
    Folder(PathBuf),
    /// A file with JSON; made as an empty object when it is missing.
    JsonFile(PathBuf),
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    description: &'static str,
    /// Program that must be on PATH, where there is one.
    program: Option<&'static str>,
    prompt_channel: &'static str,
    pub(crate) needs_prompt: bool,
    /// The variable that names a model for this provider.
    pub(crate) model_env: Option<&'static str>,
    /// Built-in concurrency cap.
    pub(crate) cap: Option<usize>,
    /// Whether the caller's variable reaches the agent, beyond those that reach every agent.
    pub(crate) passes: fn(&str) -> bool,
    passes_text: &'static [&'static str],
    pub(crate) resolve: fn(&Wish<'_>) -> Result<Resolved, EngineError>,
}

const ALL: [&Provider; 3] = [&claude_code::PROVIDER, &exec::PROVIDER, &opencode::PROVIDER];

pub(crate) fn find(name: &ProviderName) -> Result<&'static Provider, EngineError> {
    ALL.into_iter().find(|p| p.name == name.as_str()).ok_or_else(|| EngineError::NoProvider {
        name: name.to_string(),
        known: ALL.iter().map(|p| p.name.to_owned()).collect(),
    })
}

/// The provider of this name, if there is one.
pub(crate) fn by_name(name: &str) -> Option<&'static Provider> {
    ALL.into_iter().find(|p| p.name == name)
}

/// All names.
pub(crate) fn names() -> Vec<&'static str> {
    ALL.iter().map(|p| p.name).collect()
}

/// The table for people.
pub(crate) fn rows(settings: &Layers) -> Vec<ProviderRow> {
    ALL.iter()
        .map(|p| {
            let found = p.program.and_then(environment::find_program);
            ProviderRow {
                name: p.name.to_owned(),
                description: p.description.to_owned(),
                lanes: vec!["run".to_owned()],
                binary: found.map_or_else(|| "-".to_owned(), |b: PathBuf| b.display().to_string()),
                prompt_channel: p.prompt_channel.to_owned(),
                cap: settings.cap(p.name).ok().flatten().map(|c| c as u64),
                env: p.passes_text.iter().map(|t| (*t).to_owned()).collect(),
            }
        })
        .collect()
}
