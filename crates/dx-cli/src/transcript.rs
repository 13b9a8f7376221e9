//! An agent's output as lines for people, whatever its grammar.
//!
//! Called by: `log_view`. Must never: do I/O or keep more than one line.

use dx_events::{Line, LineSplitter, Parser, render};
use dx_protocol::{AgentEvent, Grammar};

/// How much of one text people see.
const TEXT_MAX: usize = 64 * 1024;

/// Bytes in, lines for people out (without their line feeds).
pub(crate) enum Transcript {
    /// Lines as they are.
    Plain(LineSplitter),
    /// Events, rendered.
    Events(Box<Parser>),
}

impl Transcript {
    /// The transcript of a log in this grammar.
    pub(crate) fn new(grammar: Grammar) -> Self {
        match grammar {
            Grammar::Text => Self::plain(),
            Grammar::Opencode => {
                Self::Events(Box::new(Parser::with_text_max(dx_events::Grammar::Opencode, TEXT_MAX)))
            }
        }
    }

    /// Lines as they are.
    pub(crate) fn plain() -> Self {
        Self::Plain(LineSplitter::new())
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Plain(lines) => lines.feed(bytes, &mut |line| plain_line(line, sink)),
            Self::Events(parser) => parser.feed(bytes, &mut |_, event| event_lines(&event, sink)),
        }
    }

    /// Takes what waits for its line feed, when nothing more will come.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Plain(lines) => lines.finish(&mut |line| plain_line(line, sink)),
            Self::Events(parser) => parser.finish(&mut |_, event| event_lines(&event, sink)),
        }
    }

    /// Forgets the unfinished line: the log was cut and goes on at `offset`.
    pub(crate) fn resync(&mut self, offset: u64) {
        match self {
            Self::Plain(lines) => lines.resync(offset),
            Self::Events(parser) => parser.resync(offset),
        }
    }
}

fn plain_line(line: Line<'_>, sink: &mut dyn FnMut(&[u8])) {
    match line {
        Line::Whole { bytes, .. } => sink(bytes),
        Line::Truncated { head, len, .. } => {
            let mut shown = head.to_vec();
            shown.extend_from_slice(format!(" ... (a line of {len} bytes)").as_bytes());
            sink(&shown);
        }
    }
}

fn event_lines(event: &AgentEvent, sink: &mut dyn FnMut(&[u8])) {
    if let Some(text) = render(event) {
        text.lines().for_each(|line| sink(line.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_json_becomes_lines_for_people() {
        let log = concat!(
            r#"{"type":"tool_use","sessionID":"s","part":{"type":"tool","tool":"write","callID":"c","state":{"status":"completed"}}}"#,
            "\n",
            r#"{"type":"text","sessionID":"s","part":{"type":"text","text":"ALL\nDONE","time":{"end":1}}}"#,
            "\n",
        );
        let mut transcript = Transcript::new(Grammar::Opencode);
        let mut lines = Vec::new();
        for piece in log.as_bytes().chunks(7) {
            transcript.feed(piece, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        let from = lines.iter().position(|line| line == "> write").unwrap();
        assert_eq!(lines[from..], ["> write", "ALL", "DONE"]);
    }
}
