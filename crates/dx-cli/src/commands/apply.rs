//! `apply`: brings a job's work onto a branch of the repository.
//!
//! Called by: `commands::run`. Must never: merge anything itself; the engine does, all of it or nothing.

use clap::Args;
use dx_protocol::{ApplyDocument, ExitCode};

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use dx_engine::ApplyRequest;

/// Bring a job's commits and uncommitted changes onto a branch of the repository
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner apply --beads bd-1 --branch main")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The branch, made when there is none; left out, the one that the main checkout is on
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ApplyArgs) -> Result<ExitCode, CliError> {
    let applied = ctx.engine.apply(&ApplyRequest { job: args.job.name(), branch: args.branch.clone() })?;
    for remark in &applied.remarks {
        ctx.out.note(remark);
    }
    ctx.out.either(&applied, || text(&applied))?;
    Ok(ExitCode::Ok)
}

fn text(applied: &ApplyDocument) -> String {
    if !applied.changed {
        return format!("{} has all of {} already", applied.branch, applied.beads);
    }
    let at = applied.now.as_deref().unwrap_or("-");
    let mut lines = vec![format!(
        "applied {} to {}{}, now at {at}: {} commits, {} files",
        applied.beads,
        applied.branch,
        if applied.created { ", a new branch" } else { "" },
        applied.commits.len(),
        applied.files_changed.len()
    )];
    lines.extend(applied.files_changed.iter().map(|file| format!("  {file}")));
    lines.join("\n")
}
