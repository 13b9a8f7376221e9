//! The only place that writes to standard output and standard error.
//!
//! For: data on stdout, everything else on stderr; colour and width only where a terminal is.
//! Called by: every command, through [`Output`].
//! Must never: panic because a reader went away (`| head`), write notes when JSON was asked for, or show a secret: all text
//! goes through the mask here, all bytes of logs have been through it (`transcript`).

use dx_protocol::ReasonCode;
use serde::Serialize;
use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use crate::args::{ColorChoice, Global};
use crate::error::CliError;
use dx_engine::mask_text;

/// What one command prints through.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    colour: bool,
    /// Nobody reads stdout any more.
    closed: Cell<bool>,
}

impl Output {
    /// Output as the global options want it.
    pub(crate) fn new(global: &Global) -> Self {
        let wanted = match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal_wants_colour(),
        };
        Self {
            json: global.json,
            quiet: global.quiet,
            colour: wanted && !global.json,
            closed: Cell::new(false),
        }
    }

    /// Whether documents are wanted instead of text.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether the reader of stdout has gone; who follows something then ends.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether text may be coloured.
    pub(crate) fn has_colour(&self) -> bool {
        self.colour
    }

    /// One line, or several, of data for people.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> Result<(), CliError> {
        self.write(&[mask_text(text.as_ref()).as_bytes(), b"\n"])
    }

    /// One line of data that may not be UTF-8, masked already.
    pub(crate) fn line_bytes(&self, prefix: &str, line: &[u8]) -> Result<(), CliError> {
        self.write(&[prefix.as_bytes(), line, b"\n"])
    }

    /// Data as it is, masked already.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        self.write(&[bytes])
    }

    /// A document on one line.
    pub(crate) fn json<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        self.line(serde_json::to_string(document)?)
    }

    /// A document for reading (schemas).
    pub(crate) fn json_pretty<T: Serialize>(&self, document: &T) -> Result<(), CliError> {
        self.write(&[serde_json::to_string_pretty(document)?.as_bytes(), b"\n"])
    }

    /// The document with `--json`, the text without.
    pub(crate) fn either<T: Serialize>(
        &self,
        document: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        if self.json { self.json(document) } else { self.line(text()) }
    }

    /// A remark for people on stderr; silent with `--json` and `--quiet`.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            say(text.as_ref());
        }
    }

    /// The one place where errors are shown.
    pub(crate) fn error(&self, error: &CliError) {
        show_error(error, self.json);
    }

    fn write(&self, parts: &[&[u8]]) -> Result<(), CliError> {
        if self.closed.get() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        let written = parts.iter().try_for_each(|part| stdout.write_all(part)).and_then(|()| stdout.flush());
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.set(true);
                Ok(())
            }
            Err(source) => Err(CliError::Io {
                what: "write to standard output".to_owned(),
                reason: ReasonCode::OutputUnwritable,
                source,
            }),
            Ok(()) => Ok(()),
        }
    }
}

/// An error on stderr, as a document or as text.
pub(crate) fn show_error(error: &CliError, json: bool) {
    if json && let Ok(text) = serde_json::to_string(&error.document()) {
        say(&text);
    } else {
        say(error.text().trim_end());
    }
}

/// Help or version, which clap made; on stdout when it was asked for.
pub(crate) fn show_help(text: &str, asked: bool) {
    let text = text.trim_end();
    if asked {
        // Nobody is left to tell when this cannot be written.
        let _ignored = writeln!(io::stdout().lock(), "{text}");
    } else {
        say(text);
    }
}

/// A line on stderr. Also the engine's `progress`.
pub(crate) fn say(text: &str) {
    // Nobody is left to tell when this cannot be written.
    let _ignored = writeln!(io::stderr().lock(), "{}", mask_text(text));
}

/// Whether stdout is a terminal.
pub(crate) fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether stderr is a terminal.
pub(crate) fn errors_on_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Columns and rows of the terminal on stdout; `None` when it is none, and then nothing needs to fit.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    if !on_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // Serial lines and some build servers tell a width and no height.
    let rows = if size.ws_row > 0 { usize::from(size.ws_row) } else { 24 };
    (size.ws_col > 0).then_some((usize::from(size.ws_col), rows))
}

fn terminal_wants_colour() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    on_terminal() && !no_color && !dumb
}
