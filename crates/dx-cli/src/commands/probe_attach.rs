//! `probe-attach`: whether jobs can run on an OpenCode server.
//!
//! Called by: `commands::run`. Must never: ask a model.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Tell whether an OpenCode server can run jobs, within 10 seconds and without asking a model
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 0: ready. 1: unreachable or not well. 24: well, but without a context to run in.
A password is taken from OPENCODE_SERVER_PASSWORD.

Example:
  dx-runner probe-attach --url http://127.0.0.1:4096 --directory .")]
pub(crate) struct ProbeAttachArgs {
    /// The server's address
    #[arg(long, value_name = "URL")]
    url: String,
    /// The folder that a job would work in
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ProbeAttachArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.probe_attach(&args.url, args.directory.as_deref());
    ctx.out.either(&document, || {
        let mut text = format!(
            "{} url={} reason={} version={}: {}",
            document.status, document.url, document.reason_code, document.version, document.details
        );
        if document.exit_code != 0 {
            text.extend(["\ntry: ", &document.next_action]);
        }
        text
    })?;
    Ok(ExitCode::ALL
        .iter()
        .copied()
        .find(|code| code.code() == document.exit_code)
        .unwrap_or(ExitCode::Error))
}
