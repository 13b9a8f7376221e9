//! `profiles`: named sets of what `start` takes.
//!
//! Called by: `commands::run`. Must never: start anything.

use clap::{Args, Subcommand};
use dx_protocol::{ExitCode, ProfileRow, ProfilesDocument};

use super::config::value_text;
use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;

/// Show the profiles that `--profile` takes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner profiles show review")]
pub(crate) struct ProfilesArgs {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to show.
#[derive(Debug, Subcommand)]
enum What {
    /// All profiles, a line each (the default)
    #[command(after_help = "Example:\n  dx-runner profiles list")]
    List,
    /// One profile with everything it says
    #[command(after_help = "Example:\n  dx-runner profiles show review")]
    Show {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ProfilesArgs) -> Result<ExitCode, CliError> {
    match &args.what {
        None | Some(What::List) => {
            let document = ctx.engine.profiles()?;
            ctx.out.either(&document, || list_text(&document))?;
        }
        Some(What::Show { name }) => {
            let document = ctx.engine.profile(name)?;
            ctx.out.either(&document, || {
                document.profiles.iter().map(row_text).collect::<Vec<_>>().join("\n")
            })?;
        }
    }
    Ok(ExitCode::Ok)
}

fn list_text(document: &ProfilesDocument) -> String {
    let header = ["PROFILE", "FROM", "WHAT"].map(ToOwned::to_owned).to_vec();
    let row = |row: &ProfileRow| {
        let what =
            if row.problem == "-" { row.description.clone() } else { format!("error: {}", row.problem) };
        vec![row.name.clone(), row.source.clone(), what]
    };
    lines_of(header, document.profiles.iter().map(row).collect()).join("\n")
}

fn row_text(row: &ProfileRow) -> String {
    let mut lines = vec![format!("{}: {}", row.name, row.description), format!("  from: {}", row.file)];
    lines.extend(row.settings.iter().map(|s| format!("  {} = {}", s.key, value_text(Some(&s.value)))));
    lines.join("\n")
}
