//! The roles table: what each agent of the pack may do, read from its own rules.
//!
//! Called by: the generated reference. Tests hold it against the real OpenCode. Must never: say what no rule says.

use crate::definition::{Definition, Effect, Rule};
use crate::pack::{agents, text_of};
use crate::permission::effect;
use std::fmt::Write;

/// The rules of an agent of the pack; empty for a name that is none.
pub fn rules_of(agent: &str) -> Vec<Rule> {
    let text = text_of(&format!("agents/{agent}.md")).unwrap_or_default();
    Definition::parse(text.as_bytes()).map(|definition| definition.rules).unwrap_or_default()
}

/// `docs/reference/roles.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Roles\n\n<!-- Generated from the agent pack by `cargo xtask gen`; edit that. -->\n\n\
         What each agent of the pack may do. Rules are tried from the last to the first; `*` also matches `/`. Whatever an agent \
         may do in its shell, `task run` compares the tree before and after each step with the column Edits.\n\n\
         OpenCode 1.18 judges the commands of a shell line, and not all that is in it: neither where a group of commands, a pipe or no \
         command is redirected to (`{ git status; } > file`, `> file`), nor `export`, assignments, tests and definitions. So the pack's \
         plugin, `plugins/dx-runner.js`, refuses each line with more in it than one plain command to a role whose rules do not allow every \
         command. `2>&1` and `/dev/null` are plain, pipes and lists are not; what is between single quotes is a word.\n\n\
         | agent | mode | edits | shell | delegates | asks the user | web |\n|---|---|---|---|---|---|---|\n",
    );
    for agent in agents() {
        let rules = rules_of(agent);
        let mode = text_of(&format!("agents/{agent}.md"))
            .and_then(|text| Definition::parse(text.as_bytes()).ok())
            .and_then(|definition| definition.text("mode").map(str::to_owned))
            .unwrap_or_default();
        let yes = |tool| effect(&rules, tool, "*").as_str();
        let web = format!("fetch {}, search {}", yes("webfetch"), yes("websearch"));
        // Writing to a String cannot fail.
        let _fits = writeln!(
            text,
            "| `{agent}` | {mode} | {} | {} | {} | {} | {web} |",
            summary(&rules, "edit"),
            summary(&rules, "bash"),
            summary(&rules, "task"),
            yes("question"),
        );
    }
    text.push_str("\n## Rules in their order\n");
    for agent in agents() {
        let _fits = write!(text, "\n### `{agent}`\n\n| tool | pattern | effect |\n|---|---|---|\n");
        for rule in rules_of(agent) {
            let pattern = rule.pattern.replace('|', "\\|");
            let pattern =
                if pattern.contains('`') { format!("`` {pattern} ``") } else { format!("`{pattern}`") };
            let _fits = writeln!(text, "| `{}` | {pattern} | {} |", rule.tool, rule.effect.as_str());
        }
    }
    text
}

/// A tool in a few words: what holds in general, and how much is excepted.
fn summary(rules: &[Rule], tool: &str) -> String {
    let own: Vec<&Rule> = rules.iter().filter(|rule| rule.tool == tool && rule.pattern != "*").collect();
    let base = rules.iter().rfind(|rule| (rule.tool == tool || rule.tool == "*") && rule.pattern == "*");
    let base = base.map_or(Effect::Allow, |rule| rule.effect);
    let mut parts = vec![match base {
        Effect::Allow => "all".to_owned(),
        Effect::Ask => "all, after a question".to_owned(),
        Effect::Deny => "none".to_owned(),
    }];
    for (effect, word) in [(Effect::Allow, "allowed"), (Effect::Ask, "asked"), (Effect::Deny, "denied")] {
        let patterns: Vec<String> = own
            .iter()
            .filter(|rule| rule.effect == effect)
            .map(|rule| format!("`{}`", rule.pattern.replace('|', "\\|")))
            .collect();
        match patterns.len() {
            0 => {}
            1..=4 if !patterns.iter().any(|p| p.contains("```")) => {
                parts.push(format!("{word} {}", patterns.join(" ")));
            }
            count => parts.push(format!("{count} patterns {word}")),
        }
    }
    parts.join("; ")
}
