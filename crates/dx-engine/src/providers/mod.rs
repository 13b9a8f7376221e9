//! Providers: how a job becomes a command line. One folder or file per provider; `table` is the only place that knows
//! them all.

mod ask;
mod cc_glm;
pub(crate) mod checks;
mod claude_code;
mod codex;
mod exec;
mod form;
mod gemini;
pub(crate) mod manifest;
mod models;
mod opencode;
mod opencode_server;
mod provider;
mod remembered;
pub(crate) mod rules;
pub(crate) mod script;
mod table;

pub(crate) use codex::options_of_question as codex_options;
pub(crate) use form::PROMPT;
pub(crate) use opencode::headless as opencode_headless;
pub(crate) use opencode_server::NAME as OPENCODE_SERVER;
pub(crate) use provider::{Origin, Provider};
pub(crate) use table::Providers;

use crate::git::Repository;
use crate::lanes::LaneServer;
use crate::settings::Layers;
use dx_jobdir::StateDir;
use dx_protocol::Grammar;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a provider is asked to resolve.
pub(crate) struct Wish<'a> {
    pub(crate) state: &'a StateDir,
    pub(crate) worktree: &'a Path,
    pub(crate) repository: Option<&'a Repository>,
    /// The job's id, and where its log will be.
    pub(crate) beads: &'a str,
    pub(crate) log: &'a Path,
    /// The OpenCode server of a lane that needs one.
    pub(crate) server: Option<&'a LaneServer>,
    pub(crate) model: Option<&'a str>,
    pub(crate) allow_model_override: bool,
    /// The agent definition to run, in the provider's words.
    pub(crate) agent: Option<&'a str>,
    /// Whether our sandbox will hold it.
    pub(crate) confined: bool,
    /// The command of `exec`.
    pub(crate) command: &'a [String],
    pub(crate) has_prompt: bool,
    /// Where the prompt's copy will be.
    pub(crate) prompt_file: &'a Path,
    /// The agent's environment so far: for asking the agent's own program about itself.
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) progress: &'a dyn Fn(&str),
    pub(crate) settings: &'a Layers,
    /// Lists that are older are asked for again; `None`: as long as nothing changes, and a day at most.
    pub(crate) list_age: Option<Duration>,
}

/// A resolved command. Nothing prints it: a variable may hold a credential.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) argv: Vec<OsString>,
    /// Variables that the provider sets, credentials among them.
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
    /// The command starts the job and leaves it to us.
    pub(crate) adapter: bool,
}

/// A place of an agent's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StatePath {
    /// A folder; made when it is missing, as the agent could not.
    Folder(PathBuf),
    /// A file with JSON; made as an empty object when it is missing.
    JsonFile(PathBuf),
}

/// The address without what a person may have put before its host, or behind its path.
fn without_credentials(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return "-".to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_secrets() {
        assert_eq!(without_credentials("https://me:key@host:1/a/b?token=x"), "https://host:1/a/b");
        assert_eq!(without_credentials("http://host"), "http://host");
        assert_eq!(without_credentials("sk-not-an-address"), "-");
    }
}
