//! `skill install`: what agents have to know of this program, where they look for such.
//!
//! Called by: `commands::run`. Must never: touch a skill of another name.

use clap::{Args, Subcommand};
use dx_protocol::ExitCode;

use super::mcp::ClientArgs;
use crate::context::Context;
use crate::error::CliError;

/// Teach an agent to use this program, with skills in the open format
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dx-runner skill install --client opencode")]
pub(crate) struct SkillArgs {
    #[command(subcommand)]
    command: SkillCommand,
}

#[derive(Debug, Subcommand)]
enum SkillCommand {
    /// Write the skills `dx-runner` and `opencode-dispatch` into an agent's folder of skills
    #[command(after_help = "Example:\n  dx-runner skill install --client gemini --dry-run")]
    Install(ClientArgs),
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &SkillArgs) -> Result<ExitCode, CliError> {
    let SkillCommand::Install(args) = &args.command;
    let document = args.client.install_skills(args.dry_run)?;
    ctx.out.either(&document, || document.text())?;
    Ok(ExitCode::Ok)
}
