//! `mcp`: these commands as tools for other agents; `mcp install` tells an agent of them.
//!
//! Called by: `commands::run`. Must never: print anything but messages of the protocol while it serves.

use clap::{Args, Subcommand};
use dx_protocol::ExitCode;

use crate::clients::{Client, Server};
use crate::context::Context;
use crate::error::CliError;
use crate::mcp;

/// Serve these commands as tools of the Model Context Protocol, on standard input and output
#[derive(Debug, Args)]
#[command(after_help = "\
An agent starts this by itself, once its configuration names it; see `mcp install`.

Example:
  dx-runner mcp install --client claude")]
pub(crate) struct McpArgs {
    #[command(subcommand)]
    command: Option<McpCommand>,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    Install(ClientArgs),
}

/// Write the entry into an agent's own configuration; all else in it stays as it is
#[derive(Debug, Args)]
#[command(after_help = "\
--state-dir and --config, when given here, are passed on in the entry.

Example:
  dx-runner mcp install --client codex --dry-run")]
pub(crate) struct ClientArgs {
    /// The agent that shall have it
    #[arg(long, value_enum, value_name = "CLIENT")]
    pub(crate) client: Client,
    /// Tell what would be written; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &McpArgs) -> Result<ExitCode, CliError> {
    let Some(McpCommand::Install(args)) = &args.command else { return mcp::serve(ctx) };
    let document = args.client.install_server(&Server::ours(ctx, args.client)?, args.dry_run)?;
    ctx.out.either(&document, || document.text())?;
    Ok(ExitCode::Ok)
}
