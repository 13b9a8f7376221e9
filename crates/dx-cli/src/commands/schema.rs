//! `schema`: the JSON Schemas of what is printed and stored.
//!
//! Called by: `commands::run`. Must never: print anything but the schema or the names.

use clap::Args;
use dx_protocol::{ExitCode, ReasonCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::context::Context;
use crate::error::CliError;
use crate::schemas;

/// Print the JSON Schema of a document, or the names of all
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner schema status")]
pub(crate) struct SchemaArgs {
    /// The document's name
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// `schema --json` without a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct SchemasDocument {
    /// Schema word of this document.
    pub(crate) schema: String,
    /// All names.
    pub(crate) names: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &SchemaArgs) -> Result<ExitCode, CliError> {
    let names: Vec<String> = schemas::ALL.iter().map(|entry| entry.0.to_owned()).collect();
    let Some(wanted) = &args.name else {
        let document = SchemasDocument { schema: "dx-runner/schemas/1".to_owned(), names };
        ctx.out.either(&document, || document.names.join("\n"))?;
        return Ok(ExitCode::Ok);
    };
    let Some((_, make)) = schemas::ALL.iter().find(|entry| entry.0 == wanted) else {
        return Err(CliError::refused_try(
            ReasonCode::InvalidArgument,
            format!("there is no schema `{wanted}`"),
            format!("one of: {}", names.join(", ")),
        ));
    };
    ctx.out.json_pretty(&make())?;
    Ok(ExitCode::Ok)
}
