//! `feature-key-gate`: whether every commit of a branch carries the feature's key.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Ask whether every commit of a branch carries the trailer `Feature-Key: KEY`; exits 1 when not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner feature-key-gate --worktree . --feature-key bd-12 --base-branch main")]
pub(crate) struct FeatureKeyArgs {
    /// The worktree
    #[arg(long, value_name = "PATH")]
    worktree: PathBuf,
    /// The key: `bd-` and segments of lower-case letters and digits, with dots between
    #[arg(long, value_name = "KEY")]
    feature_key: String,
    /// The branch; left out, what the worktree is on
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Commits that are on this branch are not looked at [default: master, or main where there is no master]
    #[arg(long, value_name = "BRANCH")]
    base_branch: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &FeatureKeyArgs) -> Result<ExitCode, CliError> {
    super::tell(
        ctx,
        &ctx.engine.feature_key_gate(
            &args.worktree,
            &args.feature_key,
            args.branch.as_deref(),
            args.base_branch.as_deref(),
        )?,
    )
}
