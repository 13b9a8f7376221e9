//! `restart`: the next run of a job, as the last one was asked for.
//!
//! Called by: `commands::run`. Must never: skip a gate; the engine passes them all again.

use clap::Args;
use dx_protocol::ExitCode;

use super::start_options;
use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;

/// Run a job again as it was started; earlier log and outcome are kept
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner restart --beads bd-1")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Wait for a turn when the provider's cap is reached, first come first served; a run that lives is ended before.
    /// Ctrl-C gives the place up
    #[arg(long)]
    queue: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &RestartArgs) -> Result<ExitCode, CliError> {
    let started = ctx.engine.restart(&args.job.name(), start_options::turn(args.queue))?;
    start_options::report(ctx, "restart", "restarted", &started)?;
    Ok(ExitCode::Ok)
}
