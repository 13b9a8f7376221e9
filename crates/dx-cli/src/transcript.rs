//! An agent's output as lines for people, whatever its grammar.
//!
//! Called by: `log_view`. Must never: do I/O or keep more than one line.

use dx_events::mask::{MaskStream, Secrets};
use dx_events::{Line, LineSplitter, Parser, render};
use dx_protocol::{AgentEvent, Grammar};
use std::borrow::Cow;
use std::sync::Arc;

/// How much of one text people see.
const TEXT_MAX: usize = 64 * 1024;

/// Bytes in, lines for people out (without their line feeds), and without secrets.
pub(crate) struct Transcript {
    mask: MaskStream<Arc<Secrets>>,
    kind: Kind,
}

enum Kind {
    /// Lines as they are.
    Plain(LineSplitter),
    /// Events, rendered.
    Events(Box<Parser>),
}

impl Transcript {
    /// The transcript of a log in this grammar.
    pub(crate) fn new(grammar: Grammar, secrets: &Arc<Secrets>) -> Self {
        let kind = match grammar {
            Grammar::Text => Kind::Plain(LineSplitter::new()),
            Grammar::Opencode | Grammar::Claude | Grammar::Codex | Grammar::Gemini => {
                Kind::Events(Box::new(Parser::with_text_max(grammar, TEXT_MAX)))
            }
        };
        Self { mask: secrets.stream(), kind }
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        let Self { mask, kind } = self;
        mask.feed(bytes, &mut |_, _| {}, &mut |bytes| kind.feed(bytes, sink));
    }

    /// Takes what waits for its line feed, when nothing more will come.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(&[u8])) {
        let Self { mask, kind } = self;
        mask.finish(&mut |_, _| {}, &mut |bytes| kind.feed(bytes, sink));
        match kind {
            Kind::Plain(lines) => lines.finish(&mut |line| plain_line(line, sink)),
            Kind::Events(parser) => parser.finish(&mut |_, event| event_lines(&event, sink)),
        }
    }

    /// Forgets the unfinished line: the log was cut and goes on at `offset`.
    pub(crate) fn resync(&mut self, offset: u64) {
        self.mask.resync(offset);
        match &mut self.kind {
            Kind::Plain(lines) => lines.resync(offset),
            Kind::Events(parser) => parser.resync(offset),
        }
    }
}

impl Kind {
    fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Plain(lines) => lines.feed(bytes, &mut |line| plain_line(line, sink)),
            Self::Events(parser) => parser.feed(bytes, &mut |_, event| event_lines(&event, sink)),
        }
    }
}

fn plain_line(line: Line<'_>, sink: &mut dyn FnMut(&[u8])) {
    match line {
        Line::Whole { bytes, .. } => sink(&printable(bytes)),
        Line::Truncated { head, len, .. } => {
            let mut shown = printable(head).into_owned();
            shown.extend_from_slice(format!(" ... (a line of {len} bytes)").as_bytes());
            sink(&shown);
        }
    }
}

/// The same for text of several lines.
pub(crate) fn printable_text(text: &str) -> String {
    let lines: Vec<_> = text.split('\n').map(|line| printable(line.as_bytes())).collect();
    String::from_utf8_lossy(&lines.join(&b'\n')).into_owned()
}

/// A line that cannot do anything to a terminal: control characters but the tab, and what is not UTF-8, are escaped.
/// `--raw` has the bytes.
fn printable(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|c| c.is_control() && c != '\t') => Cow::Borrowed(bytes),
        _ => {
            let mut shown = String::with_capacity(bytes.len() + 16);
            for chunk in bytes.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() && c != '\t' { shown.extend(c.escape_default()) } else { shown.push(c) }
                }
                shown.extend(
                    chunk.invalid().iter().flat_map(|b| std::ascii::escape_default(*b)).map(char::from),
                );
            }
            Cow::Owned(shown.into_bytes())
        }
    }
}

fn event_lines(event: &AgentEvent, sink: &mut dyn FnMut(&[u8])) {
    if let Some(text) = render(event) {
        text.lines().for_each(|line| sink(&printable(line.as_bytes())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_line_reaches_the_terminal_as_a_command() {
        let shown = printable(b"a\tb\x1b[2J\x00\xff\r");
        assert_eq!(String::from_utf8_lossy(&shown), "a\tb\\u{1b}[2J\\u{0}\\xff");
        assert_eq!(&*printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n".as_bytes());
    }

    #[test]
    fn an_agents_json_becomes_lines_for_people() {
        let log = concat!(
            r#"{"type":"tool_use","sessionID":"s","part":{"type":"tool","tool":"write","callID":"c","state":{"status":"completed"}}}"#,
            "\n",
            r#"{"type":"text","sessionID":"s","part":{"type":"text","text":"ALL\nDONE","time":{"end":1}}}"#,
            "\n",
        );
        let mut transcript = Transcript::new(Grammar::Opencode, &Arc::default());
        let mut lines = Vec::new();
        for piece in log.as_bytes().chunks(7) {
            transcript.feed(piece, &mut |line| lines.push(String::from_utf8_lossy(line).into_owned()));
        }
        let from = lines.iter().position(|line| line == "> write").unwrap();
        assert_eq!(lines[from..], ["> write", "ALL", "DONE"]);
    }
}
