//! One provider as data: what is the same for one of ours, for one of the configuration and for an adapter script.
//!
//! Filled in by each provider's own folder; what is not filled in has the meaning that [`Provider::default`] says. Must
//! never: look at more of the machine than where a program is.

use super::models::Models;
use super::{Resolved, Wish, form};
use crate::environment;
use crate::error::EngineError;
use crate::settings::Place;
use dx_protocol::{Grammar, Lane, OutputRules, PreflightRow, ReasonCode};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// See [`Provider::recall`].
pub(crate) type Recall = (&'static str, fn() -> Option<String>);

/// One provider.
#[derive(Debug, Clone)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) origin: Origin,
    /// Its program: a name on PATH, or an absolute path. `None`: the command is the caller's.
    pub(crate) program: Option<String>,
    /// Arguments for [`form::resolve`]; those with code of their own leave it empty.
    pub(crate) args: Vec<String>,
    /// Why it cannot be started when the program is not there.
    pub(crate) missing: ReasonCode,
    pub(crate) prompt: Channel,
    pub(crate) needs_prompt: bool,
    /// The variable that names a model for this provider.
    pub(crate) model_env: Option<String>,
    /// What goes before a model, where [`form::resolve`] names one.
    pub(crate) model_flag: Option<String>,
    /// Variables that can hold its credentials, or say where they are, in the order in which they count.
    pub(crate) credentials: Vec<String>,
    /// Files of a login, below HOME.
    pub(crate) logins: Vec<String>,
    /// Beginnings of the versions it was tested with; empty: it is not asked for its version.
    pub(crate) tested: Vec<String>,
    /// Which models it may be asked for.
    pub(crate) models: Models,
    /// The secret variable that the adapter sets itself, and its value as far as it can be told at once.
    pub(crate) recall: Option<Recall>,
    /// Concurrency cap when nobody configures one.
    pub(crate) cap: Option<usize>,
    /// None for a service: a program of ours that runs as a job, under a command of its own.
    pub(crate) lanes: Vec<Lane>,
    /// The caller's variables that reach the agent, beyond those that reach every agent; `NAME` or `PREFIX*`.
    pub(crate) passes: Vec<String>,
    /// One more: the variable that the program's own settings name for its key, told by the environment it gets.
    pub(crate) key_named: fn(&[(OsString, OsString)]) -> Option<String>,
    pub(crate) grammar: Grammar,
    /// What of its own it must be able to change; `~/` is HOME, and what ends in `.json` is a file.
    pub(crate) state: Vec<String>,
    pub(crate) rules: OutputRules,
    /// How a job becomes a command line.
    pub(crate) resolve: fn(&Provider, &Wish<'_>) -> Result<Resolved, EngineError>,
    /// Where its credentials come from, in words, when it takes more than variables and logins to tell.
    pub(crate) auth: Option<Auth>,
    /// What else preflight looks at.
    pub(crate) more_checks: fn(&Provider) -> Vec<PreflightRow>,
}

type Source = Result<String, EngineError>;

/// Where the credentials of a job would come from, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auth {
    /// As far as an environment and a worktree tell; no other program is asked.
    pub(crate) named: fn(&[(OsString, OsString)], &Path) -> Source,
    /// The same, and whether they can be had there, where that is more.
    pub(crate) had: Option<fn(&Wish<'_>) -> Source>,
}

/// Where a provider comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    /// `[providers.NAME]` of the user's own configuration.
    Manifest(Place),
    /// `NAME.sh` of the user's folder of adapters.
    Script(PathBuf),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::Manifest(place) => place.fmt(f),
            Self::Script(path) => path.display().fmt(f),
        }
    }
}

/// How the prompt reaches the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdin,
    /// The path of a file stands in the command line.
    File,
    /// The prompt itself stands in the command line, where every user of the machine can read it.
    Arg,
    /// As the caller's command says.
    Command,
}

impl Channel {
    /// For people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::File => "file",
            Self::Arg => "arg",
            Self::Command => "stdin, or {prompt_file} in an argument",
        }
    }
}

impl Default for Provider {
    /// A command that reads the prompt on its standard input, prints text, and is run as its form says.
    fn default() -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            origin: Origin::BuiltIn,
            program: None,
            args: Vec::new(),
            missing: ReasonCode::ProviderBinaryMissing,
            prompt: Channel::Stdin,
            needs_prompt: true,
            model_env: None,
            model_flag: None,
            models: Models::default(),
            recall: None,
            credentials: Vec::new(),
            logins: Vec::new(),
            tested: Vec::new(),
            cap: Some(6),
            lanes: vec![Lane::Run],
            passes: Vec::new(),
            key_named: |_| None,
            grammar: Grammar::Text,
            state: Vec::new(),
            rules: OutputRules::default(),
            resolve: form::resolve,
            auth: None,
            more_checks: |_| Vec::new(),
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

    /// What of the caller's environment reaches the agent.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut env = environment::allowed(&|name| self.passes(name));
        // Only what is taken for a secret wherever it is seen: by its name, or by its shape.
        if let Some(name) = (self.key_named)(&env)
            && let Some(value) = std::env::var_os(&name)
            && environment::is_secret(&name, &value.to_string_lossy())
        {
            environment::set(&mut env, &name, value);
        }
        env
    }

    pub(crate) fn is_service(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Where its program is, if it is anywhere.
    pub(crate) fn found(&self) -> Option<PathBuf> {
        let program = self.program.as_deref()?;
        if program.starts_with('/') {
            return environment::is_program(Path::new(program)).then(|| program.into());
        }
        environment::find_program(program)
    }

    /// The same for a start, which needs it.
    pub(crate) fn binary(&self) -> Result<PathBuf, EngineError> {
        self.found().ok_or_else(|| {
            let program = self.program.as_deref().unwrap_or("-");
            let message = if program.starts_with('/') {
                format!("{program} is no program that can be run")
            } else {
                format!("no `{program}` was found on PATH")
            };
            EngineError::Provider { reason: self.missing, message, next_action: None }
        })
    }
}

/// Names as the owned texts of a provider.
pub(super) fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
