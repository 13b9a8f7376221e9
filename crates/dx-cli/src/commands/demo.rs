//! `demo`: the main job on a fresh machine, without an account.
//!
//! Called by: `commands::run`. Must never: touch a repository or a record of the user's, or claim an agent it did not use.

use clap::Args;
use dx_protocol::{ExitCode, ReasonCode};

use crate::error::CliError;

/// Show the main job on this machine, without an account
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner demo --install")]
pub(crate) struct DemoArgs {
    /// First fetch a pinned OpenCode from the npm registry into the user's data folder
    #[arg(long)]
    install: bool,
    /// Keep the throw-away repository and the records
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub(crate) fn run(_args: &DemoArgs) -> Result<ExitCode, CliError> {
    Err(CliError::refused_try(
        ReasonCode::NotSupported,
        "the demo is not available in this version",
        "dx-runner run exec -- true",
    ))
}
