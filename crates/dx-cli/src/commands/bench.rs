//! `bench`: the lanes side by side, on real jobs.
//!
//! Called by: `commands::run`. Must never: make a figure; `dx-bench` does.

mod progressive;

use clap::{Args, Subcommand};
use dx_bench::{BenchError, Folder, News};
use dx_engine::{Cancel, Engine};
use dx_protocol::{BenchCompareDocument, BenchDocument, BenchGate, BenchManifest, BenchRatio, ExitCode};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::asking;
use crate::context::Context;
use crate::error::CliError;

/// Compare lanes by running the same prompts through each: run, progressive, report, compare, prompts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner bench run --workflows opencode_run_headless,cc_glm_headless --rounds 3
  dx-runner bench compare 20260101120000 20260102120000")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Run(Box<RunArgs>),
    Progressive(progressive::ProgressiveArgs),
    Report(ReportArgs),
    Compare(CompareArgs),
    Prompts(PromptsArgs),
}

/// Run every prompt in every workflow as jobs, and tell what that shows
#[derive(Debug, Args)]
#[command(after_help = "\
Workflows: opencode_run_headless, opencode_server_http, opencode_server_attach_run, cc_glm_headless, claude_code_headless,
gemini_run_headless, codex_headless. Each of a server gets one of its own for the run, unless OPENCODE_URL names one.
Each job works in a small repository of its own. A run that was interrupted or killed goes on with the same --run-id.
Exit code 0 when all jobs succeeded, 31 when some did, 1 when none did; 21 when preflight failed and nothing was run.

Examples:
  dx-runner bench run --workflows opencode_run_headless --model zai/glm-5 --dry-run
  dx-runner bench run --workflows opencode_run_headless,codex_headless --model codex_headless=gpt-5 --rounds 3")]
struct RunArgs {
    /// The lanes, in the order in which they are told of
    #[arg(long, required = true, value_delimiter = ',', value_name = "A,B,C")]
    workflows: Vec<String>,
    /// Model of all workflows, or of one as WORKFLOW=MODEL [default: each provider's own]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// File with prompts, in the form that `bench prompts` prints [default: the built-in ones]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// So many jobs at once
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel: u32,
    /// How often each prompt is asked
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Further attempts of a job that failed
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10))]
    max_retries: u32,
    /// Longest time of an attempt, in seconds
    #[arg(long, default_value_t = 300, value_name = "SEC", value_parser = clap::value_parser!(u32).range(1..=86400))]
    timeout: u32,
    #[command(flatten)]
    commits: Commits,
    /// Name of the run [default: the time]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print the plan and start nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct Commits {
    /// Run nothing unless HEAD contains this commit
    #[arg(long, value_name = "SHA")]
    required_baseline: Option<String>,
    /// Fail at the end unless this commit is on the branch
    #[arg(long, value_name = "SHA")]
    reported_commit: Option<String>,
    /// The branch of --reported-commit [default: HEAD]
    #[arg(long, value_name = "NAME", requires = "reported_commit")]
    branch: Option<String>,
}

#[derive(Debug, Args)]
struct Place {
    /// The folder of all runs [default: bench in the state directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Place {
    fn folder(&self, engine: &Engine) -> Result<PathBuf, CliError> {
        match &self.out {
            Some(out) => std::path::absolute(out).map_err(|source| CliError::reading(out, source)),
            None => Ok(engine.state_root()?.join("bench")),
        }
    }
}

/// Make a run's summary and report again from its records
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner bench report 20260101120000")]
struct ReportArgs {
    /// A run's name or folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Tell what changed between two runs beyond noise
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner bench compare 20260101120000 20260102120000")]
struct CompareArgs {
    /// The earlier run's name or folder
    #[arg(value_name = "RUN_A")]
    a: PathBuf,
    /// The later run's name or folder
    #[arg(value_name = "RUN_B")]
    b: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Print the built-in prompts, as an example of a file of one's own
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner bench prompts > prompts.json")]
struct PromptsArgs {}

/// After Ctrl-C.
const GO_ON: &str = "dx-runner bench run with the same options and its --run-id goes on";

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Engine(error) => Self::Engine(error),
            other => Self::refused_try(other.reason(), other.to_string(), other.next_action()),
        }
    }
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &BenchArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        BenchCommand::Run(args) => bench(ctx, args),
        BenchCommand::Progressive(args) => progressive::run(ctx, args),
        BenchCommand::Report(args) => {
            let folder = find(ctx, &args.run, &args.place)?;
            let summary = dx_bench::render(&folder)?;
            let told = || {
                let mut lines: Vec<String> = summary.failed_gates.iter().map(failed).collect();
                lines.push(told_files(folder.path()));
                lines.join("\n")
            };
            ctx.out.either(&summary, told)?;
            Ok(ExitCode::Ok)
        }
        BenchCommand::Compare(args) => {
            let (a, b) = (find(ctx, &args.a, &args.place)?, find(ctx, &args.b, &args.place)?);
            let document = dx_bench::compare(&a, &b)?;
            ctx.out.either(&document, || comparison(&document))?;
            Ok(ExitCode::Ok)
        }
        BenchCommand::Prompts(PromptsArgs {}) => {
            ctx.out.line(dx_bench::prompts::BUILT_IN.trim_end())?;
            Ok(ExitCode::Ok)
        }
    }
}

fn find(ctx: &Context, run: &Path, place: &Place) -> Result<Folder, CliError> {
    Ok(Folder::find(run, &place.folder(&ctx.engine)?)?)
}

fn bench(ctx: &Context, args: &RunArgs) -> Result<ExitCode, CliError> {
    let request = dx_bench::Request {
        workflows: args.workflows.clone(),
        models: args.models.clone(),
        prompts: args.prompts.clone(),
        only: &[],
        parallel: args.parallel,
        all_at_once: false,
        rounds: args.rounds,
        max_retries: args.max_retries,
        timeout: Duration::from_secs(args.timeout.into()),
        required_baseline: args.commits.required_baseline.clone(),
        reported_commit: args.commits.reported_commit.clone(),
        branch: args.commits.branch.clone(),
        repo: here()?,
        run_id: args.run_id.clone(),
        out: args.place.folder(&ctx.engine)?,
    };
    if args.dry_run {
        let manifest = dx_bench::dry_run(&request)?;
        ctx.out.either(&manifest, || plan(&manifest))?;
        return Ok(ExitCode::Ok);
    }
    let document =
        watched(ctx, GO_ON, move |engine, cancel, told| dx_bench::run(engine, &request, cancel, told))?;
    ctx.out.either(&document, || result(&document))?;
    Ok(exit_code(document.exit_code))
}

/// Runs `work` until it is done or given up, and shows its news, which several threads tell. `next` is what one does after
/// giving up.
fn watched<T: Send + 'static>(
    ctx: &Context,
    next: &'static str,
    work: impl FnOnce(&Engine, &Cancel, &(dyn Fn(News<'_>) + Sync)) -> Result<T, BenchError> + Send + 'static,
) -> Result<T, CliError> {
    let done = asking::cancellable(ctx, next, move |ctx, cancel| {
        let shown = Mutex::new(ctx.again());
        let told = |news: News<'_>| tell(&shown.lock().unwrap_or_else(PoisonError::into_inner), news);
        work(&ctx.engine, cancel, &told)
    })?;
    Ok(done?)
}

fn here() -> Result<PathBuf, CliError> {
    std::env::current_dir().map_err(|source| CliError::reading(Path::new("."), source))
}

/// As a document tells it.
fn exit_code(told: i32) -> ExitCode {
    let code = ExitCode::ALL.iter().copied().find(|code| i32::from(code.code()) == told);
    code.unwrap_or(ExitCode::Error)
}

fn tell(ctx: &Context, news: News<'_>) {
    match news {
        News::Begun { run_id, jobs, done } => {
            let done = if done > 0 { format!(", {done} are done") } else { String::new() };
            ctx.out.note(format!("run {run_id}: {jobs} jobs{done}\n"));
        }
        News::Phase(name) => ctx.out.note(format!("{name}\n")),
        News::Started(_) => {}
        News::Ended(record) => {
            let word = match &record.failure {
                None => "ok".to_owned(),
                Some(failure) => format!("{}: {}", failure.category.as_str(), failure.reason_code),
            };
            let time =
                record.completion_ms.map_or_else(String::new, |ms| format!(" {:.1} s", ms as f64 / 1e3));
            ctx.out.note(format!("{}{time} {word}\n", record.job));
        }
    }
}

fn plan(manifest: &BenchManifest) -> String {
    let mut lines: Vec<String> = manifest.jobs.iter().map(|job| job.job.clone()).collect();
    let (jobs, parallel) = (manifest.jobs.len(), manifest.parallel);
    lines.push(format!(
        "{jobs} jobs, up to {parallel} at once; those of round 0 warm up and are in no figure"
    ));
    lines.join("\n")
}

fn result(document: &BenchDocument) -> String {
    let mut lines: Vec<String> = document.gates.iter().filter(|gate| !gate.passed).map(failed).collect();
    if let Some(summary) = &document.summary {
        for row in &summary.workflows {
            let time =
                row.completion_p50.map_or_else(String::new, |p50| format!(", p50 {:.1} s", p50.value / 1e3));
            lines.push(format!("{}: {}/{}{time}", row.name, row.success.count, row.success.of));
        }
        for comparison in &summary.comparisons {
            lines.extend(comparison.completion.map(|ratio| differs(&comparison.a, &comparison.b, &ratio)));
            if comparison.success_differs {
                lines.push(dx_bench::succeed_differently(&comparison.a, &comparison.b));
            }
        }
        lines.extend(summary.workflows.iter().filter_map(dx_bench::fallbacks));
        lines.push(told_files(Path::new(&document.out)));
    }
    lines.push(format!("{}: {}", document.run_id, document.reason_code));
    lines.join("\n")
}

fn failed(gate: &BenchGate) -> String {
    let (what, more) = dx_bench::told(gate);
    format!("{what} {more} ({})", gate.reason_code)
}

fn told_files(folder: &Path) -> String {
    format!("{}\n{}", folder.join("summary.md").display(), folder.join("report.html").display())
}

fn differs(a: &str, b: &str, ratio: &BenchRatio) -> String {
    let word = dx_bench::verdict(ratio);
    format!("{b} {word} {a}: {:.2} times [{:.2}, {:.2}]", ratio.value, ratio.low, ratio.high)
}

fn comparison(document: &BenchCompareDocument) -> String {
    let (a, b) = (&document.a, &document.b);
    let mut lines = Vec::new();
    for (run, missing) in [(a, document.missing_a), (b, document.missing_b)] {
        if missing > 0 {
            lines.push(format!("{run} is incomplete: {missing} planned jobs have no record; {GO_ON}"));
        }
    }
    for (run, gates) in [(a, &document.failed_gates_a), (b, &document.failed_gates_b)] {
        lines.extend(gates.iter().map(|gate| format!("{run}: {}", failed(gate))));
    }
    for row in &document.workflows {
        let name = &row.workflow;
        let share = |share: &dx_protocol::BenchShare| format!("{}/{}", share.count, share.of);
        let lacking =
            [(a, row.missing_a), (b, row.missing_b)].into_iter().filter(|(_, missing)| *missing > 0);
        let lacking: Vec<String> =
            lacking.map(|(run, missing)| format!("{run} lacks {missing} jobs")).collect();
        if !lacking.is_empty() {
            let (success_a, success_b) = (share(&row.success_a), share(&row.success_b));
            let lacking = lacking.join(" and ");
            lines.push(format!("{name}: success {success_a} and {success_b}: no verdict, {lacking}"));
            continue;
        }
        let word = match (row.success_differs, row.success_could_differ) {
            (true, _) => "changed",
            (false, true) => "no change beyond noise",
            (false, false) => "so few jobs can show nothing",
        };
        lines.push(format!(
            "{name}: success {} and {}: {word}",
            share(&row.success_a),
            share(&row.success_b)
        ));
        for (run, fallbacks) in [(a, row.fallbacks_a), (b, row.fallbacks_b)] {
            if fallbacks > 0 {
                lines.push(format!("{name}: {fallbacks} jobs of {run} ran on another model than the one asked for or preferred"));
            }
        }
        for (what, ratio) in [("first output", &row.first_output), ("completion", &row.completion)] {
            lines.push(match ratio {
                None => format!("{name}: {what}: fewer than six pairs, nothing can be said"),
                Some(ratio) if !ratio.differs => format!("{name}: {what}: no change beyond noise"),
                Some(ratio) => format!("{name}: {what}: {}", differs(a, b, ratio)),
            });
        }
    }
    if !document.same_prompts {
        lines.push("the runs asked different prompts; only what has the same name was compared".to_owned());
    }
    if !document.only_in_one.is_empty() {
        lines.push(format!("in one run only: {}", document.only_in_one.join(", ")));
    }
    lines.join("\n")
}
