//! `watchdog`: looks after live jobs, one round after the other.
//!
//! Called by: `commands::run`. Must never: decide what is done about a job, or end because one could not be looked after.

use clap::Args;
use dx_engine::EngineError;
use dx_protocol::{ExitCode, WatchdogDocument, WatchdogDone};
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::context::Context;
use crate::duration;
use crate::error::CliError;

/// With less between two rounds it would do nothing but look.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Restart jobs that stalled, and mark those whose tries are used up
#[derive(Debug, Args)]
#[command(after_help = "\
A job that is stalled or never did anything is ended and started again, and marked `blocked` when it was started again so often
already. Jobs of waves, services, and jobs with a known reason to be silent are left alone. Limits are not its business: every
job has its own.

Examples:
  dx-runner watchdog --once
  dx-runner watchdog --interval 2m --max-retries 2
  dx-runner watchdog --install > ~/.config/systemd/user/dx-runner-watchdog.service")]
pub(crate) struct WatchdogArgs {
    /// Time between two rounds, at least 100ms
    #[arg(long, value_name = "DUR", value_parser = parse_interval, default_value = "60s")]
    interval: Duration,
    /// So often a job is started again
    #[arg(long, value_name = "N", default_value_t = 1)]
    max_retries: u32,
    /// One round only, for cron; ends with 1 when something could not be done
    #[arg(long)]
    once: bool,
    /// Print a systemd user unit that runs it with these options, state directory and configuration, and do nothing else
    #[arg(long, conflicts_with = "once")]
    install: bool,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &WatchdogArgs) -> Result<ExitCode, CliError> {
    if args.install {
        ctx.out.line(unit(ctx, args)?)?;
        return Ok(ExitCode::Ok);
    }
    let mut watchdog = ctx.engine.watchdog()?;
    let signals = [rustix::process::Signal::INT, rustix::process::Signal::TERM];
    let signals = dx_proc::SignalFd::new(&signals.map(rustix::process::Signal::as_raw))?;
    loop {
        match watchdog.round(args.max_retries) {
            Ok(document) => {
                tell(ctx, &document, args.once)?;
                if args.once && document.actions.iter().any(|action| action.done == WatchdogDone::Failed) {
                    return Ok(ExitCode::Error);
                }
            }
            Err(error) if args.once => return Err(error.into()),
            // The next round may go well.
            Err(error) => ctx.out.error(&error.into()),
        }
        if args.once {
            return Ok(ExitCode::Ok);
        }
        let pause = u64::try_from(args.interval.as_millis()).unwrap_or(u64::MAX);
        let _woken = dx_proc::poll::poll(&[signals.as_fd()], Some(pause))?;
        if !signals.drain()?.is_empty() {
            return Ok(ExitCode::Ok);
        }
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < MIN_INTERVAL {
        return Err(format!("expected at least {}ms", MIN_INTERVAL.as_millis()));
    }
    Ok(interval)
}

/// Each round for programs; for people a round in which something was done.
fn tell(ctx: &Context, document: &WatchdogDocument, once: bool) -> Result<(), CliError> {
    if ctx.out.is_json() {
        return ctx.out.json(document);
    }
    for action in &document.actions {
        let (done, message) = (action.done.as_str(), &action.message);
        ctx.out.line(format!(
            "{done} {} ({}): {}: {message}",
            action.beads, action.provider, action.reason_code
        ))?;
    }
    if once && document.actions.is_empty() {
        ctx.out.line(format!("{} live jobs, nothing to do", document.looked_at))?;
    }
    Ok(())
}

/// Where jobs, their worktrees and what starts them are.
const PLACES: [&str; 6] = [
    "DX_RUNNER_STATE_DIR",
    "DX_RUNNER_ADAPTERS_DIR",
    "DX_RUNNER_WORKTREE_ROOT",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// The unit for the state directory and the configuration that this call has: systemd starts it elsewhere, and with an
/// environment of its own.
fn unit(ctx: &Context, args: &WatchdogArgs) -> Result<String, CliError> {
    let program =
        std::env::current_exe().map_err(|source| EngineError::Io { what: "find this program", source })?;
    let mut options = String::new();
    for (name, path) in ctx.named_places() {
        // A dollar sign means something in the arguments, and nowhere else.
        let path = quoted(&absolute(path)?.replace('$', "$$"));
        let _fits = write!(options, " {name} {path}");
    }
    let mut environment = String::new();
    let mut set = |name: &str, value: &str| {
        let _fits = writeln!(environment, "Environment={}", quoted(&format!("{name}={value}")));
    };
    for name in PLACES {
        let value = std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative one of XDG counts for nothing.
        if let Some(path) = value.filter(|path| path.is_absolute() || !name.starts_with("XDG_")) {
            set(name, &absolute(&path)?);
        }
    }
    if let Ok(path) = std::env::var("PATH") {
        set("PATH", &path);
    }
    Ok(format!(
        "[Unit]\n\
         Description=Restarts stalled jobs of dx-runner\n\
         \n\
         [Service]\n\
         ExecStart={} watchdog --interval {}ms --max-retries {}{options}\n\
         {environment}\
         # What a restarted job needs of credentials must be in its environment.\n\
         #EnvironmentFile=%h/.config/dx-runner/watchdog.env\n\
         # Jobs that it started again outlive it.\n\
         KillMode=process\n\
         Restart=always\n\
         RestartSec=10\n\
         \n\
         [Install]\n\
         WantedBy=default.target",
        quoted(&absolute(&program)?),
        args.interval.as_millis(),
        args.max_retries
    ))
}

/// A unit is a text, and has no current directory.
fn absolute(path: &Path) -> Result<String, EngineError> {
    let path = std::path::absolute(path)
        .map_err(|source| EngineError::Io { what: "find a place for the unit", source })?;
    path.into_os_string().into_string().map_err(|path| EngineError::PathNotUtf8(path.into()))
}

/// A word of a unit: a percent sign means something there, a quote ends the word, and a control character the line.
fn quoted(text: &str) -> String {
    let mut word = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => word.extend(['\\', letter]),
            '%' => word.push_str("%%"),
            '\n' => word.push_str("\\n"),
            '\0'..' ' | '\x7f' => {
                let _fits = write!(word, "\\x{:02x}", u32::from(letter));
            }
            _ => word.push(letter),
        }
    }
    word.push('"');
    word
}
