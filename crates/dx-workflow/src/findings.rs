//! What is wrong with the pack or a task, as it is found. Must never: tell one thing twice.

use dx_protocol::PackFinding;

/// Findings, in the order in which they were made until they are sorted.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<PackFinding>);

impl Findings {
    /// Lines count from 1.
    pub(crate) fn add(
        &mut self,
        file: &str,
        line: usize,
        rule: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(PackFinding {
            file: file.to_owned(),
            line: line as u64,
            rule: rule.to_owned(),
            message: message.into(),
            fix: fix.into(),
        });
    }

    /// By file and line, each once.
    pub(crate) fn sorted(mut self) -> Vec<PackFinding> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}
