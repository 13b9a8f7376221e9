//! `status`: the table of jobs.
//!
//! Called by: `commands::run`. Must never: write or signal; reading is reading.

use clap::Args;
use dx_protocol::{BeadsId, ExitCode, ProviderName, ReasonCode, StatusDocument};
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;
use crate::follow::{Waiter, Wake};
use crate::{output, status_table};
use dx_engine::{JobName, StatusQuery};

/// Pause between two pictures of `--watch`.
const REDRAW_MS: u64 = 1_000;

/// Show jobs: live ones and those that ended in the last 24 hours
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner status
  dx-runner status --live --watch
  dx-runner status --recent 5 --json")]
pub(crate) struct StatusArgs {
    /// Only this job
    #[arg(long, visible_alias = "id", value_name = "ID")]
    beads: Option<BeadsId>,
    /// Only jobs of this provider
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<ProviderName>,
    /// Only live jobs
    #[arg(long)]
    live: bool,
    /// The N that ended last
    #[arg(long, value_name = "N")]
    recent: Option<usize>,
    /// Also those that ended within this time, instead of 24 hours
    #[arg(long, value_name = "DUR", value_parser = duration::parse)]
    since: Option<Duration>,
    /// Everything there is a record of
    #[arg(long)]
    all: bool,
    /// Only what needs a person now
    #[arg(long)]
    attention: bool,
    /// Draw the table anew every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &StatusArgs) -> Result<ExitCode, CliError> {
    let query = StatusQuery {
        beads: args.beads.clone(),
        provider: args.provider.clone(),
        live_only: args.live,
        recent: args.recent,
        since: args.since,
        all: args.all,
        attention: args.attention,
    };
    if args.watch {
        return watch(ctx, &query);
    }
    let document = ctx.engine.status(&query)?;
    if document.jobs.is_empty()
        && let Some(beads) = &args.beads
    {
        // An unknown id is refused with near matches; a known one was only filtered out.
        ctx.engine.check(&JobName { beads: beads.clone(), provider: args.provider.clone() }, None, false)?;
    }
    if ctx.out.is_json() {
        ctx.out.json(&document)?;
    } else if document.jobs.is_empty() {
        ctx.out.note("no such jobs; `dx-runner status --all` shows all records");
    } else {
        let width = output::terminal_size().map(|(columns, _)| columns);
        ctx.out.line(status_table::render(&document.jobs, width, ctx.out.has_colour()))?;
    }
    Ok(ExitCode::Ok)
}

fn watch(ctx: &Context, query: &StatusQuery) -> Result<ExitCode, CliError> {
    if !output::on_terminal() {
        return Err(CliError::refused_try(
            ReasonCode::InvalidArgument,
            "--watch draws on a terminal, and standard output is none",
            "dx-runner status, or dx-runner events -f",
        ));
    }
    let mut waiter = Waiter::new()?;
    ctx.out.bytes(b"\x1b[2J")?;
    loop {
        let document = ctx.engine.status(query)?;
        ctx.out.bytes(&picture(ctx, &document))?;
        if ctx.out.is_closed() || waiter.wait_ms(REDRAW_MS)? == Wake::Interrupted {
            return Ok(ExitCode::Interrupted);
        }
    }
}

/// One screen: each line clears what was right of it, the end clears what was below, so nothing flickers.
fn picture(ctx: &Context, document: &StatusDocument) -> Vec<u8> {
    let (columns, rows) = output::terminal_size().unwrap_or((80, 24));
    let live = document.jobs.iter().filter(|job| !job.ended).count();
    let head = format!(
        "{}  {live} live, {} shown  (Ctrl-C ends this view, not the jobs)",
        document.generated_at,
        document.jobs.len()
    );
    let mut lines: Vec<String> = vec![head.chars().take(columns).collect()];
    if !document.jobs.is_empty() {
        let table = status_table::render(&document.jobs, Some(columns), ctx.out.has_colour());
        lines.extend(table.lines().map(ToOwned::to_owned));
    }
    let room = rows.saturating_sub(1).max(2);
    if lines.len() > room {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push(format!("... {hidden} more"));
    }
    format!("\x1b[H{}\x1b[K\n\x1b[J", lines.join("\x1b[K\n")).into_bytes()
}
