//! The parser that callers hold: bytes of a log in, events with the offsets of their lines out.
//!
//! Called by the monitor as the log grows and by readers that start at any line's offset. Chunk borders never change
//! what comes out. Never fails and never keeps more than one squeezed line.

use dx_protocol::AgentEvent;

use crate::claude::Claude;
use crate::clean::{MESSAGE_MAX, block};
use crate::codex::Codex;
use crate::gemini::Gemini;
use crate::lines::{Line, LineSplitter};
use crate::opencode::Opencode;
use dx_protocol::Grammar;

/// Longest squeezed line of JSON that is read.
const JSON_LINE_MAX: usize = 32 * 1024;
/// Least number of bytes kept of each string in a line of JSON (an error's body is the longest we look into).
const STRING_MIN: usize = 2048;

/// Parser of one stream.
#[derive(Debug, Clone)]
pub struct Parser {
    lines: LineSplitter,
    state: State,
}

#[derive(Debug, Clone)]
struct State {
    grammar: Grammar,
    text_max: usize,
    known: Known,
    unparsed: u64,
}

/// What the grammar remembers from line to line.
#[derive(Debug, Clone)]
enum Known {
    Nothing,
    Opencode(Opencode),
    Claude(Claude),
    Codex(Codex),
    Gemini(Gemini),
}

impl Parser {
    /// Parser that starts at offset 0 and cuts text at [`MESSAGE_MAX`].
    pub fn new(grammar: Grammar) -> Self {
        Self::with_text_max(grammar, MESSAGE_MAX)
    }

    /// The same for readers that show people what the agent said, up to `text_max` bytes at a time.
    pub fn with_text_max(grammar: Grammar, text_max: usize) -> Self {
        let text_max = text_max.clamp(4, 1024 * 1024);
        let lines = match grammar {
            Grammar::Text => LineSplitter::with_limit(text_max),
            Grammar::Opencode | Grammar::Claude | Grammar::Codex | Grammar::Gemini => {
                // Line breaks and quotes are escaped: two bytes for one.
                let string_max = STRING_MIN.max(text_max * 2);
                LineSplitter::squeezing(JSON_LINE_MAX / STRING_MIN * string_max, string_max)
            }
        };
        let known = match grammar {
            Grammar::Text => Known::Nothing,
            Grammar::Opencode => Known::Opencode(Opencode::default()),
            Grammar::Claude => Known::Claude(Claude::default()),
            Grammar::Codex => Known::Codex(Codex::default()),
            Grammar::Gemini => Known::Gemini(Gemini::default()),
        };
        Self { lines, state: State { grammar, text_max, known, unparsed: 0 } }
    }

    /// Takes the bytes at the current offset; `sink` gets the offset of the line and the event, in order.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(u64, AgentEvent)) {
        let state = &mut self.state;
        self.lines.feed(bytes, &mut |line| state.line(line, sink));
    }

    /// Reads the unterminated tail, when nothing more will come.
    pub fn finish(&mut self, sink: &mut dyn FnMut(u64, AgentEvent)) {
        let state = &mut self.state;
        self.lines.finish(&mut |line| state.line(line, sink));
        let end = self.lines.offset();
        if let Known::Gemini(grammar) = &mut state.known {
            grammar.finish(state.text_max, &mut |event| sink(end, event));
        }
    }

    /// Whether the model has begun to say something that no event tells before the end of its line.
    pub fn is_mid_text(&self) -> bool {
        matches!(&self.state.known, Known::Gemini(grammar) if grammar.is_mid_text())
    }

    /// Offset of the next byte to be fed.
    pub fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// Offset from which a new parser would see everything that this one has not reported yet.
    pub fn line_offset(&self) -> u64 {
        self.lines.offset() - self.lines.pending()
    }

    /// Forgets the unfinished line and goes on at `offset`, after the log was truncated.
    pub fn resync(&mut self, offset: u64) {
        self.lines.resync(offset);
    }

    /// Lines that were not understood: not of the grammar, or too long.
    pub fn unparsed(&self) -> u64 {
        self.state.unparsed
    }

    /// The grammar given at the start.
    pub fn grammar(&self) -> Grammar {
        self.state.grammar
    }
}

impl State {
    fn line(&mut self, line: Line<'_>, sink: &mut dyn FnMut(u64, AgentEvent)) {
        let (offset, bytes, whole) = match line {
            Line::Whole { offset, bytes } => (offset, bytes, true),
            Line::Truncated { offset, head, .. } => (offset, head, false),
        };
        if bytes.trim_ascii().is_empty() {
            return;
        }
        let mut tell = |event| sink(offset, event);
        let understood = match &mut self.known {
            Known::Nothing => {
                let text = block(&String::from_utf8_lossy(bytes), self.text_max);
                return tell(AgentEvent::Text { text });
            }
            Known::Opencode(grammar) => whole && grammar.line(bytes, self.text_max, &mut tell),
            Known::Claude(grammar) => whole && grammar.line(bytes, self.text_max, &mut tell),
            Known::Codex(grammar) => whole && grammar.line(bytes, self.text_max, &mut tell),
            Known::Gemini(grammar) => whole && grammar.line(bytes, self.text_max, &mut tell),
        };
        self.unparsed += u64::from(!understood);
    }
}
