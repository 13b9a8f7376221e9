//! `__reference`: writes the generated documentation into a folder. Hidden; the repository's `gen` step calls it.
//!
//! Called by: `commands::run`. Must never: delete what it did not write.

use clap::Args;
use dx_protocol::{ExitCode, ReasonCode};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::CliError;
use crate::reference;

/// Write the generated reference
#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// The folder; it is made when it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &ReferenceArgs) -> Result<ExitCode, CliError> {
    for (name, content) in reference::files()? {
        let path = args.dir.join(name);
        write(&path, &content).map_err(|source| CliError::Io {
            what: format!("write {}", path.display()),
            reason: ReasonCode::InvalidArgument,
            source,
        })?;
        ctx.out.line(path.display().to_string())?;
    }
    Ok(ExitCode::Ok)
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, content)
}
