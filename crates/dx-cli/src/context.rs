//! What every command is given: the engine, the output and the global options.
//!
//! Called by: `commands::main` once, then by each command. Must never: do I/O when it is made.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::args::{ColorChoice, Global};
use crate::output::{self, Output};
use dx_engine::{Engine, Settings};

/// A command's surroundings.
pub(crate) struct Context {
    /// All that is done is done here.
    pub(crate) engine: Engine,
    /// All that is said is said here.
    pub(crate) out: Output,
    global: Global,
}

impl Context {
    /// Surroundings as the global options want them.
    pub(crate) fn new(global: &Global) -> Self {
        let global = global.clone();
        Self { engine: Engine::new(settings(&global)), out: Output::new(&global), global }
    }

    /// Surroundings of a process that nobody reads from.
    pub(crate) fn of(settings: Settings) -> Self {
        let global = Global {
            json: true,
            state_dir: settings.state_dir.clone(),
            config: settings.config.clone(),
            verbose: false,
            quiet: true,
            color: ColorChoice::Never,
        };
        Self { engine: Engine::new(settings), out: Output::new(&global), global }
    }

    /// The same surroundings, for a thread of its own.
    pub(crate) fn again(&self) -> Self {
        Self::new(&self.global)
    }

    /// The global options that decide what a command is about, as they were given.
    pub(crate) fn named_places(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let places = [("--state-dir", &self.global.state_dir), ("--config", &self.global.config)];
        places.into_iter().filter_map(|(name, path)| Some((name, path.as_deref()?)))
    }

    /// The same for another process of ours, wherever it is started.
    pub(crate) fn global_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        for (name, path) in self.named_places() {
            // Without a current directory it means nothing there either.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            args.extend([name.into(), path.into_os_string()]);
        }
        args
    }

    /// Another engine with the same settings, for a thread of its own.
    pub(crate) fn settings(&self) -> Settings {
        settings(&self.global)
    }
}

fn settings(global: &Global) -> Settings {
    let speak = !global.json && !global.quiet && (global.verbose || output::errors_on_terminal());
    let progress = speak.then_some(output::say as fn(&str));
    Settings { state_dir: state_dir(global), config: global.config.clone(), progress }
}

/// The flag, else the environment; an empty variable counts as none.
fn state_dir(global: &Global) -> Option<PathBuf> {
    let from_env = || std::env::var_os("DX_RUNNER_STATE_DIR").filter(|value| !value.is_empty());
    global.state_dir.clone().or_else(|| from_env().map(PathBuf::from))
}
