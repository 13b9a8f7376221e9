//! `evidence-gate`: whether every claim of a sign-off about a job is true.
//!
//! Called by: `commands::run`. Must never: change anything.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;

/// Run the commands that a sign-off names, in the job's worktree and sandbox; exits 30 unless all claims are true
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner evidence-gate --beads bd-12 --signoff-file signoff.md")]
pub(crate) struct EvidenceArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The sign-off: checked boxes, or lines that start with validated, verified or confirmed, each with a command in
    /// backticks
    #[arg(long, value_name = "FILE")]
    signoff_file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &EvidenceArgs) -> Result<ExitCode, CliError> {
    super::tell(ctx, &ctx.engine.evidence_gate(&args.job.name(), &args.signoff_file)?)
}
