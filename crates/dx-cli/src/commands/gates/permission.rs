//! `permission-gate`: whether a job may work at a place.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Ask whether a job may work at a place; exits 22 when not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner permission-gate --worktree /tmp/agents/bd-1")]
pub(crate) struct PermissionArgs {
    /// The worktree
    #[arg(long, value_name = "PATH")]
    worktree: PathBuf,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &PermissionArgs) -> Result<ExitCode, CliError> {
    super::tell(ctx, &ctx.engine.permission_gate(&args.worktree)?)
}
