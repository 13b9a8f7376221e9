//! A job's output on the screen: its last lines, or all of it as it comes.
//!
//! Called by: `logs` and `run`. Must never: write to the log, or read a huge one whole when only its end is wanted.

use dx_events::mask::{MaskStream, Secrets};
use std::path::Path;
use std::sync::Arc;

use crate::context::Context;
use crate::error::CliError;
use crate::follow::{Piece, Tail, Waiter, Wake, open_existing};
use crate::last_lines;
use crate::text;
use crate::transcript::Transcript;
use dx_engine::{JobName, LogFiles};

/// What lines of standard error begin with, where it is a file of its own.
const ERR_PREFIX: &str = "stderr| ";

/// What to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View {
    /// The last so many lines; `None`: from the start.
    pub(crate) lines: Option<usize>,
    /// The bytes of the log instead of a transcript.
    pub(crate) raw: bool,
    /// Go on until the job has ended.
    pub(crate) follow: bool,
    /// An earlier run; `None`: the newest.
    pub(crate) run: Option<u32>,
}

/// How showing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// All is shown.
    Done,
    /// Ctrl-C.
    Interrupted,
}

/// Shows a job's output.
pub(crate) fn show(ctx: &Context, job: &JobName, view: View) -> Result<Shown, CliError> {
    let files = ctx.engine.log_files(job, view.run)?;
    // Before anything is read, so that nothing written meanwhile is missed.
    let waiter = if view.follow { Some(waiter(ctx, job, &files)?) } else { None };
    let mut streams = streams(ctx, &files, view)?;
    for stream in &mut streams {
        stream.show_new(ctx)?;
    }
    let shown = match waiter {
        Some(mut waiter) => follow(ctx, job, view, &files, &mut streams, &mut waiter)?,
        None => Shown::Done,
    };
    if shown == Shown::Done {
        streams.iter_mut().try_for_each(|stream| stream.finish(ctx))?;
    }
    Ok(shown)
}

fn waiter(ctx: &Context, job: &JobName, files: &LogFiles) -> Result<Waiter, CliError> {
    let mut waiter = Waiter::new()?;
    waiter.watch(&files.log);
    if let Some(err) = &files.err {
        waiter.watch(err);
    }
    // The end is told by the journal, not by the log. A foreign record has none.
    if let Ok((journal, ..)) = ctx.engine.journal_file(job) {
        waiter.watch(&journal);
    }
    Ok(waiter)
}

fn follow(
    ctx: &Context,
    job: &JobName,
    view: View,
    files: &LogFiles,
    streams: &mut [Stream],
    waiter: &mut Waiter,
) -> Result<Shown, CliError> {
    let mut ended = files.ended;
    loop {
        // Asked before the last look, so that nothing is left behind.
        for stream in &mut *streams {
            stream.show_new(ctx)?;
        }
        if ended || ctx.out.is_closed() {
            return Ok(Shown::Done);
        }
        if waiter.wait()? == Wake::Interrupted {
            return Ok(Shown::Interrupted);
        }
        let now = ctx.engine.log_files(job, view.run)?;
        // A restart made another run the newest: this one has ended.
        ended = now.ended || now.uuid != files.uuid;
    }
}

fn streams(ctx: &Context, files: &LogFiles, view: View) -> Result<Vec<Stream>, CliError> {
    let mut streams = Vec::new();
    if view.raw {
        let offset = match (view.lines, open_existing(&files.log)?) {
            (Some(count), Some(file)) => {
                last_lines::start_of(&file, count).map_err(|error| CliError::reading(&files.log, error))?
            }
            _ => 0,
        };
        let shape = Shape::Bytes(files.secrets.stream());
        streams.push(Stream { tail: Tail::new(&files.log, offset), shape, prefix: "" });
        return Ok(streams);
    }
    let complete = files.ended || !view.follow;
    streams.push(Stream::begin(ctx, &files.log, (files.grammar, &files.secrets), "", view.lines, complete)?);
    if let Some(err) = &files.err {
        let kind = (dx_protocol::Grammar::Text, &files.secrets);
        streams.push(Stream::begin(ctx, err, kind, ERR_PREFIX, view.lines, complete)?);
    }
    Ok(streams)
}

/// One file on its way to the screen.
struct Stream {
    tail: Tail,
    shape: Shape,
    prefix: &'static str,
}

/// What becomes of the bytes on the way.
enum Shape {
    /// Nothing but the mask.
    Bytes(MaskStream<Arc<Secrets>>),
    Lines(Transcript),
}

impl Stream {
    /// Shows the last `lines` (of a log that is or is not `complete`) and stands behind them; with `None` stands at the start.
    fn begin(
        ctx: &Context,
        path: &Path,
        kind: (dx_protocol::Grammar, &Arc<Secrets>),
        prefix: &'static str,
        lines: Option<usize>,
        complete: bool,
    ) -> Result<Self, CliError> {
        let (Some(count), Some(file)) = (lines, open_existing(path)?) else {
            let shape = Shape::Lines(Transcript::new(kind.0, kind.1));
            return Ok(Self { tail: Tail::new(path, 0), shape, prefix });
        };
        let last = last_lines::transcript(&file, kind, count, complete);
        let last = last.map_err(|error| CliError::reading(path, error))?;
        if last.lines.is_empty() && count > 0 && last.offset > last_lines::MAX_BACK {
            let back = text::bytes(last_lines::MAX_BACK);
            ctx.out
                .note(format!("nothing to show in the last {back} of {}; --raw shows bytes", path.display()));
        }
        for line in &last.lines {
            ctx.out.line_bytes(prefix, line)?;
        }
        Ok(Self { tail: Tail::new(path, last.offset), shape: Shape::Lines(last.transcript), prefix })
    }

    fn show_new(&mut self, ctx: &Context) -> Result<(), CliError> {
        let Self { tail, shape, prefix } = self;
        tail.read(&mut |piece| {
            match (piece, &mut *shape) {
                (Piece::Bytes(bytes), Shape::Bytes(mask)) => {
                    show_bytes(ctx, |sink| mask.feed(bytes, &mut |_, _| {}, sink))?;
                }
                (Piece::Bytes(bytes), Shape::Lines(transcript)) => {
                    show_lines(ctx, prefix, |sink| transcript.feed(bytes, sink))?;
                }
                (Piece::Cut, Shape::Bytes(mask)) => mask.resync(0),
                (Piece::Cut, Shape::Lines(transcript)) => transcript.resync(0),
            }
            Ok(!ctx.out.is_closed())
        })
    }

    fn finish(&mut self, ctx: &Context) -> Result<(), CliError> {
        match &mut self.shape {
            Shape::Bytes(mask) => show_bytes(ctx, |sink| mask.finish(&mut |_, _| {}, sink)),
            Shape::Lines(transcript) => show_lines(ctx, self.prefix, |sink| transcript.finish(sink)),
        }
    }
}

/// Prints the bytes that `produce` hands to its sink; the first failure is the result.
fn show_bytes(ctx: &Context, produce: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Result<(), CliError> {
    let mut result = Ok(());
    produce(&mut |bytes| {
        if result.is_ok() {
            result = ctx.out.bytes(bytes);
        }
    });
    result
}

/// Prints what `produce` hands to its sink; the first failure is the result.
fn show_lines(
    ctx: &Context,
    prefix: &str,
    produce: impl FnOnce(&mut dyn FnMut(&[u8])),
) -> Result<(), CliError> {
    let mut result = Ok(());
    produce(&mut |line| {
        if result.is_ok() {
            result = ctx.out.line_bytes(prefix, line);
        }
    });
    result
}
