//! Following the agent's log: new bytes to events, an eye on its size. Reads in small pieces, keeps nothing but the
//! parser's own bounded state.

use dx_events::{Parser, Summary, stderr_event};
use dx_jobdir::open_regular;
use dx_protocol::{AgentEvent, Grammar, ProviderReport};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Read this much at once.
const PIECE: usize = 16 << 10;
/// Parse at most this much in one round, so that requests and limits are never starved by a flood.
const ROUND: u64 = 256 << 10;

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
    log: Option<File>,
    err: Option<File>,
    grammar: Grammar,
    parser: Parser,
    err_offset: u64,
    err_line: Vec<u8>,
    size: u64,
    pub(crate) summary: Summary,
}

impl Follower {
    pub(crate) fn new(log: &Path, err: &Path, grammar: Grammar) -> Self {
        Self {
            log: open_regular(log).ok(),
            err: open_regular(err).ok(),
            grammar,
            parser: Parser::new(grammar),
            err_offset: 0,
            err_line: Vec::new(),
            size: 0,
            summary: Summary::new(grammar),
        }
    }

    /// Bytes of output, standard error included.
    pub(crate) fn bytes(&self) -> u64 {
        self.size + self.err_offset
    }

    pub(crate) fn parsed(&self) -> u64 {
        self.parser.offset()
    }

    /// What the events so far add up to.
    pub(crate) fn report(&self) -> ProviderReport {
        let summary = &self.summary;
        let count = |n: &dx_events::ToolCount| u64::from(n.ok) + u64::from(n.failed);
        ProviderReport {
            verdict: summary.verdict(),
            usage: summary.usage,
            tools: summary.tools.iter().map(|(name, n)| (name.clone(), count(n))).collect(),
            session: summary.session.clone(),
        }
    }

    /// Takes in what is new.
    pub(crate) fn round(&mut self) -> Round {
        let mut round = Round::default();
        self.read_err(&mut round);
        let Some(log) = &self.log else { return round };
        let size = log.metadata().map_or(0, |m| m.len());
        if size < self.parser.offset() {
            round.lost_bytes += self.parser.offset() - size;
            self.parser.resync(size);
        }
        round.grew |= size != self.size;
        self.size = size;
        if self.grammar == Grammar::Text {
            // Nothing to parse: the size is all there is to know.
            self.parser.resync(size);
            return round;
        }
        let mut buffer = vec![0; PIECE];
        let mut budget = ROUND;
        let (parser, summary) = (&mut self.parser, &mut self.summary);
        while budget > 0 {
            let n = log.read_at(&mut buffer, parser.offset()).unwrap_or(0);
            if n == 0 {
                break;
            }
            budget = budget.saturating_sub(n as u64);
            parser.feed(&buffer[..n], &mut |offset, event| {
                summary.apply(&event);
                if event.is_journalled() || matches!(event, AgentEvent::StepStarted) {
                    round.events.push((offset, event));
                } else if round.events.is_empty() {
                    round.events.push((offset, AgentEvent::StepStarted));
                }
            });
        }
        round.more = budget == 0;
        round
    }

    fn read_err(&mut self, round: &mut Round) {
        let Some(err) = &self.err else { return };
        let size = err.metadata().map_or(0, |m| m.len());
        if size < self.err_offset {
            round.lost_bytes += self.err_offset - size;
            self.err_offset = size;
            self.err_line.clear();
        }
        let mut buffer = [0; 4096];
        let mut budget = 256;
        while budget > 0 {
            let n = err.read_at(&mut buffer, self.err_offset).unwrap_or(0);
            if n == 0 {
                return;
            }
            budget -= 1;
            round.grew = true;
            self.err_offset += n as u64;
            for byte in &buffer[..n] {
                if *byte == b'\n' {
                    if let Some(event) = stderr_event(self.grammar, &String::from_utf8_lossy(&self.err_line))
                    {
                        self.summary.apply(&event);
                        round.events.push((self.parser.offset(), event));
                    }
                    self.err_line.clear();
                } else if self.err_line.len() < 4096 {
                    self.err_line.push(*byte);
                }
            }
        }
    }
}
