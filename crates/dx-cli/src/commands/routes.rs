//! `routes`: which model is asked for which kind of task.
//!
//! Called by: `commands::run`. Must never: ask a model.

use clap::Args;
use dx_protocol::{ExitCode, RoutesDocument};

use super::models::ServerOptions;
use crate::context::Context;
use crate::error::CliError;

/// Show which model is asked for which kind of task
#[derive(Debug, Args)]
#[command(after_help = "\
Replace single routes with `routes = [\"code-review=PROVIDER/MODEL\"]` in your configuration.
With --check the exit code is 25 when a route leads to a model that the server does not offer.

Example:
  dx-runner routes --check")]
pub(crate) struct RoutesArgs {
    /// Compare with what the server really offers, and propose the nearest
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    server: ServerOptions,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &RoutesArgs) -> Result<ExitCode, CliError> {
    let ServerOptions { server, directory } = &args.server;
    let document = ctx.engine.routes(args.check, server.as_deref(), directory.as_deref())?;
    ctx.out.either(&document, || text(&document))?;
    let missing = document.routes.iter().any(|route| route.available == Some(false));
    Ok(if missing { ExitCode::ModelUnavailable } else { ExitCode::Ok })
}

fn text(document: &RoutesDocument) -> String {
    let mut lines = Vec::new();
    for route in &document.routes {
        let remark = match route.available {
            None => String::new(),
            Some(true) => "  available".to_owned(),
            Some(false) if route.nearest == "-" => "  missing".to_owned(),
            Some(false) => format!("  missing, nearest {}", route.nearest),
        };
        let source = if route.source == "built in" { "" } else { "  (configuration)" };
        let to = format!("{}/{}", route.provider, route.model);
        lines.push(format!("{}  {:<20} {to}{source}{remark}", route.tier, route.task_type));
    }
    lines.join("\n")
}
