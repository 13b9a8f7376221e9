//! The pack at work inside a real OpenCode: commands that carry a task out through the runner's tools, and that ask a second model,
//! with a server and without.
//!
//! Needs `DX_TEST_AGENTS_DIR`, as the other tests of real agents do.

use super::live::world;
use super::roles::tools_of_ours;
use crate::tasks::spec;
use crate::world::write;
use dx_scripted_model::{Scenario, ScriptedModel, Step, opencode_config};
use dx_testkit::{Output, TestEnv};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const CONTEXT: &str = "# Facts\n## Test Setup\nsh\n## Conventions\nplain\n## Workflow\nagy: disabled\n";

/// Commands whose agent may ask a second model, and how their prompts begin. The short tests give the first, `cargo xtask soak
/// workflow::inside` all.
const REVIEWS: [(&str, &str); 3] = [
    ("code-review", "Review the present changes"),
    ("final-review", "Look at the whole change once more"),
    ("system-review", "Compare plan and reality"),
];

struct Session {
    env: TestEnv,
    top: PathBuf,
    model: ScriptedModel,
}

fn tool(name: &str, arguments: &Value) -> Step {
    Step::Tool { name: format!("dx-runner_{name}"), arguments: arguments.to_string() }
}

impl Session {
    /// A project with one task, the installed pack, and a model that plays these turns by words of its prompts.
    fn new(agents: &Path, turns: impl FnOnce(&str) -> Vec<(String, Scenario)>) -> Self {
        let mut env = world(agents);
        let spec = spec("Greet", "greet.txt", &["implementer"], "tests/greet.sh", "sh tests/greet.sh");
        let files = [("tests/greet.sh", "grep -q hello greet.txt\n"), (".ai/context.md", CONTEXT)];
        let top = env.git_repo("app", &files);
        std::fs::create_dir_all(top.join(".ai/tasks/001-greet")).unwrap();
        write(top.join(".ai/tasks/001-greet/task-spec.md"), &spec);
        let mut show = env.product();
        show.current_dir(&top).args(["task", "show", "1", "--json"]);
        let shown: Value = serde_json::from_str(&env.run_command(show).assert_code(0).stdout).unwrap();
        let turns = turns(shown["spec_sha256"].as_str().unwrap());
        let model = ScriptedModel::start_by_prompt(turns, Scenario::text("nothing is planned")).unwrap();
        let mut config = opencode_config(&model.base_url());
        config["mcp"] = tools_of_ours();
        env.set("OPENCODE_CONFIG_CONTENT", config.to_string());
        env.set("OPENCODE_CANONICAL_MODEL", "mock/m1");
        env.set("DX_RUNNER_GRACE_MS", "1000");
        env.run(&["workflow", "install"]).assert_code(0);
        Self { env, top, model }
    }

    /// A command of the pack, as its user gives it.
    fn give(&self, agents: &Path, command: &str, arguments: &str) -> Output {
        let mut opencode = self.env.command(agents.join("opencode"));
        opencode.current_dir(&self.top).args(["run", "--format", "json", "--dir"]).arg(&self.top);
        opencode.args(["--command", command, arguments]);
        self.env.run_command(opencode).assert_code(0)
    }

    /// How many reviews ended, and how often the second model was asked.
    fn counted(&self) -> (usize, usize) {
        let calls = self.model.calls();
        let reviews = calls.iter().filter(|call| call.step == "text:REVIEWED").count();
        (reviews, calls.iter().filter(|call| call.prompt.contains("SECOND-OPINION")).count())
    }
}

#[test]
fn the_command_execute_carries_a_task_out_through_the_runner() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let report = |kind: &str| format!(".ai/tasks/001-greet/{kind}-report.md");
    let session = Session::new(&agents, |hash| {
        let implemented = format!(
            "# R\nSpec: sha256:{hash}\n\n## Outcome\ndone\n## Files Changed\ngreet.txt\n## Decisions\nNone\n## Verification\nNone\n"
        );
        let validated = format!(
            "# R\nSpec: sha256:{hash}\n\n## Result\nPASS\n## Checks Performed\nall\n## Issues Found\nNone\n"
        );
        let implements = Scenario::write("greet.txt", "hello\n")
            .then_write(report("implementation"), implemented)
            .then_text("done");
        let validates = Scenario::write(report("validation"), validated).then_text("done");
        let leads = Scenario::step(Step::Bash("dx-runner task check 1".to_owned()))
            .then(tool("task_run", &json!({ "task": "1" })))
            .then_times(5, tool("call_wait", &json!({ "handle": "call-1", "wait_seconds": 50 })))
            .then_text("LEADER IS DONE");
        vec![
            ("Task 001-greet, step implementer".to_owned(), implements),
            ("Task 001-greet, step validator".to_owned(), validates),
            ("Carry out the task 1".to_owned(), leads),
        ]
    });
    session.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    let output = session.give(&agents, "execute", "1");
    for words in ["1 tasks: nothing is wrong", "call-1", "LEADER IS DONE"] {
        assert!(output.stdout.contains(words), "{words}: {output}");
    }
    // The handle came at once, and the end by waiting for it.
    assert!(
        output.stdout.contains("dx-runner/mcp-call/1") && output.stdout.contains("dx-runner/task/1"),
        "{output}"
    );
    let mut show = session.env.product();
    show.current_dir(&session.top).args(["task", "show", "1", "--json"]);
    let shown: Value = serde_json::from_str(&session.env.run_command(show).assert_code(0).stdout).unwrap();
    assert_eq!(shown["status"], "done", "{shown:#}\n{output}");
    assert_eq!(crate::world::read(session.top.join("greet.txt")), "hello\n");
}

#[test]
fn a_review_asks_a_second_model_where_a_server_is_and_goes_on_without_one() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let all = std::env::var_os("DX_SOAK").is_some_and(|value| value == "1");
    let reviews = &REVIEWS[..if all { REVIEWS.len() } else { 1 }];
    let session = Session::new(&agents, |_| {
        let question = json!({ "prompt": "SECOND-OPINION", "provider": "mock", "model": "m1" });
        let review = Scenario::step(tool("dispatch", &question)).then_text("REVIEWED");
        reviews.iter().map(|(_, words)| ((*words).to_owned(), review.clone())).collect()
    });
    let give_all = || reviews.iter().for_each(|(name, _)| drop(session.give(&agents, name, "of greet.txt")));
    give_all();
    assert_eq!(session.counted(), (reviews.len(), 0), "{:#?}", session.model.calls());
    session.env.run(&["server", "start"]).assert_code(0);
    give_all();
    session.env.run(&["server", "stop"]).assert_code(0);
    assert_eq!(session.counted(), (2 * reviews.len(), reviews.len()), "{:#?}", session.model.calls());
}
