//! Following the agent's log: masking what is new, and making events of it; an eye on its size. Reads in small pieces,
//! keeps nothing but the parser's and the mask's own bounded state.

use crate::masked_file::{Access, MaskedFile};
use dx_events::mask::Secrets;
use dx_events::{Parser, Summary, stderr_event};
use dx_jobdir::RunPaths;
use dx_protocol::{AgentEvent, Grammar, ProviderReport};
use std::sync::Arc;

/// Read this much at once.
const PIECE: usize = 16 << 10;
/// Parse at most this much in one round, so that requests and limits are never starved by a flood …
const ROUND: u64 = 256 << 10;
/// … and this much where there is nothing to parse.
const PLAIN_ROUND: u64 = 2 << 20;
/// A line of standard error is read up to this length.
const ERR_LINE: usize = 4096;

/// What a round found.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) events: Vec<(u64, AgentEvent)>,
    pub(crate) lost_bytes: u64,
    /// The log grew.
    pub(crate) grew: bool,
    /// There is more to read at once.
    pub(crate) more: bool,
}

pub(crate) struct Follower {
    log: Option<MaskedFile>,
    err: Option<MaskedFile>,
    grammar: Grammar,
    parser: Parser,
    err_line: Vec<u8>,
    size: u64,
    err_size: u64,
    pub(crate) summary: Summary,
}

impl Follower {
    pub(crate) fn new(paths: &RunPaths, grammar: Grammar, secrets: &Arc<Secrets>) -> Self {
        Self {
            log: MaskedFile::open(&paths.log(), secrets, Access::Mend),
            err: MaskedFile::open(&paths.err(), secrets, Access::Mend),
            grammar,
            parser: Parser::new(grammar),
            err_line: Vec::new(),
            size: 0,
            err_size: 0,
            summary: Summary::new(grammar),
        }
    }

    /// Bytes of output, standard error included.
    pub(crate) fn bytes(&self) -> u64 {
        self.size + self.err_size
    }

    pub(crate) fn parsed(&self) -> u64 {
        self.parser.offset()
    }

    /// What the events so far add up to.
    pub(crate) fn report(&self) -> ProviderReport {
        let summary = &self.summary;
        let count = |n: &dx_events::ToolCount| u64::from(n.ok) + u64::from(n.failed);
        ProviderReport {
            strays: 0,
            strays_left: 0,
            verdict: summary.verdict(),
            usage: summary.usage,
            tools: summary.tools.iter().map(|(name, n)| (name.clone(), count(n))).collect(),
            session: summary.session.clone(),
            writes_refused: summary.writes_refused.clone(),
            trouble: summary.trouble(),
        }
    }

    /// Takes in what is new.
    pub(crate) fn round(&mut self) -> Round {
        let mut round = Round::default();
        // Not there before there is something to read: most looks find nothing, and one monitor is there for each job.
        let mut buffer = Vec::new();
        self.read_err(&mut buffer, &mut round);
        // Which came first within one round is unknown. What is told of a failed call shall not be taken back by the
        // step before it.
        let mut errors = std::mem::take(&mut round.events);
        self.read_log(&mut buffer, &mut round);
        round.events.append(&mut errors);
        round
    }

    /// Masks what is left, when nothing more will come.
    pub(crate) fn finish(&mut self) {
        while self.round().more {}
        for file in [&mut self.log, &mut self.err].into_iter().flatten() {
            file.finish(&mut |_| {});
        }
    }

    fn read_log(&mut self, buffer: &mut Vec<u8>, round: &mut Round) {
        let Self { log: Some(log), parser, summary, .. } = self else { return };
        let size = log.len();
        if size < log.offset() {
            round.lost_bytes += log.offset() - size;
            log.resync(size);
            parser.resync(size);
        }
        round.grew |= size != self.size;
        self.size = size;
        if size == log.offset() {
            log.mend_end();
            return;
        }
        buffer.resize(PIECE, 0);
        let plain = self.grammar == Grammar::Text;
        let mut budget = if plain { PLAIN_ROUND } else { ROUND };
        while budget > 0 {
            if plain {
                log.skip_hole();
            }
            let read = log.read(buffer, &mut |bytes| {
                if plain {
                    return;
                }
                parser.feed(bytes, &mut |offset, event| {
                    summary.apply(&event);
                    if event.is_journalled() || matches!(event, AgentEvent::StepStarted | AgentEvent::Working)
                    {
                        round.events.push((offset, event));
                    } else if round.events.is_empty() {
                        round.events.push((offset, AgentEvent::StepStarted));
                    }
                });
            });
            if plain {
                // Nothing to parse: the size is all there is to know.
                parser.resync(log.offset());
            }
            if read == 0 {
                log.mend_end();
                return;
            }
            budget = budget.saturating_sub(read as u64);
        }
        round.more = true;
    }

    fn read_err(&mut self, buffer: &mut Vec<u8>, round: &mut Round) {
        let Self { err: Some(err), err_line, summary, .. } = self else { return };
        let size = err.len();
        if size < err.offset() {
            round.lost_bytes += err.offset() - size;
            err.resync(size);
            err_line.clear();
        }
        round.grew |= size != self.err_size;
        self.err_size = size;
        if size == err.offset() {
            err.mend_end();
            return;
        }
        buffer.resize(PIECE, 0);
        let (grammar, offset) = (self.grammar, self.parser.offset());
        let mut budget = ROUND;
        while budget > 0 {
            let read = err.read(buffer, &mut |bytes| {
                for part in bytes.split_inclusive(|b| *b == b'\n') {
                    let room = ERR_LINE.saturating_sub(err_line.len());
                    let text = part.strip_suffix(b"\n").unwrap_or(part);
                    err_line.extend_from_slice(&text[..text.len().min(room)]);
                    if part.len() > text.len() {
                        if let Some(event) = stderr_event(grammar, &String::from_utf8_lossy(err_line)) {
                            summary.apply(&event);
                            round.events.push((offset, event));
                        }
                        err_line.clear();
                    }
                }
            });
            if read == 0 {
                err.mend_end();
                return;
            }
            budget = budget.saturating_sub(read as u64);
        }
        round.more = true;
    }
}
