//! `models`: connected model providers and their models.
//!
//! Called by: `commands::run`. Must never: ask a model.

use clap::Args;
use dx_protocol::{ExitCode, ModelsDocument};
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;

/// Which OpenCode server is meant, and for which folder.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerOptions {
    /// Address of an OpenCode server (or OPENCODE_URL) [default: the one of `server start`]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Folder whose project and files are meant
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// List the connected model providers of an OpenCode server, and their models
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  dx-runner models --provider anthropic")]
pub(crate) struct ModelsArgs {
    #[command(flatten)]
    server: ServerOptions,
    /// Only this model provider, connected or not
    #[arg(long, value_name = "PROVIDER")]
    provider: Option<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ModelsArgs) -> Result<ExitCode, CliError> {
    let ServerOptions { server, directory } = &args.server;
    let document = ctx.engine.models(server.as_deref(), directory.as_deref(), args.provider.as_deref())?;
    ctx.out.either(&document, || text(&document))?;
    Ok(ExitCode::Ok)
}

fn text(document: &ModelsDocument) -> String {
    let mut lines = Vec::new();
    for provider in &document.providers {
        let remark = if provider.connected { "" } else { " (not connected)" };
        lines.extend(provider.models.iter().map(|model| format!("{}/{}{remark}", provider.id, model.id)));
    }
    if lines.is_empty() { "no model provider is connected".to_owned() } else { lines.join("\n") }
}
