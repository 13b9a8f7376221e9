//! Why a benchmark was refused or given up.

use crate::changed::{self, Change};
use dx_engine::EngineError;
use dx_protocol::{ExitCode, ReasonCode};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the file of prompts cannot be used: {0}")]
    Prompts(String),
    #[error("{0}")]
    Argument(String),
    #[error("the run `{run_id}` was begun otherwise: {}", changed::told(.changes))]
    Changed { run_id: String, changes: Vec<Change> },
    #[error("another process works on the run `{0}`")]
    Busy(String),
    #[error("{phase} runs after {before}, which has not passed on {baseline}")]
    Blocked { phase: &'static str, before: &'static str, baseline: String },
    #[error("there is no benchmark run in {0}")]
    NotFound(PathBuf),
    #[error("the run `{run_id}` was refused by its gate `{gate}`: no job of it was run")]
    NotRun { run_id: String, gate: String },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    #[error("interrupted; its jobs were ended, and what is done is kept")]
    Interrupted,
}

impl BenchError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    /// The published reason.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Engine(error) => error.reason(),
            Self::Prompts(_) => ReasonCode::BenchPromptsInvalid,
            Self::Argument(_) => ReasonCode::InvalidArgument,
            Self::Changed { .. } => ReasonCode::BenchChanged,
            Self::Busy(_) => ReasonCode::LockHeld,
            Self::Blocked { .. } => ReasonCode::BenchPhaseBlocked,
            Self::NotFound(_) => ReasonCode::BenchNotFound,
            Self::NotRun { .. } => ReasonCode::BenchNotRun,
            Self::Damaged { .. } => ReasonCode::RecordUnreadable,
            Self::Io { .. } => ReasonCode::Internal,
            Self::Interrupted => ReasonCode::Interrupted,
        }
    }

    /// What to do.
    pub fn next_action(&self) -> String {
        match self {
            Self::Engine(error) => error.next_action(),
            Self::Argument(_) => "dx-runner bench --help".to_owned(),
            Self::Blocked { before, .. } => {
                format!("dx-runner bench progressive --phase {before}, or --force")
            }
            // The records of a run tell nothing without its manifest.
            Self::Damaged { path, .. } if path.ends_with("manifest.json") => {
                "another --run-id: this run cannot be gone on with".to_owned()
            }
            Self::Damaged { path, .. } => format!("move {} away; what it told begins anew", path.display()),
            Self::Changed { changes, .. } => changed::next_action(changes),
            Self::Interrupted => "dx-runner bench run with the same --run-id goes on".to_owned(),
            other => other.reason().next_action().to_owned(),
        }
    }

    /// What the command ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Engine(error) => error.exit_code(),
            other => other.reason().exit_code(),
        }
    }
}
