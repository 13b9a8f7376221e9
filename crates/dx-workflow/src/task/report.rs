//! Reports: which specification they answer, their sections, and the validator's word.
//!
//! A report is a claim. Must never: read a word out of prose.

use super::markdown::{self, Section, same};
use super::spec::is_none;
use dx_protocol::PackFinding;

/// Whose report it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    Implementation,
    Documentation,
    Validation,
}

impl ReportKind {
    pub const ALL: [Self; 3] = [Self::Implementation, Self::Documentation, Self::Validation];

    /// Its file, beside the specification.
    pub fn file(self) -> &'static str {
        match self {
            Self::Implementation => "implementation-report.md",
            Self::Documentation => "documentation-report.md",
            Self::Validation => "validation-report.md",
        }
    }

    /// The report that an agent of the pack has to write; `None` for one that writes none.
    pub fn of_agent(agent: &str) -> Option<Self> {
        match agent {
            "implementer" => Some(Self::Implementation),
            "documentation" => Some(Self::Documentation),
            "validator" => Some(Self::Validation),
            _ => None,
        }
    }

    fn sections(self) -> &'static [&'static str] {
        match self {
            Self::Implementation => &["Outcome", "Files Changed", "Decisions", "Verification"],
            Self::Documentation => {
                &["Outcome", "Files Changed", "Context Or Decisions Updated", "Verification"]
            }
            Self::Validation => &["Result", "Checks Performed", "Issues Found"],
        }
    }
}

/// A report that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub sections: Vec<Section>,
    /// The hash that it cites, with its line.
    pub spec: Option<(usize, String)>,
    /// Of a validator: whether it passed; `None` when it does not say one of the two words.
    pub passed: Option<bool>,
}

impl Report {
    pub fn parse(text: &str) -> Self {
        let (head, sections) = markdown::sections(text);
        let cited = |(line, text): &(usize, String)| {
            let hash = text.trim().trim_start_matches(['*', '`']).strip_prefix("Spec:")?;
            let hash = hash.trim().trim_matches(['*', '`']).trim().strip_prefix("sha256:")?;
            Some((*line, hash.trim().to_owned()))
        };
        let result = sections.iter().find(|section| same(&section.title, "Result"));
        let mut words = result.iter().flat_map(|section| &section.lines).filter_map(|(_, line)| {
            match line.trim().trim_matches(['*', '`', '_']) {
                "PASS" => Some(true),
                "FAIL" => Some(false),
                _ => None,
            }
        });
        let (first, second) = (words.next(), words.next());
        let passed = if second.is_some_and(|second| Some(second) != first) { None } else { first };
        Self { spec: head.iter().find_map(cited), passed, sections }
    }

    /// Whether the agent says that it could not do it.
    pub fn is_blocked(&self) -> bool {
        let outcome = self.sections.iter().find(|section| same(&section.title, "Outcome"));
        let mut lines = outcome.iter().flat_map(|section| &section.lines).map(|(_, line)| line.trim());
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        let word = first
            .trim_start_matches(|c: char| !c.is_alphanumeric())
            .split(|c: char| !c.is_alphanumeric())
            .next();
        word.is_some_and(|word| word.eq_ignore_ascii_case("blocked"))
    }

    /// What a validator found, as it wrote it.
    pub fn issues(&self) -> String {
        let issues = self.sections.iter().find(|section| same(&section.title, "Issues Found"));
        let lines = issues.iter().flat_map(|section| &section.lines).map(|(_, line)| line.as_str());
        lines.collect::<Vec<_>>().join("\n").trim().to_owned()
    }

    /// Whether a validator found nothing that anybody could mend.
    pub fn names_no_issue(&self) -> bool {
        is_none(&self.issues())
    }
}

/// What is wrong with a report on the specification with this hash.
pub fn report_findings(file: &str, kind: ReportKind, text: &str, spec: &str) -> Vec<PackFinding> {
    let report = Report::parse(text);
    let mut found = Vec::new();
    let mut add = |line: usize, rule: &str, message: String, fix: String| {
        found.push(PackFinding {
            file: file.to_owned(),
            line: line as u64,
            rule: rule.to_owned(),
            message,
            fix,
        });
    };
    let fix = format!("`Spec: sha256:{spec}` as the first line after the title");
    match &report.spec {
        None => add(1, "report_hash", "it does not say which specification it answers".to_owned(), fix),
        Some((line, hash)) if hash != spec => {
            let message = "it answers another version of the specification".to_owned();
            add(
                *line,
                "report_hash",
                message,
                format!("`dx-runner task run` keeps it under another name; {fix}"),
            );
        }
        Some(_) => {}
    }
    for title in kind.sections() {
        match report.sections.iter().find(|section| same(&section.title, title)) {
            None => add(1, "report_section", format!("it has no `## {title}`"), "write it".to_owned()),
            Some(section) if section.is_empty() => {
                let fix = "write `None` when there is nothing".to_owned();
                add(section.line, "report_section", format!("`## {title}` says nothing"), fix);
            }
            Some(_) => {}
        }
    }
    if kind == ReportKind::Validation && report.passed.is_none() {
        let line = report.sections.iter().find(|s| same(&s.title, "Result")).map_or(1, |s| s.line);
        let message = "its result is neither PASS nor FAIL on a line of its own".to_owned();
        add(line, "report_result", message, "write one of the two words".to_owned());
    }
    found
}
