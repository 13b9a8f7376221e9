//! What is wrong with the files of a task.
//!
//! Called by: `task check`, and before a task is run or approved. Must never: look at a report as if it were the work.

use super::markdown::{Section, items, same};
use super::report::{ReportKind, report_findings};
use super::scope;
use super::spec::{PLAN_SECTIONS, RUNNABLE, SECTIONS, Spec, is_none};
use super::units::{self, are_parallel};
use super::{SPEC, VALIDATOR};
use crate::definition::Effect;
use crate::findings::Findings;
use crate::pack::hash;
use crate::permission::effect;
use crate::roles::rules_of;
use dx_protocol::PackFinding;

/// What `.ai/context.md` has.
pub const CONTEXT_SECTIONS: [&str; 3] = ["Test Setup", "Conventions", "Workflow"];

/// The files of a folder with a specification.
#[derive(Debug, Clone, Default)]
pub struct UnitFiles {
    /// Name of the folder.
    pub folder: String,
    /// `None`: there is no specification.
    pub spec: Option<String>,
    /// Reports that are there.
    pub reports: Vec<(ReportKind, String)>,
}

/// The files of a task.
#[derive(Debug, Clone, Default)]
pub struct TaskFiles {
    pub own: UnitFiles,
    /// Folders in it.
    pub units: Vec<UnitFiles>,
}

impl TaskFiles {
    /// What a run begins with: reports are what it makes.
    #[must_use]
    pub fn without_reports(&self) -> Self {
        let bare = |unit: &UnitFiles| UnitFiles { reports: Vec::new(), ..unit.clone() };
        Self { own: bare(&self.own), units: self.units.iter().map(bare).collect() }
    }
}

struct Checker {
    found: Findings,
}

impl Checker {
    fn sections(&mut self, file: &str, spec: &Spec, titles: &[&str]) {
        for title in titles {
            match spec.section(title) {
                None => self.found.add(file, 1, "section", format!("it has no `## {title}`"), "write it"),
                Some(section) if section.is_empty() => {
                    let message = format!("`## {title}` says nothing");
                    let fix = match *title {
                        "Execution" => "list the agents that run, as `- implementer`",
                        _ => "write `None` when there is nothing",
                    };
                    self.found.add(file, section.line, "section", message, fix);
                }
                Some(_) => {}
            }
        }
        for (line, name) in
            spec.section("Scope").map(|scope| scope::outside(&scope.lines)).unwrap_or_default()
        {
            let message = format!("`{name}` leads out of the project");
            self.found.add(file, line, "scope_outside", message, "name paths below its top");
        }
        for (index, section) in spec.sections.iter().enumerate() {
            if spec.sections[..index].iter().any(|other| same(&other.title, &section.title)) {
                let message = format!("`## {}` is there twice", section.title);
                self.found.add(file, section.line, "section_twice", message, "make one of them");
            }
        }
    }

    fn spec(&mut self, file: &str, text: &str) -> Spec {
        let spec = Spec::parse(text);
        self.sections(file, &spec, &SECTIONS);
        self.execution(file, &spec);
        self.criteria(file, &spec);
        if let Some(section) = spec.section("Open Questions").filter(|section| !section.is_empty()) {
            let open = section.lines.iter().find(|(_, line)| !is_none(line));
            if let Some((line, text)) = open {
                let message = format!("a question is open: {}", text.trim());
                self.found.add(file, *line, "open_question", message, "have it answered, then write `None`");
            }
        }
        spec
    }

    fn execution(&mut self, file: &str, spec: &Spec) {
        let Some(section) = spec.section("Execution").filter(|section| !section.is_empty()) else { return };
        let fix = format!("one of {} on each line", RUNNABLE.join(", "));
        let mut seen: Vec<String> = Vec::new();
        for (line, item) in items(&section.lines) {
            match item {
                Ok(name) if name == VALIDATOR => {
                    self.found.add(
                        file,
                        line,
                        "execution",
                        "the validator always runs last and is not listed",
                        "remove it",
                    );
                }
                Ok(name) if !RUNNABLE.contains(&name.as_str()) => {
                    self.found.add(
                        file,
                        line,
                        "execution",
                        format!("`{name}` is no agent that runs"),
                        fix.clone(),
                    );
                }
                Ok(name) if seen.contains(&name) => {
                    self.found.add(file, line, "execution", format!("`{name}` is there twice"), "remove one");
                }
                Ok(name) => seen.push(name),
                Err(text) => {
                    self.found.add(
                        file,
                        line,
                        "execution",
                        format!("`{text}` is no item of a list"),
                        fix.clone(),
                    );
                }
            }
        }
        if seen.is_empty() {
            self.found.add(file, section.line, "execution", "nobody runs: the list is empty", fix);
        }
    }

    fn criteria(&mut self, file: &str, spec: &Spec) {
        const TITLE: &str = "Testable Acceptance Criteria";
        let Some(section) = spec.section(TITLE).filter(|section| !section.is_empty()) else { return };
        let end = section.lines.iter().position(|(_, line)| line.starts_with("### "));
        let own = &section.lines[..end.unwrap_or(section.lines.len())];
        let none =
            own.iter().all(|(_, line)| is_none(line)) && own.iter().any(|(_, line)| !line.trim().is_empty());
        if items(own).iter().all(|(_, item)| item.is_err()) && !none {
            let fix = "an item for each; or `None`, when only a reader can decide";
            self.found.add(file, section.line, "criteria", "it lists no criterion", fix);
        }
        if none {
            return;
        }
        let writes_tests = spec.execution.iter().any(|name| name == "test-writer");
        if spec.test_paths.is_empty() {
            let fix = "`### Test File Paths` with a list item for each path";
            self.found.add(file, section.line, "test_paths", "no test file is named", fix);
        }
        if spec.test_commands.is_empty() {
            let fix = "`### Test Commands` with a list item for each command";
            self.found.add(file, section.line, "test_commands", "nothing says how the tests are run", fix);
        }
        self.lists(file, section);
        for (line, command) in spec.test_commands.iter().filter(|(_, command)| command.contains('`')) {
            let message = format!("the shell would run the backticks of {command}");
            let fix = "nothing but the command between backticks; `$(…)` where the shell is to put output in";
            self.found.add(file, *line, "test_commands", message, fix);
        }
        let rules = rules_of("test-writer");
        for (line, path) in &spec.test_paths {
            let leaves = path.starts_with(['/', '~']) || path.split('/').any(|part| part == "..");
            if leaves {
                self.found.add(
                    file,
                    *line,
                    "test_paths",
                    format!("`{path}` leads out of the project"),
                    "a path below it",
                );
            } else if writes_tests && effect(&rules, "edit", path) != Effect::Allow {
                let message = format!("the test-writer may not write `{path}`");
                self.found.add(
                    file,
                    *line,
                    "test_paths",
                    message,
                    "a place for tests; docs/reference/roles.md lists them",
                );
            }
        }
    }

    /// What stands beside the items of the two lists is neither run nor looked at.
    fn lists(&mut self, file: &str, section: &Section) {
        for (title, rule) in [("Test File Paths", "test_paths"), ("Test Commands", "test_commands")] {
            let lines = section.below(title).map(|(_, lines)| lines).unwrap_or_default();
            for (line, item) in items(&lines) {
                if let Some(text) = item.err().filter(|text| !is_none(text)) {
                    let message = format!("`{text}` is no item of a list, and counts for nothing");
                    self.found.add(file, line, rule, message, "`- ` before it, or remove it");
                }
            }
        }
    }

    fn reports(&mut self, files: &UnitFiles, prefix: &str, spec_text: &str) {
        let spec = hash(spec_text.as_bytes());
        for (kind, text) in &files.reports {
            let file = format!("{prefix}{}", kind.file());
            self.found.0.extend(report_findings(&file, *kind, text, &spec));
        }
    }
}

/// All findings of one task, files named as below `.ai/tasks`.
pub fn check_task(files: &TaskFiles) -> Vec<PackFinding> {
    let mut checker = Checker { found: Findings::default() };
    let prefix = format!("{}/", files.own.folder);
    let file = format!("{prefix}{SPEC}");
    let Some(text) = &files.own.spec else {
        checker.found.add(&file, 1, "spec", "there is no specification", "plan the task");
        return checker.found.0;
    };
    if Spec::parse(text).units.is_some() {
        plan(&mut checker, files, &file, text);
    } else {
        checker.spec(&file, text);
        for unit in &files.units {
            let path = format!("{prefix}{}/{SPEC}", unit.folder);
            let fix = "a table of units in the plan, or no folder";
            checker.found.add(&path, 1, "unit_stray", "the task has no units, and a folder for one", fix);
        }
    }
    checker.reports(&files.own, &prefix, text);
    checker.found.sorted()
}

fn plan(checker: &mut Checker, files: &TaskFiles, file: &str, text: &str) {
    let spec = Spec::parse(text);
    let table = spec.units.clone().unwrap_or_default();
    checker.sections(file, &spec, &PLAN_SECTIONS);
    if let Some(section) = spec.section("Execution") {
        let fix = "each unit has its own; remove it here";
        checker.found.add(file, section.line, "execution", "a plan of several units runs nobody itself", fix);
    }
    for (line, name) in &spec.missing_columns {
        let message = format!("the table of units has no column `{name}`");
        checker.found.add(file, *line, "unit_column", message, "add it, with `None` where there is nothing");
    }
    checker.found.0.extend(units::findings(file, &table));
    let mut planned = Vec::new();
    for unit in &table {
        let folder = unit.folder();
        let path = format!("{}/{folder}/{SPEC}", files.own.folder);
        let there = files.units.iter().find(|files| files.folder == folder);
        let Some(text) = there.and_then(|files| files.spec.as_ref()) else {
            let message = format!("unit {} has no specification", unit.name);
            checker.found.add(&path, 1, "unit_spec", message, "plan it there");
            continue;
        };
        let spec = checker.spec(&path, text);
        if spec.units.is_some() {
            checker.found.add(
                &path,
                1,
                "unit_nested",
                "a unit has units of its own",
                "make them units of the plan",
            );
        }
        if let Some(unit) = there {
            checker.reports(unit, &format!("{}/{folder}/", files.own.folder), text);
        }
        planned.push((unit, spec));
    }
    for stray in files.units.iter().filter(|files| !table.iter().any(|unit| unit.folder() == files.folder)) {
        let path = format!("{}/{}/{SPEC}", files.own.folder, stray.folder);
        checker.found.add(
            &path,
            1,
            "unit_stray",
            "the table of units has no such unit",
            "give it a row, or remove it",
        );
    }
    for (unit, spec) in &planned {
        let Some(other) = table.iter().find(|other| other.number != unit.number && are_parallel(unit, other))
        else {
            continue;
        };
        let scope = spec.section("Scope");
        if scope.is_some_and(|scope| !scope.is_empty() && scope::paths(&scope.lines).is_empty()) {
            let (number, beside) = (unit.number.unwrap_or_default(), other.number.unwrap_or_default());
            let path = format!("{}/{}/{SPEC}", files.own.folder, unit.folder());
            let message = format!(
                "units {number} and {beside} are parallel, and this one names no file that it changes"
            );
            let fix = "name its files and folders, or let one need the other";
            checker.found.add(&path, scope.map_or(1, |scope| scope.line), "unit_scope", message, fix);
        }
    }
    for (index, (a, spec)) in planned.iter().enumerate() {
        for (b, other) in planned[index + 1..].iter().filter(|(b, _)| are_parallel(a, b)) {
            let theirs = other.paths();
            let both = |path: String| {
                let met = theirs.iter().find(|other| scope::meet(&path, other))?;
                Some(if *met == path {
                    format!("`{path}`")
                } else {
                    format!("what `{path}` and `{met}` mean")
                })
            };
            for path in spec.paths().into_iter().filter_map(both) {
                let (first, second) = (a.number.unwrap_or_default(), b.number.unwrap_or_default());
                let message = format!("units {first} and {second} are parallel, and both change {path}");
                let fix = "let one need the other, or divide the work differently";
                checker.found.add(file, b.line, "unit_overlap", message, fix);
            }
        }
    }
}

/// What the line says that lets `agy` carry out implementation steps.
pub const AGY_ON: &str = "agy:enabled";

/// What `## Workflow` says of `agy`, in whatever list or emphasis, without its signs: `agy:enabled`.
pub fn agy_lines(context: &Spec) -> impl Iterator<Item = (usize, String)> {
    let lines = context.section("Workflow").map(|section| section.lines.as_slice()).unwrap_or_default();
    let plain = |line: &str| -> String {
        let signs = |c: &char| !matches!(c, '*' | '`' | '_' | '-' | ' ' | '\t');
        line.chars().filter(signs).collect::<String>().to_lowercase()
    };
    lines
        .iter()
        .map(move |(number, line)| (*number, plain(line)))
        .filter(|(_, line)| line.starts_with("agy:"))
}

/// What is wrong with `.ai/context.md`; `None`: it is not there.
pub fn check_context(text: Option<&str>) -> Vec<PackFinding> {
    let mut checker = Checker { found: Findings::default() };
    let fix = "let the agent `init` write it, or write it yourself";
    match text {
        None => checker.found.add("context.md", 1, "context", "there is no .ai/context.md", fix),
        Some(text) => {
            let spec = Spec::parse(text);
            for title in CONTEXT_SECTIONS {
                match spec.section(title) {
                    None => {
                        checker.found.add("context.md", 1, "context", format!("it has no `## {title}`"), fix);
                    }
                    Some(section) if section.is_empty() => {
                        checker.found.add(
                            "context.md",
                            section.line,
                            "context",
                            format!("`## {title}` says nothing"),
                            fix,
                        );
                    }
                    Some(_) => {}
                }
            }
            let switches = [AGY_ON, "agy:disabled"];
            for (line, said) in agy_lines(&spec).filter(|(_, said)| !switches.contains(&said.as_str())) {
                let message =
                    "`agy` is off: only `agy: enabled` switches it on".to_owned() + &format!(" ({said})");
                let fix = "write `agy: enabled` or `agy: disabled`";
                checker.found.add("context.md", line, "agy", message, fix);
            }
        }
    }
    checker.found.0
}
