//! Recorded runs of one grammar, and what they mean, as text for a snapshot.
//!
//! Called by the tests of each grammar. Must never name a grammar.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use dx_events::{Grammar, Parser, Summary, render, stderr_event};
use dx_protocol::AgentEvent;

/// The runs of one version of one agent.
pub(crate) struct Recorded {
    pub(crate) grammar: Grammar,
    /// Below `fixtures`.
    pub(crate) folder: &'static str,
}

/// Offset and event of each line that has one, in order, and how many were not understood.
pub(crate) type Parsed = (Vec<(u64, AgentEvent)>, u64);

impl Recorded {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(self.folder).join(name)
    }

    /// The names of all runs, sorted.
    pub(crate) fn cases(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut cases: Vec<String> =
            files.filter_map(|name| name.to_str()?.strip_suffix(".out").map(str::to_owned)).collect();
        cases.sort();
        cases
    }

    pub(crate) fn parse(&self, bytes: &[u8]) -> Parsed {
        let mut parser = Parser::new(self.grammar);
        let mut events = Vec::new();
        let mut sink = |offset, event| events.push((offset, event));
        parser.feed(bytes, &mut sink);
        parser.finish(&mut sink);
        assert_eq!(parser.offset(), bytes.len() as u64);
        (events, parser.unparsed())
    }

    /// Events of stdout with their offsets, of stderr, and lines not understood.
    pub(crate) fn read(&self, case: &str) -> (Vec<(u64, AgentEvent)>, Vec<AgentEvent>, u64) {
        let (events, unparsed) = self.parse(&fs::read(self.path(&format!("{case}.out"))).unwrap());
        let err = fs::read_to_string(self.path(&format!("{case}.err"))).unwrap_or_default();
        (events, err.lines().filter_map(|line| stderr_event(self.grammar, line)).collect(), unparsed)
    }

    /// The run folded; the order of the two streams must not matter for the verdict.
    pub(crate) fn fold(&self, case: &str) -> Summary {
        let (events, stderr, _) = self.read(case);
        let fold = |events: &mut dyn Iterator<Item = &AgentEvent>| {
            let mut summary = Summary::new(self.grammar);
            events.for_each(|event| summary.apply(event));
            summary
        };
        let stdout = || events.iter().map(|(_, event)| event);
        let summary = fold(&mut stdout().chain(&stderr));
        assert_eq!(summary.verdict(), fold(&mut stderr.iter().chain(stdout())).verdict(), "{case}");
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary, "{case}");
        summary
    }

    /// All that the run means.
    pub(crate) fn describe(&self, case: &str) -> String {
        let (events, stderr, unparsed) = self.read(case);
        let mut text = String::new();
        for (offset, event) in &events {
            writeln!(text, "{offset} {}", serde_json::to_string(event).unwrap()).unwrap();
        }
        for event in &stderr {
            writeln!(text, "stderr {}", serde_json::to_string(event).unwrap()).unwrap();
        }
        let summary = self.fold(case);
        let (barren, failed) = (summary.barren_steps, summary.failed_calls);
        writeln!(text, "unparsed {unparsed}, barren {barren}, failed calls {failed}").unwrap();
        writeln!(text, "usage {}", serde_json::to_string(&summary.usage).unwrap()).unwrap();
        writeln!(text, "waiting {}", serde_json::to_string(&summary.waiting).unwrap()).unwrap();
        writeln!(text, "verdict {}", serde_json::to_string(&summary.verdict()).unwrap()).unwrap();
        writeln!(text, "--- transcript").unwrap();
        for line in events.iter().map(|(_, event)| event).chain(&stderr).filter_map(render) {
            writeln!(text, "{line}").unwrap();
        }
        text
    }
}
