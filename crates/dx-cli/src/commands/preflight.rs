//! `preflight`: whether providers could run a job here and now.
//!
//! Called by: `commands::run`. Must never: start a job, or ask a model without `--live`.

use clap::Args;
use dx_engine::PreflightRequest;
use dx_protocol::{ExitCode, Level, PreflightDocument, ProviderName};
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Check whether a provider could run a job: program, version, credentials, model, lane, worktree
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 21 when a check fails. Without --provider all are checked, and one that is not installed is a warning.

Example:
  dx-runner preflight --provider opencode --strict")]
pub(crate) struct PreflightArgs {
    /// The provider to check [default: all]
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<ProviderName>,
    /// The model that a job would ask for
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Accept a model that is not on the allow list
    #[arg(long)]
    allow_model_override: bool,
    /// Check this worktree, too
    #[arg(long, value_name = "PATH")]
    worktree: Option<PathBuf>,
    /// Check what a job with this profile would use
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Put one tiny question to the model, too
    #[arg(long)]
    live: bool,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &PreflightArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.preflight(&PreflightRequest {
        provider: args.provider.clone(),
        model: args.model.clone(),
        allow_model_override: args.allow_model_override,
        worktree: args.worktree.clone(),
        profile: args.profile.clone(),
        live: args.live,
        strict: args.strict,
    })?;
    ctx.out.either(&document, || text(&document, ctx.out.has_colour()))?;
    Ok(if document.passed { ExitCode::Ok } else { ExitCode::PreflightFailed })
}

/// A line for each check, and what to do below it.
pub(crate) fn text(document: &PreflightDocument, colour: bool) -> String {
    let name = |row: &dx_protocol::PreflightRow| format!("{} {}", row.provider, row.check);
    let width = document.checks.iter().map(|row| name(row).chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for row in &document.checks {
        let (word, code) = match row.level {
            Level::Ok => ("ok   ", "32"),
            Level::Warn => ("warn ", "33"),
            Level::Error => ("error", "31"),
        };
        let word = if colour { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() };
        lines.push(format!("{word}  {:<width$}  {}", name(row), row.found));
        if let Some(code) = row.code {
            lines.push(format!("       {:<width$}  reason: {code}", ""));
            lines.push(format!("       {:<width$}  try: {}", "", row.next_action));
        }
    }
    lines.join("\n")
}
