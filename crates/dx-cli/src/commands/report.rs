//! `report`: everything about one job, or totals over the history.
//!
//! Called by: `commands::run`. Must never: write a record; `--all` may bring the history's cache up to date.

use clap::{Args, ValueEnum};
use dx_protocol::{BeadsId, ExitCode, ProviderName, ReasonCode};
use serde::Serialize;
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;
use crate::page::{Page, all_page, html, job_page, markdown};
use dx_engine::JobName;

/// Report everything about one job, or totals over the history
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner report --beads bd-1
  dx-runner report --beads bd-1 --run 1 --format json
  dx-runner report --all --since 7d --format html > week.html")]
pub(crate) struct ReportArgs {
    /// The job's id
    #[arg(long, visible_alias = "id", value_name = "ID", required_unless_present = "all")]
    beads: Option<BeadsId>,
    /// Only runs of this provider
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<ProviderName>,
    /// The job's run of this number, 1 being the first; otherwise the newest
    #[arg(long, value_name = "N", requires = "beads", conflicts_with = "all")]
    run: Option<u32>,
    /// All runs in the history, with totals per provider and model
    #[arg(long, conflicts_with = "beads")]
    all: bool,
    /// Only runs that ended within this time
    #[arg(long, value_name = "DUR", value_parser = duration::parse, requires = "all", conflicts_with = "beads")]
    since: Option<Duration>,
    /// How to write it; markdown unless told otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One document on one line.
    Json,
    /// For reading as it is, or in an issue.
    Markdown,
    /// One file for a browser.
    Html,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ReportArgs) -> Result<ExitCode, CliError> {
    let format = match (args.format, ctx.out.is_json()) {
        (None, false) => Format::Markdown,
        (None | Some(Format::Json), true) => Format::Json,
        (Some(format), false) => format,
        (Some(_), true) => {
            return Err(CliError::refused_try(
                ReasonCode::InvalidArgument,
                "--json and another --format contradict each other",
                "leave one of them out",
            ));
        }
    };
    if let Some(beads) = &args.beads {
        let job = JobName { beads: beads.clone(), provider: args.provider.clone() };
        let report = ctx.engine.report(&job, args.run)?;
        show(ctx, format, &report, || job_page::of(&report))?;
    } else {
        let report = ctx.engine.report_all(args.since, args.provider.as_ref())?;
        show(ctx, format, &report, || all_page::of(&report))?;
    }
    Ok(ExitCode::Ok)
}

fn show<T: Serialize>(
    ctx: &Context,
    format: Format,
    document: &T,
    page: impl FnOnce() -> Page,
) -> Result<(), CliError> {
    match format {
        Format::Json => ctx.out.json(document),
        Format::Markdown => ctx.out.line(markdown::render(&page())),
        Format::Html => ctx.out.line(html::render(&page())),
    }
}
