//! `wave`: jobs with dependencies, planned, run, watched, resumed and cancelled.
//!
//! Called by: `commands::run`. Must never: decide about an item; the coordinator does.

use clap::{Args, Subcommand, ValueEnum};
use dx_engine::{WaveSource, WaveWishes};
use dx_proc::inotify::{self, Watch};
use dx_protocol::{ExitCode, ReasonCode, WaveDocument, WaveState, WavesDocument};
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;
use crate::wave_graph;
use crate::wave_view::{self, WaveView};

/// A picture is drawn at least this often, for the times in it.
const TICK_MS: u64 = 1_000;

/// Run jobs with dependencies: plan, run, status, resume, cancel, report, list
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner wave plan wave.toml
  dx-runner wave run wave.toml")]
pub(crate) struct WaveArgs {
    #[command(subcommand)]
    command: WaveCommand,
}

#[derive(Debug, Subcommand)]
enum WaveCommand {
    Plan(PlanArgs),
    Run(RunArgs),
    Status(StatusArgs),
    Resume(ResumeArgs),
    Cancel(CancelArgs),
    Report(ReportArgs),
    List(ListArgs),
}

/// Read a wave file, or issues of Beads, and show the graph; start nothing
#[derive(Debug, Args)]
#[command(after_help = "\
All mistakes of a file are told at once, each with its line and what to do about it; exit code 64.

Examples:
  dx-runner wave plan wave.toml
  dx-runner wave plan wave.toml --format mermaid
  dx-runner wave plan --from-beads")]
struct PlanArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How the graph is drawn
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT", conflicts_with = "json")]
    format: Format,
}

#[derive(Debug, Args)]
struct SourceArgs {
    /// The wave file (TOML)
    #[arg(value_name = "FILE", required_unless_present = "from_beads")]
    file: Option<PathBuf>,
    /// Take open issues of Beads as the items: those that `bd` calls ready, and those that wait only for these. FILE may
    /// hold everything but items
    #[arg(long)]
    from_beads: bool,
}

impl SourceArgs {
    fn source(&self) -> WaveSource {
        WaveSource { file: self.file.clone(), from_beads: self.from_beads }
    }
}

/// Run a wave and watch it; Ctrl-C leaves it running
#[derive(Debug, Args)]
#[command(after_help = "\
A process of its own coordinates the wave. If that is killed, jobs go on, and `wave resume` continues.
Exit code 0 when all items are done, 31 when some are, 1 when none is; 3 with --exit-when-parked when it waits.
A POST of --notify is signed with DX_RUNNER_NOTIFY_SECRET: HMAC-SHA256 of the body in the header dx-signature.

Examples:
  dx-runner wave run wave.toml
  dx-runner wave run wave.toml --detach --json
  dx-runner wave run --from-beads --write-back")]
struct RunArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Tell Beads how its issues are: in progress, closed, or blocked with a comment about the reason
    #[arg(long, requires = "from_beads")]
    write_back: bool,
    /// Return when the coordinator runs
    #[arg(long)]
    detach: bool,
    /// End, and let `wave resume` go on, when everything that is left waits for a provider that takes nothing before a time;
    /// left out, the wave waits for it
    #[arg(long)]
    exit_when_parked: bool,
    /// Tell a program (JSON on stdin, no shell) or an address (signed POST) of each change of the wave and its items
    #[arg(long, value_name = "CMD|URL")]
    notify: Option<String>,
}

/// Show a wave: its items, progress and what is next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner wave status auth-1
  dx-runner wave status auth-1 --watch")]
struct StatusArgs {
    /// The wave's id, as `wave run` told it
    #[arg(value_name = "WAVE")]
    wave: String,
    /// Go on until the wave has ended, and exit as `wave run`
    #[arg(long)]
    watch: bool,
}

/// Go on with a wave whose coordinator is gone; nothing is started twice. Merges again what could not be merged
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner wave resume auth-1")]
struct ResumeArgs {
    /// The wave's id
    #[arg(value_name = "WAVE")]
    wave: String,
    /// Return when the coordinator runs
    #[arg(long)]
    detach: bool,
}

/// End a wave's jobs and everything that waits
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner wave cancel auth-1")]
struct CancelArgs {
    /// The wave's id
    #[arg(value_name = "WAVE")]
    wave: String,
}

/// Tell everything about a wave: attempts, gates, findings, commits, conflicts
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner wave report auth-1 --json")]
struct ReportArgs {
    /// The wave's id
    #[arg(value_name = "WAVE")]
    wave: String,
}

/// Show all waves, newest first
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  dx-runner wave list --json")]
struct ListArgs {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Layer by layer.
    Text,
    /// A Mermaid flow chart.
    Mermaid,
    /// For Graphviz.
    Dot,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &WaveArgs) -> Result<ExitCode, CliError> {
    match &args.command {
        WaveCommand::Plan(args) => plan(ctx, args),
        WaveCommand::Run(args) => {
            let wishes = WaveWishes {
                notify: args.notify.clone(),
                write_back: args.write_back,
                exit_when_parked: args.exit_when_parked,
            };
            let wave = ctx.engine.wave_run(&args.source.source(), wishes)?;
            attend(ctx, &wave, args.detach)
        }
        WaveCommand::Resume(args) => {
            let wave = ctx.engine.wave_resume(&args.wave)?;
            let code = attend(ctx, &wave, args.detach)?;
            // As `cancel` would have told.
            Ok(if wave.cancelled { ExitCode::Ok } else { code })
        }
        WaveCommand::Cancel(args) => cancel(ctx, &args.wave),
        WaveCommand::Status(args) if args.watch => follow(ctx, &args.wave),
        WaveCommand::Status(args) => {
            let wave = ctx.engine.wave_status(&args.wave)?;
            ctx.out.either(&wave, || wave_view::text(&wave, ctx.out.has_colour()))?;
            Ok(ExitCode::Ok)
        }
        WaveCommand::Report(args) => {
            let wave = ctx.engine.wave_status(&args.wave)?;
            ctx.out.either(&wave, || wave_view::report(&wave))?;
            Ok(ExitCode::Ok)
        }
        WaveCommand::List(_) => {
            let waves = ctx.engine.wave_list()?;
            ctx.out.either(&waves, || list(&waves))?;
            Ok(ExitCode::Ok)
        }
    }
}

/// Ends a wave, and waits until it has ended.
pub(crate) fn cancel(ctx: &Context, wave: &str) -> Result<ExitCode, CliError> {
    let wave = ctx.engine.wave_cancel(wave)?;
    follow(ctx, &wave.wave_id)?;
    Ok(ExitCode::Ok)
}

/// What is said of a wave that was begun or taken up, and then of its course.
fn attend(ctx: &Context, wave: &WaveDocument, detach: bool) -> Result<ExitCode, CliError> {
    if detach {
        ctx.out.either(wave, || format!("wave {} runs; dx-runner wave status {0} --watch", wave.wave_id))?;
        return Ok(ExitCode::Ok);
    }
    ctx.out.note(format!("wave {}; Ctrl-C leaves it running", wave.wave_id));
    follow(ctx, &wave.wave_id)
}

/// Shows the wave until it has ended, or nobody coordinates it any more.
fn follow(ctx: &Context, wave: &str) -> Result<ExitCode, CliError> {
    let signals = dx_proc::SignalFd::new(&[rustix::process::Signal::INT.as_raw()])?;
    let journal = ctx.engine.wave_journal(wave)?;
    // Where there are no watches left, the tick serves.
    let mut watch = Watch::new().ok().filter(|watch| watch.add(&journal, inotify::MODIFY).is_ok());
    let mut view = WaveView::new(ctx);
    loop {
        let document = ctx.engine.wave_status(wave)?;
        view.show(&document)?;
        if document.state != WaveState::Running {
            return end(ctx, &document);
        }
        let mut fds = vec![signals.as_fd()];
        fds.extend(watch.as_ref().map(AsFd::as_fd));
        let _woken = dx_proc::poll::poll(&fds, Some(TICK_MS))?;
        if let Some(watch) = &mut watch {
            let _events = watch.read_events(|_, _, _| {});
        }
        if !signals.drain()?.is_empty() {
            let next = format!(
                "dx-runner wave status {wave} --watch to come back, dx-runner wave cancel {wave} to end it"
            );
            let message = format!("interrupted; wave {wave} and its jobs go on");
            return Err(CliError::refused_try(ReasonCode::Interrupted, message, next));
        }
    }
}

fn end(ctx: &Context, wave: &WaveDocument) -> Result<ExitCode, CliError> {
    // A terminal has the last picture already.
    if ctx.out.is_json() || crate::output::terminal_size().is_none() {
        ctx.out.either(wave, || wave_view::text(wave, ctx.out.has_colour()))?;
    }
    match wave.state {
        WaveState::Done => Ok(ExitCode::Ok),
        WaveState::Partial => Ok(ExitCode::Partial),
        WaveState::Failed => Ok(ExitCode::Error),
        WaveState::Running | WaveState::Interrupted if let Some(until) = wave.waits_until => {
            Err(CliError::refused_try(
                ReasonCode::QuotaParked,
                format!(
                    "wave {} waits: every provider it could use is parked, the first until {until}",
                    wave.wave_id
                ),
                format!("dx-runner wave resume {} after {until}", wave.wave_id),
            ))
        }
        WaveState::Running | WaveState::Interrupted => Err(CliError::refused_try(
            ReasonCode::WaveInterrupted,
            format!("nobody coordinates wave {} any more; its jobs go on", wave.wave_id),
            format!("dx-runner wave resume {}", wave.wave_id),
        )),
    }
}

fn list(waves: &WavesDocument) -> String {
    if waves.waves.is_empty() && waves.damaged.is_empty() {
        return "there is no wave".to_owned();
    }
    let header = ["WAVE", "STATE", "CLOSED", "STARTED", "REPO"].map(str::to_owned).to_vec();
    let row = |wave: &dx_protocol::WaveRow| {
        vec![
            wave.wave_id.clone(),
            wave.state.as_str().to_owned(),
            format!("{}/{}", wave.closed, wave.total),
            wave.started_at.to_string(),
            wave.repo.clone(),
        ]
    };
    let unknown = |wave: &dx_protocol::WaveDamaged| {
        let mut cells = vec![wave.wave_id.clone(), if wave.newer { "newer" } else { "damaged" }.to_owned()];
        cells.resize(header.len(), "-".to_owned());
        cells
    };
    let rows = waves.waves.iter().map(row).chain(waves.damaged.iter().map(unknown)).collect();
    let mut lines = lines_of(header.clone(), rows);
    lines.extend(waves.damaged.iter().map(|wave| format!("{}: {}", wave.wave_id, wave.why)));
    lines.join("\n")
}

fn plan(ctx: &Context, args: &PlanArgs) -> Result<ExitCode, CliError> {
    let document = ctx.engine.wave_plan(&args.source.source())?;
    ctx.out.either(&document, || match args.format {
        Format::Text => wave_graph::text(&document),
        Format::Mermaid => wave_graph::mermaid(&document),
        Format::Dot => wave_graph::dot(&document),
    })?;
    Ok(ExitCode::Ok)
}
