//! `doctor`: everything about this machine that matters to jobs.
//!
//! Called by: `commands::run`. Must never: change anything, or show a secret.

use clap::Args;
use dx_protocol::{DoctorDocument, ExitCode, Level};

use crate::context::Context;
use crate::error::CliError;

/// Examine this machine: programs, state directory, git, disk
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 1 when something would keep jobs from running.

Example:
  dx-runner doctor")]
pub(crate) struct DoctorArgs {}

/// Runs the command.
pub(crate) fn run(ctx: &Context, _args: &DoctorArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.doctor();
    ctx.out.either(&document, || report(&document, ctx.out.has_colour()))?;
    let bad = document.checks.iter().any(|check| check.level == Level::Error);
    Ok(if bad { ExitCode::Error } else { ExitCode::Ok })
}

fn report(document: &DoctorDocument, colour: bool) -> String {
    let width = document.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in &document.checks {
        let (word, code) = match check.level {
            Level::Ok => ("ok   ", "32"),
            Level::Warn => ("warn ", "33"),
            Level::Error => ("error", "31"),
        };
        let word = if colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() };
        lines.push(format!("{word}  {:<width$}  {}", check.name, check.found));
        if !matches!(check.next_action.as_str(), "" | "-") {
            lines.push(format!("       {:<width$}  try: {}", "", check.next_action));
        }
    }
    lines.join("\n")
}
