//! `completions`: scripts that teach a shell the commands.
//!
//! Called by: `commands::run`. Must never: install anything; the user decides where the script goes.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use dx_protocol::ExitCode;

use crate::args::Cli;
use crate::context::Context;
use crate::error::CliError;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner completions bash > ~/.local/share/bash-completion/completions/dx-runner")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "dx-runner", &mut script);
    ctx.out.bytes(&script)?;
    Ok(ExitCode::Ok)
}
