//! `prune`: settles records whose processes are gone.
//!
//! Called by: `commands::run`. Must never: touch a job that lives.

use clap::Args;
use dx_protocol::{BeadsId, ExitCode, ProviderName};

use crate::context::Context;
use crate::error::CliError;
use dx_engine::JobName;

/// Settle records whose processes are gone, and remove invalid pid files
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner prune --json")]
pub(crate) struct PruneArgs {
    /// Only this job
    #[arg(long, visible_alias = "id", value_name = "ID")]
    beads: Option<BeadsId>,
    /// The provider, when the id ran under several
    #[arg(long, value_name = "PROVIDER", requires = "beads")]
    provider: Option<ProviderName>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &PruneArgs) -> Result<ExitCode, CliError> {
    let job = args.beads.clone().map(|beads| JobName { beads, provider: args.provider.clone() });
    let done = ctx.engine.prune(job.as_ref())?;
    ctx.out.either(&done, || {
        let mut lines = vec![format!("checked {}, pruned {}", done.checked, done.pruned)];
        lines.extend(done.details.iter().map(|detail| format!("  {detail}")));
        lines.join("\n")
    })?;
    Ok(ExitCode::Ok)
}
