//! Which files each role of the pack may write, said once beside the pack: its permissions are held against this.
//!
//! Called by: `check`. The pack cannot vouch for itself: an agent that is given one file more says so by its own rules. Must never:
//! be read from them.

use crate::definition::{Effect, Rule};
use crate::permission::{decide, matches};

/// One role's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Boundary {
    agent: &'static str,
    /// Rules that allow lie within these.
    may: &'static [&'static str],
    /// And these are denied all the same.
    never: &'static [&'static str],
}

/// What belongs to git and to the workflow, in every place where a pattern of a role could reach it.
const RECORDS: &[&str] = &[
    ".git/config",
    ".git/hooks/tests/x",
    "a/.git/config",
    ".ai/tasks/001-x/state.json",
    ".ai/tests/x",
    ".ai/docs/x",
    "a/.ai/tasks/001-x/tests/x",
];
/// For roles that write whatever is not theirs to leave alone: files of others in the workflow too.
const OTHERS: &[&str] = &[
    ".git/config",
    "a/.git/config",
    ".ai/context.md",
    ".ai/decisions/x.md",
    ".ai/tasks/001-x/state.json",
    ".ai/tasks/001-x/task-spec.md",
    ".ai/tasks/001-x/validation-report.md",
    "a/.ai/context.md",
];

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        agent: "documentation",
        may: &[
            "docs/*",
            "*/docs/*",
            "README.*",
            "*/README.*",
            "CHANGELOG.md",
            "*/CHANGELOG.md",
            ".ai/context.md",
            ".ai/decisions/*",
            ".ai/tasks/*/documentation-report.md",
        ],
        never: RECORDS,
    },
    Boundary { agent: "executor", may: &["*"], never: OTHERS },
    Boundary { agent: "implementer", may: &["*"], never: OTHERS },
    Boundary { agent: "init", may: &[".ai/context.md"], never: RECORDS },
    Boundary { agent: "model-config", may: &[], never: RECORDS },
    Boundary { agent: "orchestrator", may: &[], never: RECORDS },
    Boundary { agent: "research", may: &[], never: RECORDS },
    Boundary { agent: "shipper", may: &[], never: RECORDS },
    Boundary { agent: "task-planner", may: &[".ai/tasks/*/task-spec.md", ".ai/decisions/*"], never: RECORDS },
    Boundary {
        agent: "test-writer",
        may: &[
            "tests/*",
            "*/tests/*",
            "test/*",
            "*/test/*",
            "spec/*",
            "*/spec/*",
            "__tests__/*",
            "*/__tests__/*",
            "*.test.*",
            "*.spec.*",
            "test_*",
            "*/test_*",
            "*_test.*",
        ],
        never: RECORDS,
    },
    Boundary { agent: "validator", may: &[".ai/tasks/*/validation-report.md"], never: RECORDS },
];

impl Boundary {
    /// That of an agent's file.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let name = path.strip_prefix("agents/")?.strip_suffix(".md")?;
        BOUNDARIES.iter().find(|boundary| boundary.agent == name).copied()
    }

    /// Whether the role writes the project's code.
    pub(crate) fn is_free(self) -> bool {
        self.may.contains(&"*")
    }

    /// Line, message and fix of what lets it write more.
    pub(crate) fn findings(self, rules: &[Rule]) -> Vec<(usize, String, String)> {
        let mine = match self.may {
            [] => "nothing".to_owned(),
            may => may.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", "),
        };
        let within = |pattern: &str| self.may.iter().any(|wide| matches(wide, pattern));
        let more = rules.iter().filter(|rule| {
            rule.effect == Effect::Allow && matches(&rule.tool, "edit") && !within(&rule.pattern)
        });
        let mut found: Vec<_> = more
            .map(|rule| {
                let message = format!("it may edit `{}`, and its role writes {mine}", rule.pattern);
                (rule.line, message, "take the rule away".to_owned())
            })
            .collect();
        for path in self.never {
            let decided = decide(rules, "edit", path);
            let open = decided.rule.filter(|rule| decided.effect == Effect::Allow && within(&rule.pattern));
            // Once for each rule.
            let Some(rule) = open.filter(|rule| found.iter().all(|(line, ..)| *line != rule.line)) else {
                continue;
            };
            let message = format!("`{}` lets it edit `{path}`, which is not its own", rule.pattern);
            found.push((rule.line, message, format!("deny the folder of `{path}` after it")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_of_the_pack_has_one() {
        let named: Vec<_> = BOUNDARIES.iter().map(|boundary| boundary.agent).collect();
        assert_eq!(named, crate::agents().collect::<Vec<_>>());
    }
}
