//! `run`: the short way to start one job in the current repository and watch it.
//!
//! Called by: `commands::run`. Must never: end the job when its watcher leaves.

use clap::Args;
use dx_protocol::{ExitCode, ProviderName, ReasonCode};

use super::start_options::{self, StartOptions};
use crate::context::Context;
use crate::error::CliError;
use crate::log_view::{self, Shown, View};
use crate::{text, waiting};
use dx_engine::{JobName, PromptSource, WaitRequest, WorktreeChoice};

/// Start one job here in a worktree of its own and follow it; Ctrl-C leaves the job running
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner run opencode \"Fix the failing test in src/date.rs\"
  dx-runner run exec -- cargo fmt")]
pub(crate) struct RunArgs {
    /// The adapter that runs the agent; see `dx-runner providers`
    #[arg(value_name = "PROVIDER")]
    provider: ProviderName,
    /// What the agent shall do
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
    #[command(flatten)]
    options: StartOptions,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &RunArgs) -> Result<ExitCode, CliError> {
    let prompt = args.prompt.as_ref().map(|text| PromptSource::Text(text.clone().into_bytes()));
    if args.prompt.is_none()
        && args.options.command.is_empty()
        && args.provider.as_str() != start_options::EXEC
    {
        let example = format!("dx-runner run {} \"what to do\"", args.provider);
        return Err(CliError::refused_try(ReasonCode::PromptMissing, "the prompt is missing", example));
    }
    let request = args.options.request(&args.provider, prompt, WorktreeChoice::Auto);
    let started = args.options.start(ctx, &request)?;
    start_options::remark(ctx, &started);
    ctx.out.note(start_options::started_line("started", &started));
    ctx.out.note(format!("worktree {}; Ctrl-C leaves the job running", started.worktree));
    let job = start_options::job_of(&started);
    if ctx.out.is_json() {
        let request = WaitRequest { jobs: vec![job], any: false, timeout: None };
        return super::wait::report(ctx, &waiting::wait(ctx, request)?, false);
    }
    let view = View { lines: None, raw: false, follow: true, run: None };
    if log_view::show(ctx, &job, view)? == Shown::Interrupted {
        return Err(left(&job));
    }
    let end = ctx.engine.check(&job, None, false)?;
    let word = text::coloured(end.state, end.state.as_str(), ctx.out.has_colour());
    ctx.out.line(text::check(&end, &word))?;
    Ok(text::exit_of_state(end.state))
}

fn left(job: &JobName) -> CliError {
    let id = &job.beads;
    let next = format!("dx-runner logs -f --beads {id} to come back, dx-runner stop --beads {id} to end it");
    CliError::refused_try(ReasonCode::Interrupted, format!("interrupted; job {id} goes on"), next)
}
