//! What an agent says, read from its log while it is written: when the first of it came, and all of it at the end.
//!
//! Only what the model said or did counts, in the words of the provider's parser: neither a line about a status nor the
//! prompt itself. Must never: write to a log.

use dx_engine::LogFiles;
use dx_events::Parser;
use dx_proc::inotify::{MODIFY, Watch};
use dx_proc::{PidFd, clock};
use dx_protocol::{AgentEvent, Grammar};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The log is looked at this often when nothing tells that it grew.
const TICK_MS: u64 = 50;
/// So much of an answer is looked through for hints.
const ANSWER_MAX: usize = 1 << 20;

/// A log that is followed.
pub(crate) struct Follower {
    file: Option<File>,
    offset: u64,
    parser: Parser,
    watch: Option<Watch>,
    /// CLOCK_MONOTONIC of the first word or tool.
    pub(crate) first: Option<u64>,
}

impl Follower {
    pub(crate) fn new(files: &LogFiles) -> Self {
        Self::following(&files.log, files.grammar)
    }

    fn following(log: &Path, grammar: Grammar) -> Self {
        let watch = Watch::new().ok().filter(|watch| watch.add(log, MODIFY).is_ok());
        Self {
            file: dx_jobdir::open_regular(log).ok(),
            offset: 0,
            parser: Parser::new(grammar),
            watch,
            first: None,
        }
    }

    /// Reads what is new; waits a moment for it, or for the end of the process, when there is nothing.
    pub(crate) fn step(&mut self, process: Option<&PidFd>) {
        if self.read() {
            return;
        }
        let mut fds: Vec<_> = process.iter().map(|process| process.as_fd()).collect();
        // After the first word the log is of no more interest before the end.
        let watch = self.watch.as_ref().filter(|_| self.first.is_none());
        fds.extend(watch.map(AsFd::as_fd));
        let _woken = dx_proc::poll::poll(&fds, Some(TICK_MS));
        if let Some(watch) = &mut self.watch {
            let _events = watch.read_events(|_, _, _| {});
        }
    }

    /// Whether there was something new.
    fn read(&mut self) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.first.is_none()) else { return false };
        let mut buffer = [0_u8; 16 << 10];
        let got = file.read_at(&mut buffer, self.offset).unwrap_or(0);
        self.offset += got as u64;
        let first = &mut self.first;
        self.parser.feed(&buffer[..got], &mut |_, event| {
            if first.is_none() && is_output(&event) {
                *first = Some(clock::monotonic_ms());
            }
        });
        // The rest of a text that comes in pieces may be long in coming.
        if self.first.is_none() && self.parser.is_mid_text() {
            self.first = Some(clock::monotonic_ms());
        }
        got > 0
    }
}

/// What a model does; everything else is the agent's own.
fn is_output(event: &AgentEvent) -> bool {
    match event {
        AgentEvent::Text { text } => !text.trim().is_empty(),
        AgentEvent::ToolStarted { .. } | AgentEvent::ToolFinished { .. } => true,
        _ => false,
    }
}

/// All text of an answer.
pub(crate) fn whole(files: &LogFiles) -> String {
    let bytes = dx_jobdir::read_bounded(&files.log, 64 << 20).unwrap_or_default();
    let mut answer = String::new();
    let mut take = |_: u64, event: AgentEvent| {
        if let AgentEvent::Text { text } = event
            && answer.len() < ANSWER_MAX
        {
            answer.push_str(&text);
            answer.push('\n');
        }
    };
    let mut parser = Parser::with_text_max(files.grammar, ANSWER_MAX);
    parser.feed(&bytes, &mut take);
    parser.finish(&mut take);
    files.secrets.mask_text(&answer).into_owned()
}

#[cfg(test)]
mod tests {
    use super::Follower;
    use dx_protocol::Grammar;
    use std::io::Write;

    #[test]
    fn the_first_piece_of_a_text_is_the_first_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = std::fs::File::create(&path).unwrap();
        let mut follower = Follower::following(&path, Grammar::Gemini);
        let mut says = |line: &str| {
            writeln!(log, "{line}").unwrap();
            while follower.read() {}
            follower.first.is_some()
        };
        assert!(!says(r#"{"type":"init","session_id":"s","model":"m"}"#));
        assert!(!says(r#"{"type":"message","role":"user","content":"Do it"}"#), "the prompt");
        assert!(!says(r#"{"type":"message","role":"assistant","content":" ","delta":true}"#), "nothing");
        assert!(says(r#"{"type":"message","role":"assistant","content":"one ","delta":true}"#));
    }
}
