//! `finalize`: forces an end.
//!
//! Called by: `commands::run`. Must never: make a success.

use clap::Args;
use dx_protocol::ExitCode;

use super::stop::action_text;
use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use dx_engine::FinalizeRequest;

/// Force a job's end and record it as failed
#[derive(Debug, Args)]
#[command(after_help = "\
Without options the reason is `forced_finalization` and the exit code 1. A job that has ended keeps the outcome it has.

Example:
  dx-runner finalize --beads bd-1 --reason \"host was replaced\" --exit-code 70")]
pub(crate) struct FinalizeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// A reason code, or words that are kept as the detail
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// The outcome's exit code, 1 to 255
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=255))]
    exit_code: Option<i32>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &FinalizeArgs) -> Result<ExitCode, CliError> {
    let request =
        FinalizeRequest { job: args.job.name(), reason: args.reason.clone(), exit_code: args.exit_code };
    let done = ctx.engine.finalize(&request)?;
    ctx.out.either(&done, || action_text(&done))?;
    Ok(ExitCode::Ok)
}
