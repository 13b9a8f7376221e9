//! What is wrong with definitions: each finding with file, line, rule and what mends it.
//!
//! Called by: `workflow check`, and by the installer before it copies. Judges our own files by everything that the pack
//! promises, files of others only by what would break OpenCode for all. Must never: change a text, or take one on trust
//! because it is ours.

use crate::boundary::Boundary;
use crate::definition::{Broken, Definition, Effect, Rule};
use crate::findings::Findings;
use crate::keys::{self, MODES, Of};
use crate::permission::{covers, decide, effect};
use crate::prompt_needs::{self, MCP_TOOLS, quotes, task_types};
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
        if folder == "plugins" {
            return self.plugin(source);
        }
        let definition = match Definition::parse(source.bytes) {
            Ok(definition) => definition,
            Err(Broken { line, message, fix }) if source.ours => {
                return self.found.add(path, line, "frontmatter", message, fix);
            }
            // OpenCode goes on without frontmatter that it cannot read.
            Err(_) => match Definition::parse_generously(source.bytes) {
                Some(definition) => definition,
                None => return,
            },
        };
        let of = if matches!(folder, "agents" | "agent") { Of::Agent } else { Of::Command };
        if of == Of::Agent {
            for Broken { line, message, fix } in &definition.unreadable {
                self.found.add(path, *line, "permission_value", message, fix);
            }
        }
        keys::judge(path, &definition, of, source.ours, &mut self.found);
        if !source.ours {
            return;
        }
        self.description(path, &definition);
        self.body(path, &definition);
        if of == Of::Agent {
            self.named(path, &definition);
            self.rules(path, &definition);
            self.needs(path, &definition);
        } else {
            self.command(path, &definition);
        }
    }

    /// A program is not judged: it is the pack's, or nobody knows what it lets through.
    fn plugin(&mut self, source: &Source<'_>) {
        if let Some(line) = crate::pack::differs_at(&source.path, source.bytes) {
            let message = "from here on it is not the pack's, which holds roles to their shell rules";
            self.found.add(&source.path, line, "plugin", message, "dx-runner workflow install --force");
        }
    }

    fn named(&mut self, path: &str, definition: &Definition) {
        if definition.get("mode").is_none() {
            self.found.add(path, 1, "mode", "it has no `mode`; OpenCode takes that for `all`", MODES);
        }
        if path.matches('/').count() > 1 {
            let fix = "put it directly into the folder";
            self.found.add(path, 1, "nested", "in a folder of its own it gets the name `folder/name`", fix);
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

    /// A role keeps to its files. One that may not edit freely must not write by the shell either, nor through somebody else.
    fn writers(&mut self, path: &str, rules: &[Rule]) {
        let boundary = Boundary::of(path);
        for (line, message, fix) in boundary.iter().flat_map(|boundary| boundary.findings(rules)) {
            self.found.add(path, line, "boundary", message, fix);
        }
        let edits = || effect(rules, "edit", "src/any.rs") == Effect::Allow;
        if boundary.map_or_else(edits, Boundary::is_free) {
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
            let is_denied = if need.on == prompt_needs::ANYTHING {
                let admits = |rule: &Rule| rule.tool == need.tool && rule.effect != Effect::Deny;
                decide(&definition.rules, &need.tool, "*").effect == Effect::Deny
                    && !definition.rules.iter().any(admits)
            } else {
                decide(&definition.rules, &need.tool, &need.on).effect == Effect::Deny
            };
            if !is_denied {
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
