//! `providers`: the adapters and what they need.
//!
//! Called by: `commands::run`. Must never: start an agent, or show a variable's value.

use clap::{Args, Subcommand};
use dx_protocol::{ExitCode, ProviderRow, ProvidersDocument, ReasonCode};

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;

/// Show the providers
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner providers show opencode")]
pub(crate) struct ProvidersArgs {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to show.
#[derive(Debug, Subcommand)]
enum What {
    /// All providers, a line each (the default)
    #[command(after_help = "Example:\n  dx-runner providers list")]
    List,
    /// One provider with everything about it
    #[command(after_help = "Example:\n  dx-runner providers show opencode")]
    Show {
        /// Its name
        #[arg(value_name = "PROVIDER")]
        provider: String,
    },
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ProvidersArgs) -> Result<ExitCode, CliError> {
    let mut document = ctx.engine.providers()?;
    match &args.what {
        None | Some(What::List) => ctx.out.either(&document, || list_text(&document))?,
        Some(What::Show { provider }) => {
            let names: Vec<String> = document.providers.iter().map(|row| row.name.clone()).collect();
            document.providers.retain(|row| row.name == *provider);
            let Some(row) = document.providers.first() else {
                return Err(CliError::refused_try(
                    ReasonCode::ProviderNotFound,
                    format!("there is no provider `{provider}`"),
                    format!("one of: {}", names.join(", ")),
                ));
            };
            ctx.out.either(&document, || row_text(row))?;
        }
    }
    Ok(ExitCode::Ok)
}

fn list_text(document: &ProvidersDocument) -> String {
    let header = ["PROVIDER", "LANES", "CAP", "BINARY", "WHAT"].map(ToOwned::to_owned).to_vec();
    let row = |p: &ProviderRow| {
        vec![p.name.clone(), p.lanes.join(","), cap(p), p.binary.clone(), p.description.clone()]
    };
    lines_of(header, document.providers.iter().map(row).collect()).join("\n")
}

fn row_text(row: &ProviderRow) -> String {
    let list =
        |words: &[String], none: &str| if words.is_empty() { none.to_owned() } else { words.join(" ") };
    let mut lines = vec![
        format!("{}: {}", row.name, row.description),
        format!("  from: {}", row.origin),
        format!("  lanes: {}", row.lanes.join(", ")),
        format!("  binary: {}", row.binary),
        format!("  tested versions: {}", list(&row.tested_versions, "-")),
        format!("  prompt by: {}", row.prompt_channel),
        format!("  output: {}", row.grammar.as_str()),
        format!("  jobs at once: {}", cap(row)),
        format!("  variables passed on: {}", list(&row.env, "-")),
        format!("  credentials from: {}", list(&row.credentials, "-")),
    ];
    if !row.allowed_models.is_empty() {
        lines.push(format!("  models: {}", row.allowed_models.join(" ")));
    }
    lines.join("\n")
}

fn cap(row: &ProviderRow) -> String {
    row.cap.map_or_else(|| "-".to_owned(), |cap| cap.to_string())
}
