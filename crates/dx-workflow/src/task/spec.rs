//! A specification: its sections, the agents that run, criteria, test files and commands, units.
//!
//! Must never: put an agent on the list that is not there.

use super::markdown::{self, Section, items, same};
use super::scope;
use super::units::{self, Unit};

/// Agents that a specification may list; the validator is not listed, it always runs.
pub const RUNNABLE: [&str; 3] = ["test-writer", "implementer", "documentation"];

/// What each specification has.
pub(super) const SECTIONS: [&str; 9] = [
    "Source Artifacts / Handoff Context",
    "Scope",
    "Execution",
    "Non-Goals",
    "Testable Acceptance Criteria",
    "Inspectable Acceptance Criteria",
    "Relevant Files",
    "Validation Plan",
    "Open Questions",
];
/// What a plan of several units has beside its table.
pub(super) const PLAN_SECTIONS: [&str; 2] = ["Source Artifacts / Handoff Context", "Scope"];

/// A specification, or a plan of several units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub title: String,
    pub sections: Vec<Section>,
    /// In the order in which they run; what is no agent is left out here and told by the check.
    pub execution: Vec<String>,
    pub test_paths: Vec<(usize, String)>,
    pub test_commands: Vec<(usize, String)>,
    /// Rows of the table of units; `None` when there is no such table.
    pub units: Option<Vec<Unit>>,
    /// Columns that it should have, with the line of its head.
    pub missing_columns: Vec<(usize, &'static str)>,
}

impl Spec {
    /// Reads a text; everything can be missing.
    pub fn parse(text: &str) -> Self {
        let (head, sections) = markdown::sections(text);
        let title =
            head.iter().find_map(|(_, line)| line.strip_prefix("# ")).unwrap_or_default().trim().to_owned();
        let mut spec = Self {
            title,
            sections,
            execution: Vec::new(),
            test_paths: Vec::new(),
            test_commands: Vec::new(),
            units: None,
            missing_columns: Vec::new(),
        };
        if let Some(execution) = spec.section("Execution") {
            let names = items(&execution.lines).into_iter().filter_map(|(_, item)| item.ok());
            spec.execution = names.filter(|name| RUNNABLE.contains(&name.as_str())).collect();
        }
        if let Some(criteria) = spec.section("Testable Acceptance Criteria") {
            let listed = |title: &str| {
                let lines = criteria.below(title).map(|(_, lines)| lines).unwrap_or_default();
                items(&lines)
                    .into_iter()
                    .filter_map(|(line, item)| Some((line, item.ok()?)))
                    .filter(|(_, item)| !is_none(item))
                    .collect::<Vec<_>>()
            };
            (spec.test_paths, spec.test_commands) = (listed("Test File Paths"), listed("Test Commands"));
        }
        if let Some(table) = spec.sections.iter().find_map(|section| units::read(&section.lines)) {
            spec.missing_columns = table.missing.into_iter().map(|name| (table.line, name)).collect();
            spec.units = Some(table.units);
        }
        spec
    }

    /// The section of this title.
    pub fn section(&self, title: &str) -> Option<&Section> {
        self.sections.iter().find(|section| same(&section.title, title))
    }

    /// Files of the project that `## Relevant Files` names.
    pub fn relevant_files(&self) -> Vec<String> {
        let mut paths =
            self.section("Relevant Files").map(|section| scope::paths(&section.lines)).unwrap_or_default();
        paths.retain(|path| !path.is_empty() && !path.contains(['*', '?']));
        paths.sort();
        paths.dedup();
        paths
    }

    /// Files that it says are changed: what `## Scope` and the test files name.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = self.section("Scope").map(|section| scope::paths(&section.lines)).unwrap_or_default();
        paths.extend(self.test_paths.iter().filter_map(|(_, path)| scope::inside(path)));
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Whether a text says that there is nothing.
pub(super) fn is_none(text: &str) -> bool {
    let text = text.trim().trim_start_matches(['-', '*']).trim().trim_end_matches('.');
    matches!(text.to_lowercase().as_str(), "" | "-" | "–" | "none" | "n/a")
}
