//! `logs`: what an agent printed.
//!
//! Called by: `commands::run`. Must never: write; reading is reading.

use clap::Args;
use dx_protocol::{ExitCode, ReasonCode};

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::log_view::{self, Shown, View};

/// Lines that are shown unless told otherwise.
const DEFAULT_LINES: usize = 20;

/// Show what the agent printed, as a readable transcript
#[derive(Debug, Args)]
#[command(after_help = "\
Lines of standard error begin with `stderr| `, where it is a file of its own.

Examples:
  dx-runner logs --beads bd-1 -f
  dx-runner logs --beads bd-1 --raw > bd-1.log")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Go on until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// The last N lines, 0 for all (default: 20; with --raw: all)
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// The bytes of the log instead of a transcript
    #[arg(long)]
    raw: bool,
    /// One run: 1 is the first, as in the files' names
    #[arg(long, value_name = "N")]
    run: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &LogsArgs) -> Result<ExitCode, CliError> {
    if ctx.out.is_json() {
        let next = format!("dx-runner events --beads {}", args.job.beads);
        return Err(CliError::refused_try(
            ReasonCode::InvalidArgument,
            "logs are text and have no JSON form",
            next,
        ));
    }
    let lines = match args.lines {
        Some(0) => None,
        Some(count) => Some(count),
        None => (!args.raw).then_some(DEFAULT_LINES),
    };
    let view = View { lines, raw: args.raw, follow: args.follow, run: args.run };
    Ok(match log_view::show(ctx, &args.job.name(), view)? {
        Shown::Done => ExitCode::Ok,
        Shown::Interrupted => ExitCode::Interrupted,
    })
}
