//! Planted defects: each is found with file, line, rule and fix; the pack itself has none.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_workflow::{FILES, Source, check};

const TASK_TYPES: &[&str] = &[
    "research",
    "architecture",
    "library-comparison",
    "docs-lookup",
    "boilerplate",
    "simple-fix",
    "test-scaffolding",
    "docs-generation",
    "code-review",
    "logic-verification",
    "security-review",
    "deep-research",
];

/// A pack with some files changed; a path that is new is added.
fn findings(changes: &[(&str, Vec<u8>)]) -> Vec<dx_workflow::Finding> {
    let mut files: Vec<(String, Vec<u8>)> =
        FILES.iter().map(|file| (file.path.to_owned(), file.text.as_bytes().to_vec())).collect();
    for (path, bytes) in changes {
        files.retain(|(name, _)| name != path);
        files.push(((*path).to_owned(), bytes.clone()));
    }
    let sources: Vec<Source> =
        files.iter().map(|(path, bytes)| Source { path: path.clone(), bytes, ours: true }).collect();
    check(&sources, TASK_TYPES, true)
}

fn text(path: &str) -> String {
    dx_workflow::text_of(path).unwrap().to_owned()
}

/// Line of the first occurrence, counted from 1.
fn line_of(text: &str, part: &str) -> u64 {
    1 + text[..text.find(part).unwrap()].matches('\n').count() as u64
}

#[test]
fn the_pack_itself_is_clean_in_any_form() {
    assert_eq!(findings(&[]), []);
    let windows = |path: &str| format!("\u{feff}{}", text(path).replace('\n', "\r\n")).into_bytes();
    let changes: Vec<_> = FILES.iter().map(|file| (file.path, windows(file.path))).collect();
    assert_eq!(findings(&changes), []);
}

#[test]
fn every_planted_defect_is_found_with_its_line() {
    const A: &str = "agents/";
    // file, what is replaced, by what, rule, and what the finding's line holds afterwards.
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        ("agents/init.md", "---\ndescription", "description", "frontmatter", "description"),
        ("agents/init.md", "\n---\n\n# Init", "\n\n# Init", "frontmatter", "---"),
        ("agents/init.md", "mode: subagent", "mode: [", "frontmatter", "permission:"),
        ("agents/init.md", "mode: subagent", "mode: sub agent: x", "frontmatter", "mode: sub"),
        ("agents/init.md", "  glob: allow", "  glob: &a allow\n  grep: *a", "frontmatter", "grep: *a"),
        ("agents/init.md", "description: I", "descriptio: I", "description", "---"),
        ("agents/init.md", "description: I", "descriptio: I", "key", "descriptio:"),
        (
            "agents/init.md",
            "description: Interviews the user and writes the project's facts into .ai/context.md",
            "description:",
            "description",
            "description:",
        ),
        ("agents/init.md", "mode: subagent\n", "", "mode", "---"),
        ("agents/init.md", "mode: subagent", "mode: secondary", "mode", "mode: secondary"),
        ("agents/init.md", "mode: subagent", "mode: subagent\nmode: all", "twice", "mode: all"),
        ("agents/init.md", "permission:", "permissions:", "key", "permissions:"),
        ("agents/init.md", "permission:", "permissions:", "permission", "---"),
        ("agents/init.md", "permission:", "tools: {write: false}\npermission:", "key", "tools:"),
        ("agents/init.md", "permission:", "maxSteps: 3\npermission:", "key", "maxSteps:"),
        ("agents/init.md", "permission:", "owner: me\npermission:", "key", "owner:"),
        ("agents/init.md", "permission:", "temperature: hot\npermission:", "value", "temperature:"),
        ("agents/init.md", "permission:", "steps: -1\npermission:", "value", "steps:"),
        ("agents/init.md", "permission:", "model: a/b#high\npermission:", "value", "model:"),
        ("agents/init.md", "permission:", "hidden: maybe\npermission:", "value", "hidden:"),
        ("agents/init.md", "  glob: allow", "  glob: yes", "permission_value", "glob: yes"),
        ("agents/init.md", "  glob: allow", "  glob: [allow]", "permission_value", "glob: [allow]"),
        ("agents/init.md", "  glob: allow", "  globb: allow", "tool", "globb"),
        ("agents/init.md", "  \"*\": deny\n  read", "  read", "base", "permission:"),
        ("agents/init.md", "  question: allow\n", "", "needs", "ask with the question tool"),
        (
            "agents/init.md",
            "    \".ai/context.md\": allow",
            "    \".ai/context.md\": allow\n    \"*\": deny",
            "shadowed",
            "    \".ai/context.md\": allow",
        ),
        (
            "agents/init.md",
            "  question: allow",
            "  question: allow\n  \"*\": deny",
            "shadowed",
            "question: allow",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"echo *\": allow}",
            "shell_writes",
            "echo *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"node -p *\": allow}",
            "shell_writes",
            "node -p",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git diff*\": allow}",
            "shell_writes",
            "git diff*",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git branch*\": allow}",
            "shell_writes",
            "git branch",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git config*\": allow}",
            "shell_writes",
            "git config",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"env *\": allow}",
            "shell_writes",
            "env *",
        ),
        ("agents/init.md", "  glob: allow", "  bash: allow", "shell_writes", "bash: allow"),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"bash *\": allow}",
            "shell_writes",
            "bash *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"make *\": allow}",
            "shell_writes",
            "make *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git commit *\": allow}",
            "shell_writes",
            "git commit *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git commit -m *\": allow}",
            "shell_writes",
            "git commit -m *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"python3 *\": allow}",
            "shell_writes",
            "python3 *",
        ),
        ("agents/init.md", "  glob: allow", "  bash: {\"*\": deny, \"sh *\": allow}", "shell_writes", "sh *"),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"npm test\": allow}",
            "shell_writes",
            "npm test",
        ),
        ("agents/init.md", "  glob: allow", "  bash: {\"*\": deny, \"ls *\": allow}", "shell_writes", "ls *"),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"git -C . status\": allow}",
            "shell_writes",
            "git -C . status",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"xargs *\": allow}",
            "shell_writes",
            "xargs *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"curl *\": allow}",
            "shell_writes",
            "curl *",
        ),
        (
            "agents/init.md",
            "  glob: allow",
            "  bash: {\"*\": deny, \"dx-runner start *\": allow}",
            "shell_writes",
            "dx-runner start *",
        ),
        ("agents/test-writer.md", "    \"tests/*\": allow\n", "", "root", "*/tests/*"),
        (
            "agents/test-writer.md",
            "    \"tests/*\": allow\n",
            "    \"**/e2e/**\": allow\n",
            "root",
            "**/e2e/**",
        ),
        ("agents/validator.md", ".ai/tasks/*/validation-report.md", ".ai/x.md", "needs", "Write `validation"),
        (
            "agents/task-planner.md",
            "    \"dx-runner task new *\": allow\n",
            "",
            "needs",
            "`dx-runner task new",
        ),
        (
            "agents/task-planner.md",
            "List or read below",
            "Use glob on `.ai/` below",
            "hidden_by_glob",
            "Use glob",
        ),
        (
            "agents/task-planner.md",
            "List or read below `.ai/`",
            "Search `.ai/**/*.md`",
            "hidden_by_glob",
            "Search",
        ),
        ("plugins/dx-runner.js", "if (!odd)", "if (odd)", "plugin", "if (odd)"),
        ("agents/orchestrator.md", "    executor: allow\n", "", "delegation", "---"),
        (
            "agents/orchestrator.md",
            "    executor: allow",
            "    executor: allow\n    release: allow",
            "delegation",
            "release",
        ),
        ("agents/executor.md", "mode: subagent", "mode: subagent\nhidden: true", "hidden", "hidden: true"),
        ("agents/executor.md", "mode: subagent", "mode: primary", "mode", "mode: primary"),
        ("agents/validator.md", "mode: all", "mode: subagent", "mode", "mode: subagent"),
        ("agents/orchestrator.md", "mode: primary", "mode: subagent", "mode", "mode: subagent"),
        ("agents/init.md", "permission:", "color: banana\npermission:", "value", "color:"),
        ("agents/init.md", "permission:", "color: \"#ff00\"\npermission:", "value", "color:"),
        ("agents/init.md", "  glob: allow", "  glob: allow\n  task: allow", "delegation", "  task: allow"),
        ("agents/init.md", "# Init\n", "# Init\n\nThen run `npm test`.\n", "needs", "Then run"),
        ("agents/init.md", "# Init\n", "# Init\n\nEdit `src/main.rs` too.\n", "needs", "Edit `src"),
        ("agents/init.md", "# Init\n", "# Init\n\nAlways delegate to `research`.\n", "needs", "Always"),
        ("agents/init.md", "# Init\n", "# Init\n\nDelegate to the `research` agent.\n", "needs", "Delegate"),
        ("agents/init.md", "# Init\n", "# Init\n\nUse `bash` here.\n", "needs", "Use `bash`"),
        ("agents/research.md", "# Research\n", "# Research\n\nUse the `edit` tool.\n", "needs", "Use the"),
        ("agents/research.md", "# Research\n", "# Research\n\nUse the `task` tool.\n", "needs", "Use the"),
        (
            "agents/research.md",
            "# Research\n",
            "# Research\n\nWrite your findings to `docs/x.md`.\n",
            "needs",
            "Write your",
        ),
        ("agents/shipper.md", "    'git commit -m \"*\"*\"*': deny\n", "", "shell_writes", "'git commit -m"),
        ("agents/shipper.md", "    \"*>*\": deny\n", "", "shell_writes", "git add --"),
        ("commands/planning.md", "agent: orchestrator", "agent: boss", "agent", "agent: boss"),
        ("commands/planning.md", "agent: orchestrator", "mode: all", "key", "mode: all"),
        ("agents/init.md", "permission:", "temperature: \"0.5\"\npermission:", "value", "temperature:"),
        ("agents/init.md", "permission:", "variant: 3\npermission:", "value", "variant:"),
        ("agents/init.md", "permission:", "model: 5\npermission:", "value", "model:"),
        ("agents/init.md", "permission:", "model: [a/b]\npermission:", "value", "model:"),
        ("agents/init.md", "permission:", "steps: \"3\"\npermission:", "value", "steps:"),
        ("agents/init.md", "permission:", "steps: 0.5\npermission:", "value", "steps:"),
        ("agents/init.md", "permission:", "hidden: \"true\"\npermission:", "value", "hidden:"),
        ("agents/init.md", "permission:", "top_p:\npermission:", "value", "top_p:"),
        ("agents/init.md", "permission:", "color: 7\npermission:", "value", "color:"),
        ("agents/init.md", "description: I", "description: 2026-01-31 #", "value", "description:"),
        ("agents/init.md", "mode: subagent", "mode: true", "mode", "mode: true"),
        ("agents/init.md", "  glob: allow", "  glob:", "permission_value", "  glob:"),
        (
            "agents/init.md",
            "  question: allow",
            "  question: {\"*\": allow}",
            "permission_value",
            "question:",
        ),
        (
            "agents/orchestrator.md",
            "  glob: allow",
            "  glob: allow\n  edit: allow",
            "boundary",
            "edit: allow",
        ),
        ("agents/research.md", "  glob: allow", "  glob: allow\n  edit: allow", "boundary", "edit: allow"),
        (
            "agents/research.md",
            "  glob: allow",
            "  glob: allow\n  bash: allow\n  edit: allow",
            "shell_writes",
            "bash:",
        ),
        (
            "agents/validator.md",
            "    \".ai/tasks/*/validation",
            "    \"src/*\": allow\n    \".ai/tasks/*/validation",
            "boundary",
            "src/*",
        ),
        ("agents/task-planner.md", "tasks/*/task-spec.md\"", "tasks/*\"", "boundary", "tasks/*\""),
        ("agents/test-writer.md", "    \".ai/*\": deny\n", "", "boundary", "*/tests/*"),
        ("agents/implementer.md", "    \".ai/*\": deny\n", "", "boundary", "\"*\": allow\n    \".git"),
        (
            "agents/validator.md",
            "    \"git diff\": allow",
            "    \"git diff '--output=a.txt'\": allow",
            "shell_writes",
            "--output",
        ),
        (
            "agents/validator.md",
            "    \"git diff\": allow",
            "    \"git remote -v add evil http://x\": allow",
            "shell_writes",
            "evil",
        ),
        (
            "agents/validator.md",
            "    \"git diff\": allow",
            "    \"date -s 12:00\": allow",
            "shell_writes",
            "date",
        ),
        ("commands/planning.md", "description:", "description: 7 #", "value", "description:"),
        ("commands/planning.md", "agent: orchestrator", "agent: 5", "value", "agent: 5"),
        (
            "commands/planning.md",
            "agent: orchestrator",
            "agent: orchestrator\nsubtask: \"true\"",
            "value",
            "subtask:",
        ),
        ("commands/planning.md", "agent: orchestrator", "agent: orchestrator\nmodel: [a]", "value", "model:"),
        ("commands/planning.md", "`docs-lookup`", "`docs-look-up`", "task_type", "docs-look-up"),
    ];
    for (path, from, to, rule, at) in rows {
        let before = text(path);
        assert!(before.contains(from), "{path} has no {from:?}");
        let after = before.replacen(from, to, 1);
        let found = findings(&[(path, after.clone().into_bytes())]);
        let file = match (*rule, *path) {
            ("delegation", "agents/orchestrator.md") if *at == "---" => format!("{A}executor.md"),
            (_, path) => path.to_owned(),
        };
        let line = if *at == "---" { 1 } else { line_of(&after, at) };
        let hit = found.iter().find(|f| f.rule == *rule && f.file == file && f.line == line);
        let hit = hit.unwrap_or_else(|| panic!("{path} {to:?}: no {rule} in {file}:{line}: {found:#?}"));
        assert!(!hit.message.is_empty() && !hit.fix.is_empty(), "{hit:?}");
    }
    assert!(rows.len() >= 25);
}

#[test]
fn whole_files_are_judged_too() {
    let one = |path: &str, bytes: &[u8], rule: &str, line: u64| {
        let found = findings(&[(path, bytes.to_vec())]);
        assert!(
            found.iter().any(|f| f.file == path && f.rule == rule && f.line == line),
            "{path} {rule}: {found:#?}"
        );
    };
    one("agents/init.md", b"", "frontmatter", 1);
    one("agents/init.md", b"---\n---\n\nx\n", "frontmatter", 1);
    one("agents/init.md", b"---\n- a\n---\n\nx\n", "frontmatter", 2);
    one("agents/init.md", b"---\na: b\n\xff\n---\n", "frontmatter", 3);
    one("skills/x/SKILL.md", b"x", "not_of_the_pack", 1);
    one("templates/x.md", b"x", "not_of_the_pack", 1);
    one("agents/deep/x.md", text("agents/init.md").as_bytes(), "nested", 1);
    one("agents/extra.md", text("agents/init.md").as_bytes(), "delegation", 1);
    let body = text("agents/executor.md").split("# Executor").next().unwrap().to_owned();
    let line = 1 + body.matches('\n').count() as u64;
    one("agents/executor.md", body.trim_end().as_bytes(), "prompt", line - 2);
}

#[test]
fn what_is_missing_from_a_whole_pack_is_told() {
    let found = check(&[], TASK_TYPES, true);
    assert_eq!(found.len(), FILES.len());
    assert!(found.iter().all(|f| f.rule == "missing_file"));
    assert_eq!(check(&[], TASK_TYPES, false), []);
}

#[test]
fn files_of_others_are_judged_by_what_breaks_opencode_only() {
    let foreign = |text: &'static str| {
        let source = Source { path: "agents/mine.md".to_owned(), bytes: text.as_bytes(), ours: false };
        check(&[source], TASK_TYPES, false).into_iter().map(|f| f.rule).collect::<Vec<_>>()
    };
    assert!(foreign("---\ndescription: x\nmode: all\ncustom: 1\n---\nYou.\n").is_empty());
    assert!(foreign("---\nmode: all\ntop_p: 7\nmodel: x\ncolor: \"#00ff00\"\n---\nYou.\n").is_empty());
    assert_eq!(foreign("---\nmode: all\ncolor: banana\nsteps: 0\n---\nYou.\n"), ["value", "value"]);
    assert_eq!(
        foreign("---\nmode: boss\npermission:\n  edit: never\n---\nYou.\n"),
        ["mode", "permission_value"]
    );
    // OpenCode goes on without frontmatter, and reads a colon in a value as a part of it.
    for text in
        ["You.\n", "", "---\n---\nYou.\n", "---\nmode: [\n---\nYou.\n", "---\ndescription: a: b\n---\n"]
    {
        assert!(foreign(text).is_empty(), "{text}");
    }
    assert_eq!(foreign("---\ndescription: a: b\nmode: boss\n---\n"), ["mode"]);
    assert_eq!(foreign("--- \nmode: boss\n--- \nYou.\n"), ["mode"]);
    let command = |text: &'static str| {
        let source = Source { path: "commands/mine.md".to_owned(), bytes: text.as_bytes(), ours: false };
        check(&[source], TASK_TYPES, false).into_iter().map(|f| f.rule).collect::<Vec<_>>()
    };
    for text in ["Do it.\n", "---\nmode: 7\npermission: 7\nagent: x\nmodel: y\n---\nDo it.\n"] {
        assert!(command(text).is_empty(), "{text}");
    }
    assert_eq!(command("---\nvariant: 7\nsubtask: \"true\"\nagent:\n---\nDo it.\n"), ["value"; 3]);
}
