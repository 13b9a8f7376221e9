//! `hooks`: git hooks that dx-runner can install.
//!
//! Called by: `commands::run`. Must never: install anything unasked.

use clap::{Args, Subcommand};
use dx_protocol::{ExitCode, HookDocument};
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Install a git hook that writes Beads' issues before a commit
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner hooks install --repo .")]
pub(crate) struct HooksArgs {
    #[command(subcommand)]
    command: HooksCommand,
}

#[derive(Debug, Subcommand)]
enum HooksCommand {
    /// Put a pre-commit hook into a repository; one that is there is kept and runs first
    #[command(after_help = "Example:\n  dx-runner hooks install --repo ~/src/app")]
    Install {
        /// A folder in the repository; left out, the current one
        #[arg(long, value_name = "PATH")]
        repo: Option<PathBuf>,
    },
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &HooksArgs) -> Result<ExitCode, CliError> {
    let HooksCommand::Install { repo } = &args.command;
    let done = ctx.engine.install_hooks(repo.as_deref().unwrap_or(std::path::Path::new(".")))?;
    ctx.out.either(&done, || text(&done))?;
    Ok(ExitCode::Ok)
}

fn text(done: &HookDocument) -> String {
    let word = if done.changed { "installed" } else { "is up to date:" };
    match &done.kept {
        Some(kept) => format!("{word} {}\n  runs first: {kept}", done.hook),
        None => format!("{word} {}", done.hook),
    }
}
