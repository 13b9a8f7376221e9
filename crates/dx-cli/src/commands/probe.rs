//! `probe`: one tiny question to a provider's model.
//!
//! Called by: `commands::run`. Must never: decide whether the answer is good; the engine does.

use clap::Args;
use dx_protocol::{ExitCode, ProviderName};

use crate::commands::preflight;
use crate::context::Context;
use crate::error::CliError;

/// Put one tiny question to a provider's model, with a deadline
#[derive(Debug, Args)]
#[command(after_help = "\
The exit code is that of the reason. The question costs a few tokens.

Example:
  dx-runner probe --provider claude-code")]
pub(crate) struct ProbeArgs {
    /// The provider to ask
    #[arg(long, value_name = "PROVIDER")]
    provider: ProviderName,
    /// The model to ask [default: the provider's]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ProbeArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.probe(&args.provider, args.model.clone())?;
    ctx.out.either(&document, || preflight::text(&document, ctx.out.has_colour()))?;
    let code = document.checks.iter().find_map(|row| row.code);
    Ok(match code.map(dx_protocol::ReasonCode::exit_code) {
        None => ExitCode::Ok,
        // Words for jobs and their states.
        Some(ExitCode::JobError | ExitCode::Ok | ExitCode::Stalled | ExitCode::NoOp) => ExitCode::Error,
        Some(code) => code,
    })
}
