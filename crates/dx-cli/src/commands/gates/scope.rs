//! `scope-gate`: whether everything that changed in a worktree is allowed.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;
use dx_engine::ScopeQuery;

/// Ask whether every path that changed in a worktree since its job started is allowed; exits 29 when not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner scope-gate --worktree . --scope src tests '*.md' --mutation-budget 20")]
pub(crate) struct ScopeArgs {
    /// The worktree
    #[arg(long, value_name = "PATH")]
    worktree: PathBuf,
    /// Patterns of allowed paths, read as in .gitignore; none: only those that are never allowed count
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    scope: Vec<String>,
    /// No more paths than this may have changed
    #[arg(long, value_name = "N")]
    mutation_budget: Option<u64>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ScopeArgs) -> Result<ExitCode, CliError> {
    super::tell(
        ctx,
        &ctx.engine.scope_gate(&ScopeQuery {
            worktree: args.worktree.clone(),
            scope: args.scope.clone(),
            mutation_budget: args.mutation_budget,
        })?,
    )
}
