//! `wait`: until jobs have ended.
//!
//! Called by: `commands::run`, `start --wait`, `run --json`. Must never: poll, or stop a job at the deadline.

use clap::Args;
use dx_protocol::{BeadsId, CheckDocument, ExitCode, ProviderName};
use std::time::Duration;

use crate::args::job_names;
use crate::context::Context;
use crate::error::CliError;
use crate::{duration, text, waiting};
use dx_engine::WaitRequest;

/// Wait until jobs have ended; exit as `check`
#[derive(Debug, Args)]
#[command(after_help = "\
With --json one document per job is printed, each on a line. The exit code is that of the worst: 3, then 2, then 23.
Exit code 35: the time is up; nothing was stopped.

Example:
  dx-runner wait --beads bd-1 bd-2 --all --timeout 30m")]
pub(crate) struct WaitArgs {
    /// The jobs' ids
    #[arg(long, visible_alias = "id", value_name = "ID", required = true, num_args = 1..)]
    beads: Vec<BeadsId>,
    /// The provider, when the ids ran under several; otherwise the newest runs count
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<ProviderName>,
    /// Return as soon as one has ended
    #[arg(long, conflicts_with = "all")]
    any: bool,
    /// Return when all have ended (the default)
    #[arg(long)]
    all: bool,
    /// Give up after this long
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &WaitArgs) -> Result<ExitCode, CliError> {
    let jobs = job_names(&args.beads, args.provider.as_ref());
    let documents = waiting::wait(ctx, WaitRequest { jobs, any: args.any, timeout: args.timeout })?;
    report(ctx, &documents, args.any)
}

/// Shows how the jobs ended. With `any` only those that have.
pub(crate) fn report(ctx: &Context, documents: &[CheckDocument], any: bool) -> Result<ExitCode, CliError> {
    let shown: Vec<&CheckDocument> = documents.iter().filter(|document| !any || document.ended).collect();
    for document in &shown {
        let word = text::coloured(document.state, document.state.as_str(), ctx.out.has_colour());
        ctx.out.either(document, || text::check(document, &word))?;
    }
    Ok(text::worst(shown.iter().map(|document| text::exit_of_state(document.state))))
}
