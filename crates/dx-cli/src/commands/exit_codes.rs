//! `exit-codes`: the table of exit codes.
//!
//! Called by: `commands::run`. Must never: know a code that is not in the contract crate.

use clap::Args;
use dx_protocol::{ExitCode, ExitCodeRow, ExitCodesDocument};

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;

/// Show what the exit codes mean
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner exit-codes --json")]
pub(crate) struct ExitCodesArgs {}

/// Runs the command.
pub(crate) fn run(ctx: &Context, _args: &ExitCodesArgs) -> Result<ExitCode, CliError> {
    let document =
        ExitCodesDocument { schema: "dx-runner/exit-codes/1".to_owned(), exit_codes: ExitCodeRow::all() };
    ctx.out.either(&document, || {
        let header = ["CODE", "NAME", "MEANING"].map(ToOwned::to_owned).to_vec();
        let row = |row: &ExitCodeRow| vec![row.code.to_string(), row.name.clone(), row.meaning.clone()];
        lines_of(header, document.exit_codes.iter().map(row).collect()).join("\n")
    })?;
    Ok(ExitCode::Ok)
}
