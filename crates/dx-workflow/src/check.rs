//! What is wrong with definitions: each finding with file, line, rule and what mends it.
//!
//! Called by: `workflow check`, and by the installer before it copies. Judges our own files by everything that the pack
//! promises, files of others only by what would break OpenCode for all. Must never: change a text, or take one on trust
//! because it is ours.

use crate::definition::{Broken, Definition, Effect, Rule};
use crate::findings::Findings;
use crate::permission::{covers, decide, effect};
use crate::prompt_needs::{self, MCP_TOOLS, quotes};
use crate::shell;
use crate::task::{RUNNABLE, VALIDATOR};
use dx_protocol::PackFinding;

/// A file to be checked.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// Below the folder that OpenCode reads.
    pub path: String,
    pub bytes: &'a [u8],
    /// It carries the name of a file of the pack.
    pub ours: bool,
}

pub use dx_protocol::PackFinding as Finding;

const LEADER: &str = "agents/orchestrator.md";
const TOOLS: &[&str] = &[
    "*",
    "read",
    "edit",
    "glob",
    "grep",
    "list",
    "bash",
    "task",
    "skill",
    "lsp",
    "question",
    "webfetch",
    "websearch",
    "external_directory",
    "doom_loop",
    "todowrite",
];
const AGENT_KEYS: &[&str] = &[
    "description",
    "mode",
    "permission",
    "model",
    "variant",
    "temperature",
    "top_p",
    "steps",
    "color",
    "hidden",
];
const COMMAND_KEYS: &[&str] = &["description", "agent", "model", "subtask"];
const COLORS: &[&str] = &["primary", "secondary", "accent", "success", "warning", "error", "info"];
/// Keys of other versions, and what to write instead.
const OTHER_KEYS: &[(&str, &str)] = &[
    ("permissions", "write `permission:` as a map; OpenCode 1 ignores this key and allows everything"),
    ("tools", "say it with `permission:`"),
    ("maxSteps", "write `steps:`"),
    ("disable", "remove the file instead"),
    ("disabled", "remove the file instead"),
    ("system", "write the prompt below the frontmatter"),
    ("prompt", "write the prompt below the frontmatter"),
];
struct Checker<'a> {
    sources: &'a [Source<'a>],
    task_types: &'a [&'a str],
    found: Findings,
}

/// All findings, by file and line. With `whole` the files are a whole pack, and what is missing is told.
pub fn check(sources: &[Source<'_>], task_types: &[&str], whole: bool) -> Vec<PackFinding> {
    let mut checker = Checker { sources, task_types, found: Findings::default() };
    for source in sources {
        checker.file(source);
    }
    if whole {
        checker.missing();
    }
    checker.delegation();
    checker.found.sorted()
}

impl Checker<'_> {
    fn missing(&mut self) {
        for file in crate::FILES {
            if !self.sources.iter().any(|source| source.path == file.path) {
                self.found.add(file.path, 1, "missing_file", "it is not there", "dx-runner workflow install");
            }
        }
    }

    fn file(&mut self, source: &Source<'_>) {
        let path = source.path.as_str();
        let folder = path.split('/').next().unwrap_or_default();
        if matches!(folder, "skills" | "templates") {
            return self.found.add(
                path,
                1,
                "not_of_the_pack",
                format!("the pack has no {folder}"),
                "move it out of the pack",
            );
        }
        let definition = match Definition::parse(source.bytes) {
            Ok(definition) => definition,
            Err(Broken { line, message, fix }) => {
                return self.found.add(path, line, "frontmatter", message, fix);
            }
        };
        let is_agent = matches!(folder, "agents" | "agent");
        for Broken { line, message, fix } in &definition.unreadable {
            self.found.add(path, *line, "permission_value", message, fix);
        }
        if is_agent {
            self.mode(path, &definition);
        }
        self.values(path, &definition, source.ours);
        if !source.ours {
            return;
        }
        self.keys(path, &definition, if is_agent { AGENT_KEYS } else { COMMAND_KEYS });
        self.description(path, &definition);
        self.body(path, &definition);
        if is_agent {
            self.rules(path, &definition);
            self.needs(path, &definition);
        } else {
            self.command(path, &definition);
        }
    }

    fn mode(&mut self, path: &str, definition: &Definition) {
        let fix = "one of primary, subagent, all";
        match definition.get("mode") {
            None => self.found.add(path, 1, "mode", "it has no `mode`; OpenCode takes that for `all`", fix),
            Some(node) if matches!(node.text(), Some("primary" | "subagent" | "all")) => {}
            Some(node) => {
                let message = format!("`mode` is `{}`", node.text().unwrap_or(node.kind()));
                self.found.add(path, node.line, "mode", message, fix);
            }
        }
        if path.matches('/').count() > 1 {
            let fix = "put it directly into the folder";
            self.found.add(path, 1, "nested", "in a folder of its own it gets the name `folder/name`", fix);
        }
    }

    fn keys(&mut self, path: &str, definition: &Definition, known: &[&str]) {
        for (index, (key, _)) in definition.front.iter().enumerate() {
            let name = key.text().unwrap_or_default();
            if definition.front[..index].iter().any(|(other, _)| other.text() == Some(name)) {
                self.found.add(
                    path,
                    key.line,
                    "twice",
                    format!("`{name}` is there twice"),
                    "keep one of them",
                );
            }
            if let Some((_, fix)) = OTHER_KEYS.iter().find(|(other, _)| *other == name) {
                self.found.add(path, key.line, "key", format!("`{name}` is no key of OpenCode 1"), *fix);
            } else if !known.contains(&name) {
                let fix = format!("remove it; known are {}", known.join(", "));
                self.found.add(path, key.line, "key", format!("`{name}` is no key of definitions"), fix);
            }
        }
    }

    /// Values of the wrong kind make OpenCode refuse all agents; those that only make no sense are told of our own files.
    fn values(&mut self, path: &str, definition: &Definition, ours: bool) {
        for (key, value) in &definition.front {
            let (name, text) = (key.text().unwrap_or_default(), value.text().unwrap_or_default());
            let number = |least: f64, most: f64| {
                text.parse().is_ok_and(|number: f64| !ours || (least..=most).contains(&number))
            };
            let (fine, fix) = match name {
                "temperature" => (number(0.0, 2.0), "a number from 0 to 2"),
                "top_p" => (number(0.0, 1.0), "a number from 0 to 1"),
                "color" => (
                    is_color(text),
                    "a theme's name (primary, secondary, accent, success, warning, error, info) or `\"#rrggbb\"`",
                ),
                "steps" => (text.parse().is_ok_and(|steps: u32| steps > 0), "a whole number above 0"),
                "hidden" | "subtask" => (matches!(text, "true" | "false"), "true or false"),
                "model" => (
                    !ours || (text.contains('/') && !text.contains('#')),
                    "provider/model; a variant has a key of its own, `variant`",
                ),
                _ => (true, ""),
            };
            if !fine {
                self.found.add(path, key.line, "value", format!("`{name}: {text}` is not valid"), fix);
            }
        }
    }

    fn description(&mut self, path: &str, definition: &Definition) {
        let fix = "one sentence that tells others when to call it";
        match definition.get("description") {
            None => self.found.add(path, 1, "description", "it has no `description`", fix),
            Some(node) if definition.text("description").is_none() || node.is_empty() => {
                self.found.add(path, node.line, "description", "its `description` says nothing", fix);
            }
            Some(_) => {}
        }
    }

    fn body(&mut self, path: &str, definition: &Definition) {
        if definition.body.trim().is_empty() {
            return self.found.add(
                path,
                definition.body_line,
                "prompt",
                "it has no prompt",
                "write one below the frontmatter",
            );
        }
        for (index, line) in definition.body.lines().enumerate() {
            let patterned =
                quotes(line).iter().any(|(_, text)| text.starts_with(".ai/") && text.contains('*'));
            let lower = line.to_lowercase();
            let told = lower.contains("glob") && line.contains(".ai/");
            let forbidden = lower.contains("never glob") || lower.contains("not glob");
            if patterned || (told && !forbidden) {
                self.found.add(
                    path,
                    definition.body_line + index,
                    "hidden_by_glob",
                    "it reaches for `.ai/` by a pattern, and pattern search passes over hidden folders",
                    "tell it to read or list the path",
                );
            }
        }
    }

    fn rules(&mut self, path: &str, definition: &Definition) {
        let rules = &definition.rules;
        let mut front = definition.front.iter();
        let key = front.find(|(key, value)| key.text() == Some("permission") && !value.is_empty());
        let Some((key, _)) = key else {
            let fix = "begin with `\"*\": deny` and allow what it needs";
            return self.found.add(
                path,
                1,
                "permission",
                "it has no `permission`, so everything is allowed",
                fix,
            );
        };
        if rules.first().is_some_and(|rule| (rule.tool.as_str(), rule.effect) != ("*", Effect::Deny)) {
            let fix = "put `\"*\": deny` before all other rules";
            self.found.add(path, key.line, "base", "what it does not name is allowed", fix);
        }
        for (index, rule) in rules.iter().enumerate() {
            let tool = rule.tool.as_str();
            if !TOOLS.contains(&tool) && !MCP_TOOLS.contains(&tool) {
                let message = format!("there is no tool `{tool}`");
                let known = [TOOLS, MCP_TOOLS].concat().join(", ");
                self.found.add(path, rule.line, "tool", message, format!("one of {known}"));
            }
            if let Some(later) = rules[index + 1..].iter().find(|later| covers(later, rule)) {
                let message = format!(
                    "no call is decided by it: line {} (`{}`) comes later and matches all that it does",
                    later.line, later.pattern
                );
                self.found.add(
                    path,
                    rule.line,
                    "shadowed",
                    message,
                    "put the wider rule before the narrower one",
                );
            }
            self.root_twin(path, rules, rule);
        }
        self.writers(path, rules);
    }

    /// `*/docs/*` does not match `docs/a.md`.
    fn root_twin(&mut self, path: &str, rules: &[Rule], rule: &Rule) {
        let below = rule.pattern.strip_prefix("**/").or_else(|| rule.pattern.strip_prefix("*/"));
        let Some(below) = below.filter(|_| rule.tool == "edit") else { return };
        let root = below.replace("**", "x").replace('*', "x");
        if effect(rules, "edit", &root) != rule.effect {
            let message = format!("`{}` does not match at the top of the project", rule.pattern);
            self.found.add(
                path,
                rule.line,
                "root",
                message,
                format!("add `\"{below}\": {}`", rule.effect.as_str()),
            );
        }
    }

    /// A role that may not edit freely must not write by the shell either, nor through somebody else.
    fn writers(&mut self, path: &str, rules: &[Rule]) {
        if effect(rules, "edit", "src/any.rs") == Effect::Allow {
            return;
        }
        for (line, message, fix) in shell::findings(rules) {
            self.found.add(path, line, "shell_writes", message, fix);
        }
        let delegates = decide(rules, "task", "implementer");
        if delegates.effect == Effect::Allow && path != LEADER {
            let line = delegates.rule.map_or(1, |rule| rule.line);
            let message = "it may not edit, and it may delegate to `implementer`, which does";
            self.found.add(path, line, "delegation", message, "only the orchestrator delegates: deny `task`");
        }
    }

    fn needs(&mut self, path: &str, definition: &Definition) {
        for need in prompt_needs::of(&definition.body) {
            let decided = decide(&definition.rules, &need.tool, &need.on);
            if decided.effect != Effect::Deny {
                continue;
            }
            let line = definition.body_line + need.line - 1;
            let message = match need.tool.as_str() {
                "question" => "it is told to ask, and may not use the question tool".to_owned(),
                tool => format!("it is told to use `{}`, and its permissions deny that ({tool})", need.said),
            };
            let fix = format!("allow `{}` for it, or take it from the prompt", need.tool);
            self.found.add(path, line, "needs", message, fix);
        }
    }

    fn command(&mut self, path: &str, definition: &Definition) {
        if let Some(agent) = definition.get("agent") {
            let name = agent.text().unwrap_or_default();
            if !self.sources.iter().any(|source| source.path == format!("agents/{name}.md")) {
                let message = format!("there is no agent `{name}`");
                self.found.add(path, agent.line, "agent", message, "name an agent of the pack");
            }
        }
        for (line, word) in task_types(&definition.body) {
            if !self.task_types.contains(&word) {
                let message = format!("there is no task type `{word}`");
                self.found.add(
                    path,
                    definition.body_line + line,
                    "task_type",
                    message,
                    "dx-runner routes lists them",
                );
            }
        }
    }

    /// An agent's mode lets in who calls it.
    fn reachable(&mut self, path: &str, name: &str, agent: &Definition) {
        let Some(mode) = agent.get("mode") else { return };
        let is_run = name == VALIDATOR || RUNNABLE.contains(&name);
        let (message, fix) = match mode.text() {
            Some("primary") if is_run => {
                ("others delegate to it, and OpenCode lets nobody delegate to a primary agent", "all")
            }
            Some("primary") => {
                ("others delegate to it, and OpenCode lets nobody delegate to a primary agent", "subagent")
            }
            Some("subagent") if is_run => {
                ("`task run` starts it by itself, and OpenCode starts another in a subagent's place", "all")
            }
            _ => return,
        };
        self.found.add(path, mode.line, "mode", message, format!("write `mode: {fix}`"));
    }

    /// The leader's list and the agents are the same.
    fn delegation(&mut self) {
        let Some(leader) = self.sources.iter().find(|source| source.path == LEADER) else { return };
        let Ok(definition) = Definition::parse(leader.bytes) else { return };
        if let Some(mode) = definition.get("mode").filter(|mode| mode.text() == Some("subagent")) {
            let message = "nobody can choose it: it is the one that talks with the user";
            self.found.add(LEADER, mode.line, "mode", message, "write `mode: primary`");
        }
        let rules = &definition.rules;
        let named = |rule: &&Rule| rule.tool == "task" && rule.effect == Effect::Allow;
        for rule in rules.iter().filter(named) {
            let is_there = self.sources.iter().any(|s| s.path == format!("agents/{}.md", rule.pattern));
            if !is_there {
                let message = format!("it may delegate to `{}`, which is no agent", rule.pattern);
                self.found.add(
                    LEADER,
                    rule.line,
                    "delegation",
                    message,
                    "name agents of the pack, one by one",
                );
            }
        }
        for source in self.sources.iter().filter(|source| source.ours && source.path != LEADER) {
            let Some(name) = source.path.strip_prefix("agents/").and_then(|p| p.strip_suffix(".md")) else {
                continue;
            };
            let Ok(agent) = Definition::parse(source.bytes) else { continue };
            self.reachable(&source.path, name, &agent);
            if effect(rules, "task", name) != Effect::Allow {
                let message = format!("nobody may delegate to it: {LEADER} does not list it");
                self.found.add(
                    &source.path,
                    1,
                    "delegation",
                    message,
                    format!("add `{name}: allow` to its `task`"),
                );
            } else if let Some(hidden) = agent.get("hidden").filter(|node| node.text() == Some("true")) {
                let message = "others delegate to it, and OpenCode 2 does not show hidden agents to them";
                self.found.add(&source.path, hidden.line, "hidden", message, "remove `hidden`");
            }
        }
    }
}

fn is_color(text: &str) -> bool {
    let hex = text.strip_prefix('#').filter(|hex| hex.len() == 6);
    COLORS.contains(&text) || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Words in backticks behind "task type", to the end of the sentence; lines counted from 0.
fn task_types(body: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut inside = false;
    for (number, line) in body.lines().enumerate() {
        let mut rest = line;
        while !rest.is_empty() {
            if !inside {
                let Some(at) = rest.find("task type") else { break };
                (inside, rest) = (true, &rest[at + "task type".len()..]);
            }
            let end = rest.find(['.', '`']).unwrap_or(rest.len());
            if rest[end..].starts_with('`') {
                let Some((word, after)) = rest[end + 1..].split_once('`') else { break };
                if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                {
                    words.push((number, word));
                }
                rest = after;
            } else if end < rest.len() {
                (inside, rest) = (false, &rest[end + 1..]);
            } else {
                break;
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_types_are_read_to_the_end_of_the_sentence() {
        let body = "Optional: task types `a`,\n`b-c` of `dx-runner routes`. Write `d`.\n(task type `e`)\n";
        assert_eq!(task_types(body), [(0, "a"), (1, "b-c"), (2, "e")]);
    }
}
