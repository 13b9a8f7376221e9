//! `server start|status|stop`: the shared OpenCode server.
//!
//! Called by: `commands::run`. Must never: show the server's password.

use clap::{Args, Subcommand};
use dx_protocol::{ExitCode, ServerDocument};
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;

/// Start, show or stop the shared OpenCode server
#[derive(Debug, Args)]
#[command(after_help = "\
One server for each state directory. It runs as a job (`dx-runner logs --beads server`), listens on this machine only, and
has a password that is in a file only you can read. `dispatch`, `batch`, `routes` and `models` find it by themselves.

Example:
  dx-runner server start
  dx-runner server status
  dx-runner server stop")]
pub(crate) struct ServerArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start it, or tell of the one that runs
    Start {
        /// Address of this machine to listen on [default: 127.0.0.1]
        #[arg(long, value_name = "HOST")]
        hostname: Option<String>,
        /// Port to listen on [default: a free one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
        port: Option<u16>,
    },
    /// Tell whether it runs and is well
    Status,
    /// Stop it, with everything it runs
    Stop {
        /// Time between the request to end and the kill
        #[arg(long, value_name = "DUR", value_parser = duration::parse)]
        grace: Option<Duration>,
    },
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ServerArgs) -> Result<ExitCode, CliError> {
    let document = match &args.action {
        Action::Start { hostname, port } => ctx.engine.server_start(hostname.as_deref(), *port)?,
        Action::Status => ctx.engine.server_status()?,
        Action::Stop { grace } => ctx.engine.server_stop(*grace)?,
    };
    ctx.out.either(&document, || text(&document))?;
    let asked = matches!(args.action, Action::Status);
    Ok(if asked && document.status != "running" { ExitCode::Error } else { ExitCode::Ok })
}

fn text(document: &ServerDocument) -> String {
    let ServerDocument { status, url, version, pid, details, .. } = document;
    match status.as_str() {
        "stopped" => "stopped".to_owned(),
        "running" => format!("running url={url} version={version} pid={pid} file={}", document.file),
        _ => format!("{status} url={url} pid={pid}: {details}"),
    }
}
