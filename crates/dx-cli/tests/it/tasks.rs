//! `task`: folders, specifications, plans; nothing is run here.

use crate::world::{World, read, write};
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A specification that has nothing wrong with it.
pub(crate) fn spec(title: &str, scope: &str, execution: &[&str], test: &str, command: &str) -> String {
    let agents = execution.iter().map(|name| format!("- {name}\n")).collect::<Vec<_>>().concat();
    format!(
        "# {title}\n\n## Source Artifacts / Handoff Context\nThe user.\n## Scope\nChange `{scope}`.\n## Execution\n{agents}\
         ## Non-Goals\nNone\n## Testable Acceptance Criteria\n- it says hello\n### Test File Paths\n- {test}\n### Test Commands\n\
         - `{command}`\n## Inspectable Acceptance Criteria\nNone\n## Relevant Files\n- {scope}\n## Validation Plan\nRun the tests.\n\
         ## Open Questions\nNone\n"
    )
}

const CONTEXT: &str = "# Facts\n## Test Setup\nsh\n## Conventions\nplain\n## Workflow\nagy: disabled\n";

struct Project {
    env: TestEnv,
    top: PathBuf,
}

impl Project {
    fn new() -> Self {
        let env = environment();
        let top = env.git_repo("app", &[("src/a.txt", "one\n"), (".ai/context.md", CONTEXT)]);
        Self { env, top }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.env.product();
        // From a folder below the top.
        command.current_dir(self.top.join("src")).arg("task").args(args);
        command
    }

    #[track_caller]
    fn ask(&self, code: i32, schema: &str, args: &[&str]) -> Value {
        let mut command = self.command(args);
        command.arg("--json");
        let output = self.env.run_command(command).assert_code(code);
        document(&self.env, schema, &output.stdout)
    }

    #[track_caller]
    fn refused(&self, code: i32, args: &[&str]) -> Value {
        let mut command = self.command(args);
        command.arg("--json");
        crate::world::error_of(&self.env, &self.env.run_command(command).assert_code(code))
    }

    fn text(&self, args: &[&str]) -> String {
        self.env.run_command(self.command(args)).stdout
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.top.join(".ai/tasks").join(id)
    }

    /// A plan of four units.
    fn plan(&self, id: &str) {
        let folder = self.folder(id);
        let rows = [
            ("1", "base", "None", "None"),
            ("2", "left", "1", "3"),
            ("3", "right", "1", "2"),
            ("4", "top", "2, 3", "-"),
        ];
        let mut plan = "# Plan\n## Source Artifacts / Handoff Context\nx\n## Scope\nx\n## Unit Table\n\
                        | # | Unit | Delivers | Depends on | Parallel with |\n|---|---|---|---|---|\n"
            .to_owned();
        for (number, name, needs, with) in rows {
            writeln!(plan, "| {number} | {name} | the {name} | {needs} | {with} |").unwrap();
            let unit = folder.join(format!("0{number}-{name}"));
            std::fs::create_dir_all(&unit).unwrap();
            let text =
                spec(name, &format!("src/{name}.txt"), &["implementer"], &format!("tests/{name}.sh"), "true");
            write(unit.join("task-spec.md"), text);
        }
        write(folder.join("task-spec.md"), plan);
    }
}

#[test]
fn fifty_at_once_get_fifty_folders() {
    let project = Project::new();
    let children: Vec<_> = (0..50)
        .map(|n| {
            let mut command = project.command(&["new", &format!("Title {}", n % 7)]);
            command.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut paths: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        })
        .collect();
    paths.sort();
    let numbers: Vec<String> = paths.iter().map(|path| path[".ai/tasks/".len()..][..3].to_owned()).collect();
    let expected: Vec<String> = (1..=50).map(|n| format!("{n:03}")).collect();
    assert_eq!(numbers, expected, "{paths:?}");
    assert!(paths.iter().all(|path| project.top.join(path).is_dir()));
    assert_eq!(project.ask(0, "tasks", &["list"])["tasks"].as_array().unwrap().len(), 50);
}

#[test]
fn a_task_is_found_by_number_and_name_and_told_what_it_waits_for() {
    let project = Project::new();
    assert_eq!(project.text(&["new", "Say hello!"]), ".ai/tasks/001-say-hello\n");
    std::fs::create_dir(project.folder("002-by-hand")).unwrap();
    let made = project.ask(0, "task", &["new", "Third"]);
    assert_eq!((&made["id"], &made["status"]), (&"003-third".into(), &"unplanned".into()));
    assert!(made["next_action"].as_str().unwrap().contains("task-spec.md"));
    assert_eq!(project.refused(64, &["new", "…"])["reason_code"], "invalid_argument");
    let error = project.refused(1, &["show", "say-helo"]);
    assert_eq!(error["reason_code"], "task_not_found");
    assert!(project.refused(1, &["show", "by"])["next_action"].as_str().unwrap().contains("002-by-hand"));
    write(
        project.folder("001-say-hello/task-spec.md"),
        spec("Hello", "src/a.txt", &["implementer"], "tests/a.sh", "true"),
    );
    for word in ["1", "001", "001-say-hello", ".ai/tasks/001-say-hello/"] {
        let shown = project.ask(0, "task", &["show", word]);
        assert_eq!((&shown["title"], &shown["status"]), (&"Hello".into(), &"planned".into()));
        assert_eq!(shown["test_commands"], serde_json::json!(["true"]));
    }
    let list = project.ask(0, "tasks", &["list"]);
    assert_eq!(list["next"], "001-say-hello");
    assert_eq!(list["tasks"][1]["waits_for"], "a specification");
    assert!(project.text(&["next"]).starts_with("next: 001-say-hello\n  002-by-hand waits for"));
    assert!(project.text(&["list"]).contains("001-say-hello"));
    // A link is no task.
    std::os::unix::fs::symlink("/", project.folder("009-link")).unwrap();
    assert_eq!(project.ask(0, "tasks", &["list"])["tasks"].as_array().unwrap().len(), 3);
}

#[test]
fn two_folders_of_one_number_are_told_apart_by_name_and_not_run() {
    let project = Project::new();
    let good = spec("Hello", "src/a.txt", &["implementer"], "tests/a.sh", "true");
    for id in ["001-a", "001-b"] {
        std::fs::create_dir_all(project.folder(id)).unwrap();
        write(project.folder(id).join("task-spec.md"), &good);
    }
    let error = project.refused(1, &["show", "1"]);
    assert_eq!(error["reason_code"], "task_not_found");
    assert!(error["next_action"].as_str().unwrap().starts_with("name one: 001-a, 001-b"), "{error}");
    assert_eq!(project.ask(0, "task", &["show", "001-b"])["next_action"], "dx-runner task check 001-b");
    let found = project.ask(1, "task-check", &["check"]);
    let rows: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| &f["rule"]).collect();
    assert_eq!(rows, ["number_twice", "number_twice"]);
    assert_eq!(project.refused(1, &["run", "001-b"])["reason_code"], "task_invalid");
    // Any title has a name.
    assert_eq!(project.text(&["new", "äöü ß"]), ".ai/tasks/002-aeoeue-ss\n");
    assert_eq!(project.text(&["new", "日本"]), ".ai/tasks/003-task\n");
}

#[test]
fn a_checkout_in_which_no_job_may_work_is_told_before_anything_is_written() {
    let mut project = Project::new();
    project.text(&["new", "a"]);
    let good = spec("Hello", "src/a.txt", &["implementer"], "tests/a.sh", "true");
    write(project.folder("001-a/task-spec.md"), good);
    project.env.set("DX_RUNNER_EXTRA_ALLOWED_PREFIXES", "");
    let error = project.refused(22, &["run", "1"]);
    let next = error["next_action"].as_str().unwrap();
    assert!(next.starts_with("dx-runner task run 001-a --worktree auto"), "{error}");
    assert!(!project.folder("001-a/state.json").exists());
}

#[test]
fn check_names_file_and_line_and_the_projects_facts() {
    let project = Project::new();
    project.text(&["new", "a"]);
    let file = project.folder("001-a/task-spec.md");
    let good = spec("Hello", "src/a.txt", &["implementer"], "tests/a.sh", "true");
    write(&file, &good);
    assert_eq!(project.ask(0, "task-check", &["check"])["findings"], serde_json::json!([]));
    write(&file, good.replace("- implementer", "- builder"));
    write(project.top.join(".ai/context.md"), CONTEXT.replace("## Workflow", "## Other"));
    let found = project.ask(1, "task-check", &["check", "1"]);
    let rows: Vec<_> =
        found["findings"].as_array().unwrap().iter().map(|f| f["rule"].as_str().unwrap()).collect();
    assert_eq!(rows, ["context", "execution", "execution"], "{found:#}");
    let text = project.text(&["check"]);
    assert!(
        text.contains("001-a/task-spec.md:8: `builder` is no agent that runs [execution]\n  fix: "),
        "{text}"
    );
    assert!(text.ends_with("1 tasks: 3 findings\n"), "{text}");
}

/// Neither with an empty environment, nor as an orphan in a session of its own.
fn no_job_approves(project: &Project) {
    let approve = format!(
        "env -i HOME=/nowhere DX_RUNNER_STATE_DIR={} {} task approve 1 --json",
        project.env.path("another").display(),
        env!("CARGO_BIN_EXE_dx-runner")
    );
    let script = format!(
        "{approve} 2> first; echo $? > codes\n(setsid sh -c '{approve} 2> second; echo $? >> codes; echo > done' &)\n\
         until test -e done; do sleep 0.05; done"
    );
    let top = project.top.display().to_string();
    let start =
        ["start", "--beads", "outer", "--provider", "exec", "--worktree", &top, "--", "sh", "-c", &script];
    project.env.run(&start).assert_code(0);
    project.env.run(&["wait", "--beads", "outer"]).assert_code(0);
    assert_eq!(read(project.top.join("codes")), "22\n22\n");
    for name in ["first", "second"] {
        let told = crate::document(&project.env, "error", &read(project.top.join(name)));
        assert_eq!(told["error"]["reason_code"], "nested_start_denied", "{told}");
    }
}

#[test]
fn a_plan_is_drawn_and_approved_as_it_is() {
    let project = Project::new();
    project.text(&["new", "plan"]);
    project.plan("001-plan");
    assert_eq!(project.ask(0, "task-check", &["check", "1"])["findings"], serde_json::json!([]));
    let shown = project.ask(0, "task", &["show", "1"]);
    assert_eq!(shown["layers"], serde_json::json!([[1], [2, 3], [4]]));
    assert_eq!((&shown["approved"], shown["units"].as_array().unwrap().len()), (&false.into(), 4));
    assert_eq!(project.ask(0, "tasks", &["next"])["tasks"][0]["waits_for"], "approval");
    let text = project.text(&["graph", "1"]);
    assert!(text.contains("layer 2\n  02-left  planned  needs 1  parallel with 3\n  03-right"), "{text}");
    let mermaid = project.text(&["graph", "1", "--format", "mermaid"]);
    assert!(
        mermaid.starts_with("graph TD\n  u1[\"01-base\"]") && mermaid.contains("  u3 --> u4"),
        "{mermaid}"
    );
    let dot = project.text(&["graph", "1", "--format", "dot"]);
    assert!(dot.contains("  u1 -> u2;") && dot.ends_with("}\n"), "{dot}");
    // No job says yes.
    let mut inside = project.command(&["approve", "1", "--json"]);
    inside.env("DX_RUNNER_MARK", "01890000-0000-7000-8000-000000000000");
    let error = crate::world::error_of(&project.env, &project.env.run_command(inside).assert_code(22));
    assert_eq!(error["reason_code"], "nested_start_denied");
    no_job_approves(&project);
    assert_eq!(project.ask(0, "task", &["show", "1"])["approved"], false);
    assert_eq!(project.ask(0, "task", &["approve", "1"])["approved"], true);
    assert_eq!(project.ask(0, "tasks", &["next"])["next"], "001-plan");
    document(&project.env, "task-state", &read(project.folder("001-plan/state.json")));
    // It is for the plan as it was.
    let unit = project.folder("001-plan/03-right/task-spec.md");
    let text = read(&unit);
    write(&unit, text.replace("it says hello", "it says more"));
    assert_eq!(project.ask(0, "task", &["show", "1"])["approved"], false);
    // Units that wait for one another are drawn, and said to.
    let plan = project.folder("001-plan/task-spec.md");
    let good = read(&plan);
    write(&plan, good.replace("| the base | None |", "| the base | 4 |"));
    let text_of_cycle = project.text(&["graph", "1"]);
    assert!(
        text_of_cycle
            .contains("wait for one another; dx-runner task check 001-plan\n  01-base  planned  needs 4"),
        "{text_of_cycle}"
    );
    write(&plan, good);
    write(&unit, text.replace("- implementer", "- nobody"));
    let error = project.refused(1, &["approve", "1"]);
    assert_eq!(error["reason_code"], "task_invalid");
    assert!(error["message"].as_str().unwrap().contains("03-right/task-spec.md:8"), "{error}");
}

#[test]
fn a_state_that_is_newer_or_damaged_is_refused() {
    let project = Project::new();
    project.text(&["new", "a"]);
    write(
        project.folder("001-a/task-spec.md"),
        spec("Hello", "src/a.txt", &["implementer"], "tests/a.sh", "true"),
    );
    for (text, reason) in [("{", "record_unreadable"), ("{}", "record_unreadable")] {
        write(project.folder("001-a/state.json"), text);
        assert_eq!(project.refused(33, &["show", "1"])["reason_code"], reason);
    }
    // The others are told of all the same.
    project.text(&["new", "b"]);
    write(
        project.folder("002-b/task-spec.md"),
        spec("Hello", "src/b.txt", &["implementer"], "tests/b.sh", "true"),
    );
    let list = project.ask(0, "tasks", &["next"]);
    assert_eq!(
        (&list["tasks"][0]["status"], &list["tasks"][0]["waits_for"], &list["next"]),
        (&"blocked".into(), &"a state.json that can be read".into(), &"002-b".into())
    );
    let found = project.ask(1, "task-check", &["check"]);
    assert_eq!(
        (
            &found["findings"][0]["file"],
            &found["findings"][0]["rule"],
            found["findings"].as_array().unwrap().len()
        ),
        (&"001-a/state.json".into(), &"state".into(), 1)
    );
}

#[test]
fn outside_of_a_repository_the_current_folder_is_the_project() {
    let world = World::new();
    let here = world.env.path("plain");
    std::fs::create_dir(&here).unwrap();
    let mut command = world.env.product();
    command.current_dir(&here).args(["task", "new", "x"]);
    assert_eq!(world.env.run_command(command).stdout, ".ai/tasks/001-x\n");
    assert!(Path::new(&here).join(".ai/tasks/001-x").is_dir());
}
