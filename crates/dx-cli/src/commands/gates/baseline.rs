//! `baseline-gate`: whether a worktree contains a commit.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Ask whether a worktree contains a commit; exits 1 when not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner baseline-gate --worktree . --required-baseline origin/main")]
pub(crate) struct BaselineArgs {
    /// The worktree
    #[arg(long, value_name = "PATH")]
    worktree: PathBuf,
    /// The commit that HEAD must contain
    #[arg(long, value_name = "SHA")]
    required_baseline: String,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &BaselineArgs) -> Result<ExitCode, CliError> {
    super::tell(ctx, &ctx.engine.baseline_gate(&args.worktree, &args.required_baseline)?)
}
