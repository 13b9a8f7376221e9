//! `diff`: what a job changed.
//!
//! Called by: `commands::run`. Must never: write anything; the text is for `git apply` too, so it is never coloured.

use clap::Args;
use dx_protocol::{DiffDocument, ExitCode};

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;

/// Show what a job changed in its worktree, committed or not
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner diff --beads bd-1 | less")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    job: JobArgs,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &DiffArgs) -> Result<ExitCode, CliError> {
    let name = args.job.name();
    let diff = ctx.engine.diff(&name)?;
    if ctx.out.is_json() {
        let check = ctx.engine.check(&name, None, false)?;
        ctx.out.json(&DiffDocument {
            schema: "dx-runner/diff/1".to_owned(),
            beads: check.beads,
            provider: check.provider,
            worktree: check.worktree,
            diff,
        })?;
    } else {
        ctx.out.bytes(diff.as_bytes())?;
    }
    Ok(ExitCode::Ok)
}
