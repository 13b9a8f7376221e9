//! `integrity-gate`: whether a reported commit is really on the branch.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Ask whether a commit that somebody reported is on the branch; exits 1 when not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner integrity-gate --worktree . --reported-commit 1a2b3c4 --branch bd-1")]
pub(crate) struct IntegrityArgs {
    /// The worktree
    #[arg(long, value_name = "PATH")]
    worktree: PathBuf,
    /// The commit that was reported
    #[arg(long, value_name = "SHA")]
    reported_commit: String,
    /// The branch it must be on; left out, what the worktree is on
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &IntegrityArgs) -> Result<ExitCode, CliError> {
    super::tell(
        ctx,
        &ctx.engine.integrity_gate(&args.worktree, &args.reported_commit, args.branch.as_deref())?,
    )
}
