//! Planted defects in specifications, plans and reports: each is found with file, line, rule and fix.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_workflow::hash;
use dx_workflow::task::{ReportKind, Spec, TaskFiles, UnitFiles, check_context, check_task, layers};

const SPEC: &str = "\
# Greeting

## Source Artifacts / Handoff Context
The user asked for it.
## Scope
Change `src/greet.py`.
## Execution
- `test-writer`
- implementer
## Non-Goals
None
## Testable Acceptance Criteria
- greet() says hello
### Test File Paths
- tests/test_greet.py
### Test Commands
- `python3 -m unittest`
## Inspectable Acceptance Criteria
None
## Relevant Files
- src/greet.py
## Validation Plan
Run the tests.
## Open Questions
None
";

const PLAN: &str = "\
# Plan

## Source Artifacts / Handoff Context
The user.
## Scope
Everything.
## Unit Table
| # | Unit | Delivers | Depends on | Parallel with |
|---|---|---|---|---|
| 1 | base | a base | None | None |
| 2 | left | the left | 1 | 3 |
| 3 | right | the right | 1 | 2 |
| 4 | top | the top | 2, 3 | - |
";

fn spec_on(path: &str) -> String {
    SPEC.replace("src/greet.py", path).replace("tests/test_greet.py", &format!("tests/{path}"))
}

fn single(spec: &str) -> TaskFiles {
    let own =
        UnitFiles { folder: "001-greeting".to_owned(), spec: Some(spec.to_owned()), reports: Vec::new() };
    TaskFiles { own, units: Vec::new() }
}

fn plan(text: &str) -> TaskFiles {
    let unit = |folder: &str, path: &str| UnitFiles {
        folder: folder.to_owned(),
        spec: Some(spec_on(path)),
        reports: Vec::new(),
    };
    let units = vec![
        unit("01-base", "base.py"),
        unit("02-left", "left.py"),
        unit("03-right", "right.py"),
        unit("04-top", "top.py"),
    ];
    TaskFiles { units, ..single(text) }
}

#[track_caller]
fn assert_found(files: &TaskFiles, file: &str, line: usize, rule: &str, case: &str) {
    let found = check_task(files);
    let hit = found.iter().find(|f| f.file == file && f.rule == rule && f.line == line as u64);
    let hit = hit.unwrap_or_else(|| panic!("{case}: no {rule} in {file}:{line}: {found:#?}"));
    assert!(!hit.message.is_empty() && !hit.fix.is_empty());
}

fn line_of(text: &str, part: &str) -> usize {
    1 + text[..text.find(part).unwrap_or_else(|| panic!("no {part}"))].matches('\n').count()
}

#[test]
fn good_files_have_no_findings() {
    assert_eq!(check_task(&single(SPEC)), []);
    assert_eq!(check_task(&single(&SPEC.replace('\n', "\r\n"))), []);
    assert_eq!(check_task(&plan(PLAN)), []);
    let spec = Spec::parse(SPEC);
    assert_eq!(spec.execution, ["test-writer", "implementer"]);
    assert_eq!(spec.test_commands[0].1, "python3 -m unittest");
    assert_eq!(spec.paths(), ["src/greet.py", "tests/test_greet.py"]);
    assert_eq!(layers(&Spec::parse(PLAN).units.unwrap()), Ok(vec![vec![1], vec![2, 3], vec![4]]));
}

#[test]
fn defects_of_specifications_are_found() {
    let file = "001-greeting/task-spec.md";
    // What is replaced, by what, the rule, and what its line holds; nothing for the first line.
    let rows = [
        ("## Scope\nChange `src/greet.py`.\n", "", "section", ""),
        ("## Execution\n- `test-writer`\n- implementer\n", "", "section", ""),
        ("Change `src/greet.py`.\n", "", "section", "## Scope"),
        ("- tests/test_greet.py", "- tests/test_greet.py\ntests/b.py", "test_paths", "tests/b.py"),
        (
            "- `python3 -m unittest`",
            "- `python3 -m unittest`\nsh tests/b.sh",
            "test_commands",
            "sh tests/b.sh",
        ),
        ("- `python3 -m unittest`", "- `python3 -m unittest` (fast)", "test_commands", "- `python3"),
        ("## Non-Goals", "## Scope\nx\n## Non-Goals", "section_twice", "## Scope\nx"),
        ("- `test-writer`\n- implementer\n", "None\n", "execution", "## Execution"),
        ("- implementer", "- builder", "execution", "- builder"),
        ("- implementer", "- validator", "execution", "- validator"),
        ("- implementer", "- test-writer", "execution", "- test-writer"),
        ("- implementer", "First the implementer.", "execution", "First the"),
        ("- greet() says hello\n", "It works.\n", "criteria", "## Testable"),
        ("- tests/test_greet.py\n", "", "test_paths", "## Testable"),
        ("- `python3 -m unittest`\n", "", "test_commands", "## Testable"),
        ("- tests/test_greet.py", "- ../tests/x.py", "test_paths", "- ../tests"),
        ("- tests/test_greet.py", "- /tests/x.py", "test_paths", "- /tests"),
        ("- tests/test_greet.py", "- ~/tests/x.py", "test_paths", "- ~/tests"),
        ("- tests/test_greet.py", "- src/other.py", "test_paths", "- src/other"),
        ("Change `src/greet.py`.", "Change `/etc/passwd`.", "scope_outside", "Change `/etc"),
        ("Change `src/greet.py`.", "Change ../x.py.", "scope_outside", "Change ../x"),
        ("## Open Questions\nNone", "## Open Questions\n- Which language?", "open_question", "- Which"),
        ("## Relevant Files", "### Relevant Files", "section", ""),
    ];
    for (from, to, rule, at) in rows {
        let text = SPEC.replacen(from, to, 1);
        assert_ne!(text, SPEC, "{from}");
        let line = if at.is_empty() { 1 } else { line_of(&text, at) };
        assert_found(&single(&text), file, line, rule, to);
    }
    assert_found(
        &TaskFiles { own: UnitFiles { spec: None, ..single("").own }, units: Vec::new() },
        file,
        1,
        "spec",
        "none",
    );
    let with_folder = TaskFiles { own: single(SPEC).own, ..plan(PLAN) };
    assert_found(&with_folder, "001-greeting/01-base/task-spec.md", 1, "unit_stray", "no table");
}

#[test]
fn defects_of_plans_are_found() {
    let file = "001-greeting/task-spec.md";
    let rows = [
        ("| 2 | left | the left | 1 | 3 |", "| 2 | left | the left | 9 | 3 |", "unit_unknown", "| 2 |"),
        ("| 2 | left | the left | 1 | 3 |", "| 2 | left | the left | base | 3 |", "unit_unknown", "| 2 |"),
        ("| 2 | left | the left | 1 | 3 |", "| 2 | left | the left | 2 | 3 |", "unit_self", "| 2 |"),
        ("| 2 | left | the left | 1 | 3 |", "| 2 | left | the left | 1 | 2, 3 |", "unit_self", "| 2 |"),
        ("| 1 | base | a base | None | None |", "| 1 | base | a base | 4 | None |", "unit_cycle", "| 1 |"),
        (
            "| 3 | right | the right | 1 | 2 |",
            "| 2 | right | the right | 1 | None |",
            "unit_twice",
            "| 2 | right",
        ),
        ("| 3 | right | the right | 1 | 2 |", "| x | right | the right | 1 | 2 |", "units", "| x |"),
        ("| 3 | right | the right | 1 | 2 |", "| 3 | right |  | 1 | 2 |", "units", "| 3 | right"),
        ("| 4 | top | the top | 2, 3 | - |", "| 4 | top | the top | 2, 3 | 1 |", "unit_parallel", "| 4 |"),
        ("Depends on", "Needs", "unit_column", "| # |"),
        ("Parallel with", "Beside", "unit_column", "| # |"),
        ("## Unit Table", "## Execution\n- implementer\n## Unit Table", "execution", "## Execution"),
        ("## Scope\nEverything.\n", "", "section", ""),
    ];
    for (from, to, rule, at) in rows {
        let text = PLAN.replacen(from, to, 1);
        assert_ne!(text, PLAN, "{from}");
        let line = if at.is_empty() { 1 } else { line_of(&text, at) };
        assert_found(&plan(&text), file, line, rule, to);
    }
    let is_row = |line: &&str| line.contains("| the ") || line.contains("| a base");
    let rows_gone = PLAN.lines().filter(|line| !is_row(line)).collect::<Vec<_>>().join("\n");
    assert_found(&TaskFiles { units: Vec::new(), ..single(&rows_gone) }, file, 1, "units", "no rows");
    let mut files = plan(PLAN);
    files.units[2].spec = Some(spec_on("left.py"));
    assert_found(&files, file, line_of(PLAN, "| 3 | right"), "unit_overlap", "one path");
    for path in ["src/", "src/*.py", "src/left.*"] {
        files.units[1].spec = Some(spec_on("x").replace("`x`", "`src/left.py`"));
        files.units[2].spec =
            Some(spec_on("x").replace("`x`", &format!("`{path}`")).replace("tests/x", "tests/y"));
        assert_found(&files, file, line_of(PLAN, "| 3 | right"), "unit_overlap", path);
    }
    let pairs = [
        ("`Makefile`", "the Makefile"),
        ("`a//b.py`", "a/x/../b.py"),
        ("`src/a*`", "`src/*z`"),
        ("`.`", "c.py"),
    ];
    for (left, right) in pairs {
        for (unit, scope, test) in [(1, left, "tests/x"), (2, right, "tests/y")] {
            files.units[unit].spec = Some(spec_on("x").replace("`x`", scope).replace("tests/x", test));
        }
        assert_found(&files, file, line_of(PLAN, "| 3 | right"), "unit_overlap", left);
    }
    files.units[1].spec = Some(spec_on("left.py"));
    files.units[2].spec = Some(spec_on("left.py"));
    // What changes no file that is known cannot be kept apart from the other.
    let vague = spec_on("left.py").replace("Change `left.py`.", "Improve the left side.");
    files.units[1].spec = Some(vague.clone());
    files.units[2].spec = Some(spec_on("right.py"));
    assert_found(
        &files,
        "001-greeting/02-left/task-spec.md",
        line_of(&vague, "## Scope"),
        "unit_scope",
        "vague",
    );
    files.units[2].spec = Some(vague.clone());
    // One after the other they may.
    let ordered = PLAN.replace("| 1 | 3 |", "| 1 | None |").replace("| 1 | 2 |", "| 2 | None |");
    files.own.spec = Some(ordered);
    assert_eq!(check_task(&files), []);
    files.units[1].spec = Some(spec_on("left.py"));
    files.units[2].spec = Some(spec_on("left.py"));
    assert_eq!(check_task(&files), []);
    let mut files = plan(PLAN);
    files.units.remove(3);
    assert_found(&files, "001-greeting/04-top/task-spec.md", 1, "unit_spec", "gone");
    files.units.push(UnitFiles {
        folder: "09-more".to_owned(),
        spec: Some(SPEC.to_owned()),
        reports: Vec::new(),
    });
    assert_found(&files, "001-greeting/09-more/task-spec.md", 1, "unit_stray", "no row");
    let mut files = plan(PLAN);
    files.units[0].spec = Some(PLAN.to_owned());
    assert_found(&files, "001-greeting/01-base/task-spec.md", 1, "unit_nested", "nested");
}

#[test]
fn defects_of_reports_are_found() {
    let cite = format!("Spec: sha256:{}\n", hash(SPEC.as_bytes()));
    let good = |kind: ReportKind| {
        let sections = match kind {
            ReportKind::Implementation => {
                "## Outcome\ndone\n## Files Changed\na\n## Decisions\nNone\n## Verification\nran\n"
            }
            ReportKind::Documentation => {
                "## Outcome\ndone\n## Files Changed\na\n## Context Or Decisions Updated\nNone\n## Verification\nread\n"
            }
            ReportKind::Validation => {
                "## Result\n**PASS**\n## Checks Performed\nall\n## Issues Found\nNone\n"
            }
        };
        format!("# Report\n{cite}\n{sections}")
    };
    let with = |kind, text: &str| {
        let mut files = single(SPEC);
        files.own.reports.push((kind, text.to_owned()));
        files
    };
    for kind in ReportKind::ALL {
        let (text, file) = (good(kind), format!("001-greeting/{}", kind.file()));
        assert_eq!(check_task(&with(kind, &text)), []);
        assert_found(&with(kind, &text.replace(&cite, "")), &file, 1, "report_hash", "no hash");
        let other = text.replace(&hash(SPEC.as_bytes()), &hash(b"other"));
        assert_found(&with(kind, &other), &file, 2, "report_hash", "another hash");
        let heading = if kind == ReportKind::Validation { "## Issues Found" } else { "## Verification" };
        assert_found(&with(kind, &text.replace(heading, "## X")), &file, 1, "report_section", "no section");
        let emptied = text.split(heading).next().unwrap().to_owned() + heading + "\n";
        assert_found(
            &with(kind, &emptied),
            &file,
            line_of(&emptied, heading),
            "report_section",
            "an empty one",
        );
    }
    let (kind, file) = (ReportKind::Validation, "001-greeting/validation-report.md");
    for result in ["Looks good", "PASS with remarks", "PASS\nFAIL"] {
        let text = good(kind).replace("**PASS**", result);
        assert_found(&with(kind, &text), file, line_of(&text, "## Result"), "report_result", result);
    }
}

#[test]
fn project_facts_are_looked_at() {
    let good = "# Facts\n## Test Setup\nx\n## Conventions\nx\n## Workflow\nagy: disabled\n";
    assert_eq!(check_context(Some(good)), []);
    assert_eq!(check_context(None)[0].rule, "context");
    for title in ["Test Setup", "Conventions", "Workflow"] {
        let found = check_context(Some(&good.replace(&format!("## {title}"), "## Other")));
        assert!(found.len() == 1 && found[0].message.contains(title), "{found:?}");
    }
    assert_eq!(check_context(Some(&good.replace("agy: disabled\n", "")))[0].line, 6);
    // What is not one of the two words switches nothing on, and that is told.
    for (line, is_told) in [
        ("- **agy**: `Enabled`", false),
        ("agy: true", true),
        ("agy: yes", true),
        ("- agy: on", true),
        ("agy: enabled?", true),
        ("agy:", true),
    ] {
        let found = check_context(Some(&good.replace("agy: disabled", line)));
        let rows: Vec<_> = found.iter().map(|f| (f.rule.as_str(), f.line)).collect();
        assert_eq!(rows, if is_told { vec![("agy", 7)] } else { vec![] }, "{line}");
    }
}
