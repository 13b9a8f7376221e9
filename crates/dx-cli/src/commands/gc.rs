//! `gc`: deletes the files of ended jobs, and their worktrees when all work in them is merged.
//!
//! Called by: `commands::run`. Must never: decide what may go; that is the engine's.

use clap::Args;
use dx_protocol::{ExitCode, GcDocument};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;
use crate::text;
use dx_engine::GcRequest;

/// Delete ended jobs' files, and their worktrees when clean and merged; the history stays
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner gc --older-than 14d --keep 20")]
pub(crate) struct GcArgs {
    /// Only jobs that ended longer ago than this
    #[arg(long, value_name = "DUR", value_parser = duration::parse, default_value = "30d")]
    older_than: Duration,
    /// Keep the N jobs that ended last, however old they are
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: usize,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &GcArgs) -> Result<ExitCode, CliError> {
    let done = ctx.engine.gc(&GcRequest { older_than: args.older_than, keep: args.keep })?;
    ctx.out.either(&done, || told(&done))?;
    Ok(ExitCode::Ok)
}

fn told(done: &GcDocument) -> String {
    let mut lines = vec![format!(
        "removed {} jobs, {}; kept {}",
        done.removed.len(),
        text::bytes(done.freed_bytes),
        done.kept.len()
    )];
    for removed in &done.removed {
        let worktree = removed.worktree.as_ref().map(|path| format!(", worktree {path}"));
        lines.push(format!(
            "  removed {} ({}){}",
            removed.beads,
            removed.provider,
            worktree.unwrap_or_default()
        ));
    }
    // Jobs that stay for one reason are one line, unless it is work that somebody should look at.
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kept in &done.kept {
        by_reason.entry(&kept.why).or_default().push(&kept.beads);
    }
    for (why, jobs) in by_reason {
        let named = jobs.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if jobs.len() > 5 { format!(" and {} more", jobs.len() - 5) } else { String::new() };
        lines.push(format!("  kept {named}{more}: {why}"));
    }
    lines.join("\n")
}
