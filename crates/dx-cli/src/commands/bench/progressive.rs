//! `bench progressive`: the phases, as a command.
//!
//! Called by: `bench`. Must never: judge a phase; `dx-bench` does.

use super::{Commits, Place, exit_code, here, watched};
use clap::Args;
use clap::builder::PossibleValuesParser;
use dx_bench::PHASES;
use dx_protocol::{BenchPhase, BenchPhaseState, BenchProgressiveDocument, ExitCode};
use std::path::Path;

use crate::context::Context;
use crate::error::CliError;

/// Run phases that ask more and more of OpenCode, each after the one before has passed
#[derive(Debug, Args)]
#[command(after_help = "\
phase1_smoke             one prompt, one job at a time; it must succeed
phase2_6stream           three prompts twice, six jobs really at once; all must succeed
phase3_real_coding_gate  four prompts in opencode_run_headless and opencode_server_http, six jobs at once, each for up to
                         420 s; 90 % must succeed
A phase runs only after the one before has passed on the same commit: that of --required-baseline, else HEAD. Interrupted or
killed, the same command goes on where it was. The built-in prompts and the provider's own model are used.
Exit code 0 when all phases that were run passed, 21 when preflight failed, 1 when a gate did, 31 when fewer jobs succeeded
than the phase asks for.

Examples:
  dx-runner bench progressive --required-baseline \"$(git rev-parse HEAD)\"
  dx-runner bench progressive --phase phase1_smoke")]
pub(super) struct ProgressiveArgs {
    /// Only this phase [default: all, in their order]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(PHASES.map(|phase| phase.name)))]
    phase: Option<String>,
    /// Run phases although the one before has not passed
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    commits: Commits,
    #[command(flatten)]
    place: Place,
}

/// After Ctrl-C.
const GO_ON: &str = "dx-runner bench progressive with the same options goes on";

pub(super) fn run(ctx: &Context, args: &ProgressiveArgs) -> Result<ExitCode, CliError> {
    let request = dx_bench::ProgressiveRequest {
        phase: args.phase.clone(),
        force: args.force,
        required_baseline: args.commits.required_baseline.clone(),
        reported_commit: args.commits.reported_commit.clone(),
        branch: args.commits.branch.clone(),
        repo: here()?,
        out: args.place.folder(&ctx.engine)?,
    };
    let document = watched(ctx, GO_ON, move |engine, cancel, told| {
        dx_bench::progressive(engine, &request, cancel, told)
    })?;
    ctx.out.either(&document, || result(&document))?;
    Ok(exit_code(document.exit_code))
}

fn result(document: &BenchProgressiveDocument) -> String {
    let mut lines: Vec<String> = Vec::new();
    for phase in &document.phases {
        lines.push(line(phase));
        // Also of a phase that a gate refused: it says why.
        let page = Path::new(&document.out).join(&phase.run_id).join("summary.md");
        lines.push(page.display().to_string());
    }
    lines.push(format!("baseline {}: {}", document.baseline, document.reason_code));
    lines.join("\n")
}

/// `phase1_smoke: passed, 1 of 1 jobs succeeded (minimum 100 %)`.
fn line(phase: &BenchPhase) -> String {
    let word = if phase.state == BenchPhaseState::Passed { "passed" } else { "failed" };
    let minimum = (phase.minimum * 100.0).round();
    let (name, succeeded, of) = (&phase.phase, phase.succeeded, phase.of);
    let well = format!("{name}: {word}, {succeeded} of {of} jobs succeeded (minimum {minimum} %)");
    if phase.state == BenchPhaseState::Passed {
        return well;
    }
    let faults: Vec<&str> = phase.faults.iter().map(|fault| fault.as_str()).collect();
    let faults = if faults.is_empty() { String::new() } else { format!(" [{}]", faults.join(", ")) };
    format!("{well}; {}{faults}: {}", phase.reason_code, phase.details)
}
