//! `check`: one job's state, as text, JSON and exit code.
//!
//! Called by: `commands::run`. Must never: write or signal; reading is reading.

use clap::Args;
use dx_protocol::ExitCode;
use std::time::Duration;

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::{duration, text};

/// Show one job's state; the exit code tells it too
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 well, 1 no record, 2 stalled, 3 ended with an error or blocked, 23 no-op.

Example:
  dx-runner check --beads bd-1 --explain")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Judge with this stall threshold instead of the job's own
    #[arg(long, value_name = "N", value_parser = duration::parse_minutes)]
    stall_minutes: Option<Duration>,
    /// Show the observation and the rule that decided
    #[arg(long)]
    explain: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &CheckArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.check(&args.job.name(), args.stall_minutes, args.explain)?;
    let word = text::coloured(document.state, document.state.as_str(), ctx.out.has_colour());
    ctx.out.either(&document, || text::check(&document, &word))?;
    Ok(text::exit_of_state(document.state))
}
