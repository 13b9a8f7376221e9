//! `beads-gate`: whether Beads can be used in a repository.
//!
//! Called by: `commands::run`. Must never: change anything but what a write probe asks for.

use clap::Args;
use dx_protocol::ExitCode;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;
use dx_engine::BeadsQuery;

/// Ask whether Beads can be used in a repository; exits 24 when not, 35 when `bd` does not answer
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner beads-gate --repo . --probe-id bd-12")]
pub(crate) struct BeadsArgs {
    /// A folder in the repository
    #[arg(long, value_name = "PATH")]
    repo: PathBuf,
    /// An issue that must be there
    #[arg(long, value_name = "ID")]
    probe_id: Option<String>,
    /// Write a comment to that issue, too
    #[arg(long, requires = "probe_id")]
    write_probe: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &BeadsArgs) -> Result<ExitCode, CliError> {
    super::tell(
        ctx,
        &ctx.engine.beads_gate(&BeadsQuery {
            repo: args.repo.clone(),
            probe: args.probe_id.clone(),
            write_probe: args.write_probe,
        })?,
    )
}
