//! `demo`: the main job on a fresh machine, without an account.
//!
//! Called by: `commands::run`. Must never: touch a repository or a record of the user's, or claim an agent it did not use.

use clap::Args;
use dx_protocol::ExitCode;

use crate::context::Context;
use crate::demo::{self, agent, install, stage};
use crate::error::CliError;

/// Show the main job on this machine, without an account: three jobs at once on a throw-away repository
#[derive(Debug, Args)]
#[command(after_help = "\
The jobs run the real OpenCode when it is on PATH or was fetched with --install, else the real
Claude Code when that is on PATH, else a small built-in agent.
The model is always a script inside dx-runner. Exit code 3 when a job did not end well with a diff.

Examples:
  dx-runner demo
  dx-runner demo --install")]
pub(crate) struct DemoArgs {
    /// First fetch a pinned OpenCode from the npm registry into the user's data folder
    #[arg(long)]
    install: bool,
    /// Keep the throw-away repository and the records
    #[arg(long)]
    keep: bool,
}

/// Runs the command; first in the user's surroundings, then again in its own.
pub(crate) fn run(ctx: &Context, args: &DemoArgs) -> Result<ExitCode, CliError> {
    if let Some(folder) = stage::folder() {
        return demo::play(ctx, &folder, args.keep);
    }
    let program = if args.install { Some(install::install(ctx)?) } else { agent::find() };
    Err(stage::enter(program.as_deref()))
}
