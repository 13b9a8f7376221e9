//! The use cases of dx-runner, for any front end: start, stop, wait, status, settle, restart, prune, providers.
//!
//! Effects happen here, decisions in `dx-core`, files through `dx-jobdir`, processes through `dx-proc`. Nothing is
//! printed; what takes long says so through [`Settings::progress`].

mod action;
mod api;
mod apply;
mod asked;
mod beads;
mod bundle;
mod check;
mod damaged;
mod diff;
mod dispatch;
mod doctor;
mod environment;
mod error;
mod fingerprint;
mod gates;
mod gc;
mod git;
mod halt;
pub mod helper_entry;
mod history;
mod hooks;
mod job_files;
mod lanes;
mod lookup;
mod notify;
mod permission;
mod preflight;
mod prompt;
mod providers;
mod prune;
mod report;
mod sandbox;
mod scratch;
mod secrets;
mod server;
mod settings;
mod settle;
mod start;
mod status;
mod steps;
mod stop;
mod task;
mod tell;
mod view;
mod wait;
mod watchdog;
mod wave;
mod work;
mod workflow;
mod worktree;

pub use api::*;
pub use apply::Conflict;
pub use dispatch::{
    BATCH, BatchNews, BatchRequest, CLEANER, Cancel, Conditions, DISPATCH_MAX_CHARS, DISPATCH_TIMEOUT,
    DispatchRequest, Member, Members, SchemaSource, Target, tell_begun,
};
pub use error::{EngineError, PathDenied};
pub use git::head_of;
pub use job_files::LogFiles;
pub use lanes::{SESSION, session};
pub use preflight::PreflightRequest;
pub use prompt::sha256_hex;
pub use secrets::{is_masked, mask_text, own_secrets};
pub use server::{SHELL, shell};
pub use settings::{Place, SettingInfo, SettingsError, built_in_profiles, settings_reference};
pub use start::GiveUp;
pub use task::TaskRunRequest;
pub use tell::{TELL, tell};
pub use watchdog::Watchdog;
pub use workflow::{ModelsRequest, WorkflowScope};

pub use dx_workflow::reference as roles_reference;

pub use wave::{COORDINATE, Problem, WaveFileError, coordinate};

use dx_jobdir::StateDir;
use std::path::PathBuf;

/// What a front end sets up.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `--state-dir` or `DX_RUNNER_STATE_DIR`; `None` for the default place.
    pub state_dir: Option<PathBuf>,
    /// `--config`: read in the place of the user's configuration file.
    pub config: Option<PathBuf>,
    /// Told what a slow step does.
    pub progress: Option<fn(&str)>,
}

/// The engine; making one does no I/O.
#[derive(Debug, Clone)]
pub struct Engine {
    settings: Settings,
}

impl Engine {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn progress(&self, what: &str) {
        if let Some(progress) = self.settings.progress {
            progress(what);
        }
    }

    /// Where records are.
    pub fn state_root(&self) -> Result<PathBuf, EngineError> {
        if let Some(dir) = &self.settings.state_dir {
            return std::path::absolute(dir)
                .map_err(|source| EngineError::Io { what: "resolve the state directory", source });
        }
        let base = environment::dir("XDG_STATE_HOME", ".local/state").ok_or(EngineError::NoHome)?;
        Ok(base.join("dx-runner/jobs"))
    }

    /// The state directory for commands that write.
    fn state(&self) -> Result<StateDir, EngineError> {
        let root = self.state_root()?;
        let state = StateDir::open(&root)?;
        if self.settings.state_dir.is_none() {
            environment::keep_short_name(&root);
        }
        Ok(state)
    }

    /// The state directory for commands that only read; `None` when there is none yet.
    fn state_for_reading(&self) -> Result<Option<StateDir>, EngineError> {
        Ok(StateDir::open_existing(&self.state_root()?)?)
    }
}
