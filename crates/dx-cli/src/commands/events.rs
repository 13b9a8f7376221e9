//! `events`: the journals of jobs as JSON lines, and what changes in a wave.
//!
//! Called by: `commands::run`. Must never: write to a journal; the only file it writes is the one named with `--out`.

use clap::Args;
use dx_events::{Line, LineSplitter};
use dx_protocol::{
    BeadsId, Event, EventLine, ExitCode, ProviderName, ReasonCode, Record, RunIds, Timestamp, WaveState,
};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::context::Context;
use crate::error::CliError;
use crate::follow::{Piece, Tail, Waiter, Wake};
use dx_engine::JobName;

/// Schema word of a line.
const SCHEMA: &str = "dx-runner/event/1";
/// No record is longer.
const MAX_RECORD: usize = 16 << 20;

/// Print what happened to jobs or to a wave, one JSON object per line
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dx-runner events --beads bd-1 -f
  dx-runner events --wave auth-1 -f")]
pub(crate) struct EventsArgs {
    /// The job's id; left out: all jobs that are live now
    #[arg(long, visible_alias = "id", value_name = "ID")]
    beads: Option<BeadsId>,
    /// The provider, when the id ran under several; otherwise the newest run counts
    #[arg(long, value_name = "PROVIDER", requires = "beads")]
    provider: Option<ProviderName>,
    /// A wave's id: its changes and those of its items, with reasons, as `wave run --notify` tells them
    #[arg(long, value_name = "WAVE", conflicts_with_all = ["beads", "provider"])]
    wave: Option<String>,
    /// Leave out what has this number or a smaller one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "wave", hide_default_value = true)]
    after: u64,
    /// Go on until the jobs have ended, or the wave, whoever coordinates it
    #[arg(short, long)]
    follow: bool,
    /// Write into this file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(ctx: &Context, args: &EventsArgs) -> Result<ExitCode, CliError> {
    if let Some(wave) = &args.wave {
        return run_wave(ctx, args, wave);
    }
    let jobs = match &args.beads {
        Some(beads) => vec![JobName { beads: beads.clone(), provider: args.provider.clone() }],
        None => ctx.engine.live_jobs()?,
    };
    let mut streams =
        jobs.into_iter().map(|job| Stream::open(ctx, job)).collect::<Result<Vec<Stream>, CliError>>()?;
    let mut sink = Sink::open(args.out.as_ref())?;
    if !args.follow {
        print_new(ctx, &mut streams, &mut sink)?;
        return Ok(ExitCode::Ok);
    }
    let mut waiter = Waiter::new()?;
    for stream in &streams {
        waiter.watch(&stream.path);
    }
    loop {
        print_new(ctx, &mut streams, &mut sink)?;
        if ctx.out.is_closed() || streams.iter().all(|stream| stream.ended) {
            return Ok(ExitCode::Ok);
        }
        if waiter.wait()? == Wake::Interrupted {
            return Ok(ExitCode::Interrupted);
        }
        // Whether the end has come is asked before the last look, so that nothing is left behind.
        for stream in &mut streams {
            stream.look_for_end(ctx);
        }
    }
}

/// The changes of a wave. A wave that nobody coordinates may be gone on with: it is waited for, and that is said.
fn run_wave(ctx: &Context, args: &EventsArgs, wave: &str) -> Result<ExitCode, CliError> {
    let journal = ctx.engine.wave_journal(wave)?;
    let mut sink = Sink::open(args.out.as_ref())?;
    let mut waiter = args.follow.then(Waiter::new).transpose()?;
    if let Some(waiter) = &mut waiter {
        waiter.watch(&journal);
    }
    let (mut told, mut before) = (args.after, WaveState::Running);
    loop {
        let (state, notices) = ctx.engine.wave_events(wave)?;
        for notice in notices.iter().filter(|notice| notice.number > told) {
            sink.line(ctx, &serde_json::to_string(notice)?)?;
        }
        told = notices.last().map_or(told, |last| last.number.max(told));
        let Some(waiter) = waiter.as_mut().filter(|_| !state.has_ended() && !ctx.out.is_closed()) else {
            return Ok(ExitCode::Ok);
        };
        if state == WaveState::Interrupted && before != state {
            ctx.out.note(format!("nobody coordinates wave {wave}; dx-runner wave resume {wave}"));
        }
        before = state;
        if waiter.wait()? == Wake::Interrupted {
            return Ok(ExitCode::Interrupted);
        }
    }
}

/// One job's journal.
struct Stream {
    job: JobName,
    path: PathBuf,
    ids: RunIds,
    tail: Tail,
    lines: LineSplitter,
    ended: bool,
}

impl Stream {
    fn open(ctx: &Context, job: JobName) -> Result<Self, CliError> {
        let (path, ids, ended) = ctx.engine.journal_file(&job)?;
        let tail = Tail::new(&path, 0);
        Ok(Self { job, path, ids, tail, lines: LineSplitter::with_limit(MAX_RECORD), ended })
    }

    /// A job whose processes have all died writes no end; a job that was restarted has another journal.
    fn look_for_end(&mut self, ctx: &Context) {
        self.ended = self.ended
            || match ctx.engine.journal_file(&self.job) {
                Ok((_, ids, ended)) => ended || ids.run_uuid != self.ids.run_uuid,
                Err(_) => true,
            };
    }

    /// All records that are new.
    fn take(&mut self, into: &mut Vec<(Timestamp, String)>) -> Result<(), CliError> {
        let Self { tail, lines, ids, ended, .. } = self;
        tail.read(&mut |piece| {
            match piece {
                Piece::Cut => lines.resync(0),
                Piece::Bytes(bytes) => lines.feed(bytes, &mut |line| {
                    if let Line::Whole { bytes, .. } = line
                        && let Some((at, text, last)) = event_line(ids, bytes)
                    {
                        *ended |= last;
                        into.push((at, text));
                    }
                }),
            }
            Ok(true)
        })
    }
}

/// One record as a line: its time, the JSON, and whether it is the last one. `None` for a line that is no record.
fn event_line(ids: &RunIds, bytes: &[u8]) -> Option<(Timestamp, String, bool)> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let (at, last) = (record.at, matches!(record.event, Event::Ended(_)));
    let unknown = record.event == Event::Unknown;
    let line = EventLine {
        schema: SCHEMA.to_owned(),
        beads: ids.beads.to_string(),
        provider: ids.provider.to_string(),
        run_instance: ids.run_instance.clone(),
        record,
    };
    let text = if unknown {
        // Written by a newer version: passed on as it is.
        let mut value = serde_json::to_value(&line).ok()?;
        value["record"] = serde_json::from_slice(bytes).ok()?;
        value.to_string()
    } else {
        serde_json::to_string(&line).ok()?
    };
    Some((at, text, last))
}

fn print_new(ctx: &Context, streams: &mut [Stream], sink: &mut Sink) -> Result<(), CliError> {
    let mut new = Vec::new();
    for stream in streams {
        stream.take(&mut new)?;
    }
    // Stable: records of one job keep their order.
    new.sort_by_key(|(at, _)| *at);
    new.iter().try_for_each(|(_, line)| sink.line(ctx, line))
}

/// Where the lines go.
enum Sink {
    Stdout,
    File(PathBuf, File),
}

impl Sink {
    fn open(path: Option<&PathBuf>) -> Result<Self, CliError> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        match File::create(path) {
            Ok(file) => Ok(Self::File(path.clone(), file)),
            Err(source) => Err(writing(path, source)),
        }
    }

    fn line(&mut self, ctx: &Context, line: &str) -> Result<(), CliError> {
        match self {
            Self::Stdout => ctx.out.line(line),
            Self::File(path, file) => {
                file.write_all(format!("{line}\n").as_bytes()).map_err(|source| writing(path, source))
            }
        }
    }
}

fn writing(path: &std::path::Path, source: std::io::Error) -> CliError {
    CliError::Io { what: format!("write {}", path.display()), reason: ReasonCode::OutputUnwritable, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> RunIds {
        RunIds {
            beads: "bd-1".parse().unwrap(),
            provider: "exec".parse().unwrap(),
            run_id: "20300101000000".to_owned(),
            run_instance: "20300101000000-exec-1".to_owned(),
            run_uuid: "019aa3c0-0000-7000-8000-000000000000".parse().unwrap(),
        }
    }

    #[test]
    fn records_of_newer_versions_pass_through_and_torn_lines_do_not() {
        let newer = br#"{"at":"2030-01-01T00:00:00.001Z","mono_ms":2,"by":"monitor","event":{"type":"from_tomorrow","x":[1]}}"#;
        let (at, line, last) = event_line(&ids(), newer).unwrap();
        assert!(line.contains(r#""type":"from_tomorrow""#) && line.contains(r#""x":[1]"#), "{line}");
        assert_eq!((Some(at), last), (Timestamp::parse("2030-01-01T00:00:00.001Z"), false));
        assert!(event_line(&ids(), &newer[..40]).is_none());
    }
}
