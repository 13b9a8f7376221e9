//! `mcp`: these commands as tools for other agents.
//!
//! Called by: `commands::run`. Must never: print anything but messages of the protocol while it serves.

use clap::Args;
use dx_protocol::ExitCode;

use crate::context::Context;
use crate::error::CliError;
use crate::mcp;

/// Serve these commands as tools of the Model Context Protocol, on standard input and output
#[derive(Debug, Args)]
#[command(after_help = "\
An agent starts this by itself, once its configuration names it.

Example:
  dx-runner mcp")]
pub(crate) struct McpArgs {}

/// Runs the command.
pub(crate) fn run(ctx: &Context, _args: &McpArgs) -> Result<ExitCode, CliError> {
    mcp::serve(ctx)
}
