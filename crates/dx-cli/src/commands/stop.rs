//! `stop`: ends jobs and everything they started.
//!
//! Called by: `commands::run`. Must never: give up on the other jobs because one could not be stopped.

use clap::Args;
use dx_protocol::{ActionDocument, ActionsDocument, BeadsId, ExitCode, ProviderName};
use std::time::Duration;

use crate::args::job_names;
use crate::context::Context;
use crate::duration;
use crate::error::CliError;

/// Schema word of several actions.
const SCHEMA: &str = "dx-runner/actions/1";

/// End jobs and everything they started
#[derive(Debug, Args)]
#[command(after_help = "\
The outcome is `killed`, reason `manual_stop`. A job that has ended keeps the outcome it has.

Examples:
  dx-runner stop --beads bd-1 bd-2
  dx-runner stop --all --grace 30s")]
pub(crate) struct StopArgs {
    /// The jobs' ids
    #[arg(long, visible_alias = "id", value_name = "ID", num_args = 1.., required_unless_present_any = ["all", "wave"], conflicts_with_all = ["all", "wave"])]
    beads: Vec<BeadsId>,
    /// The provider, when the ids ran under several; otherwise the newest runs count
    #[arg(long, value_name = "PROVIDER", requires = "beads")]
    provider: Option<ProviderName>,
    /// All live jobs
    #[arg(long)]
    all: bool,
    /// A wave with all of its jobs, as `wave cancel`
    #[arg(long, value_name = "WAVE", conflicts_with_all = ["all", "grace"])]
    wave: Option<String>,
    /// Time between the request to end and the kill
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    grace: Option<Duration>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &StopArgs) -> Result<ExitCode, CliError> {
    if let Some(wave) = &args.wave {
        return super::wave::cancel(ctx, wave);
    }
    let jobs =
        if args.all { ctx.engine.live_jobs()? } else { job_names(&args.beads, args.provider.as_ref()) };
    if let ([job], false) = (jobs.as_slice(), args.all) {
        let done = ctx.engine.stop(job, args.grace)?;
        warn(ctx, &done);
        ctx.out.either(&done, || action_text(&done))?;
        return Ok(ExitCode::Ok);
    }
    let mut actions = Vec::new();
    let mut failures: Vec<CliError> = Vec::new();
    for job in &jobs {
        match ctx.engine.stop(job, args.grace) {
            Ok(done) => {
                warn(ctx, &done);
                if !ctx.out.is_json() {
                    ctx.out.line(action_text(&done))?;
                }
                actions.push(done);
            }
            Err(error) => failures.push(error.into()),
        }
    }
    if ctx.out.is_json() {
        ctx.out.json(&ActionsDocument { schema: SCHEMA.to_owned(), actions })?;
    } else if jobs.is_empty() {
        ctx.out.note("no job is live");
    }
    // The last one is shown by the caller, which also takes its exit code.
    let last = failures.pop();
    for error in &failures {
        ctx.out.error(error);
    }
    last.map_or(Ok(ExitCode::Ok), Err)
}

/// On standard error; they are in the document, too.
fn warn(ctx: &Context, done: &ActionDocument) {
    for warning in &done.warnings {
        ctx.out.note(format!("warning: {}: {warning}", done.beads));
    }
}

/// What was done to one job, as a line.
pub(crate) fn action_text(done: &ActionDocument) -> String {
    let nothing = if done.changed { "" } else { " (nothing to do)" };
    format!(
        "{} beads={} provider={} state={} reason={}{nothing}",
        done.action, done.beads, done.provider, done.state, done.reason_code
    )
}
