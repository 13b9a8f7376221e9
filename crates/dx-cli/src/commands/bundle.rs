//! `bundle`: one run's records in one file, for somebody else to look at.
//!
//! Called by: `commands::run`. Must never: put a secret or the prompt into it; that is the engine's to see to.

use clap::Args;
use dx_protocol::{BundleDocument, ExitCode};
use std::path::PathBuf;

use crate::args::JobArgs;
use crate::context::Context;
use crate::error::CliError;
use crate::text;

/// Pack a job's records into one file, without secrets and without the prompt
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner bundle --beads bd-1 -o bd-1.tar.gz")]
pub(crate) struct BundleArgs {
    #[command(flatten)]
    job: JobArgs,
    /// The file to write; one of that name is replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &BundleArgs) -> Result<ExitCode, CliError> {
    let bundle = ctx.engine.bundle(&args.job.name(), &args.output)?;
    ctx.out.either(&bundle, || list(&bundle))?;
    Ok(ExitCode::Ok)
}

fn list(bundle: &BundleDocument) -> String {
    let mut lines = vec![bundle.file.clone()];
    for entry in &bundle.contents {
        let cut = if entry.cut_bytes > 0 {
            format!(" (without {} in the middle)", text::bytes(entry.cut_bytes))
        } else {
            String::new()
        };
        lines.push(format!("  {} {}{cut}", entry.path, text::bytes(entry.bytes)));
    }
    lines.extend(bundle.left_out.iter().map(|what| format!("  not in it: {what}")));
    lines.join("\n")
}
