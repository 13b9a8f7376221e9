//! The guide page "From request to validated change", followed word for word by an agent in its shell: a real OpenCode whose model
//! has it run the page's commands, and more of it for each agent of the task.
//!
//! Needs `DX_TEST_AGENTS_DIR`.

use super::live::world;
use crate::docs::{Block, blocks, complaints_about, read, script_of};
use crate::world::write;
use dx_scripted_model::{Scenario, ScriptedModel, Step, opencode_config};
use serde_json::json;

const PAGE: &str = "docs/guide/tasks.md";

fn is_run(block: &Block) -> bool {
    block.info.starts_with("sh")
}

#[test]
fn the_page_from_request_to_validated_change_holds_in_an_agents_shell() {
    let Some(agents) = crate::real_agent::agents_dir() else { return };
    let _turn = crate::opencode::turn();
    let mut env = world(&agents);
    env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    let top = env.git_repo("app", &[("README.md", "# App\n")]);
    let all = blocks(&read(PAGE));
    let script = env.path("page.sh");
    write(&script, script_of(&env, &all, is_run));
    // Reports name the specification that they answer: the page's own.
    let body: String = all.iter().filter(|block| is_run(block)).map(|block| block.body.as_str()).collect();
    let (_, rest) = body.split_once("<<'SPEC'\n").unwrap();
    let hash = dx_workflow::hash(rest.split_once("SPEC\n").unwrap().0.as_bytes());
    let report = |kind: &str| format!(".ai/tasks/001-say-hello/{kind}-report.md");
    let implemented = format!(
        "# R\nSpec: sha256:{hash}\n\n## Outcome\ndone\n## Files Changed\ngreet.txt\n## Decisions\nNone\n## Verification\nNone\n"
    );
    let validated = format!(
        "# R\nSpec: sha256:{hash}\n\n## Result\nPASS\n## Checks Performed\nall\n## Issues Found\nNone\n"
    );
    let turn = |agent: &str, scenario: Scenario| (format!("Task 001-say-hello, step {agent}"), scenario);
    let run =
        json!({ "command": format!("bash {}", script.display()), "description": "x", "timeout": 220_000 });
    let turns = vec![
        turn("test-writer", Scenario::write("tests/greet.sh", "grep -q hello greet.txt\n").then_text("done")),
        turn(
            "implementer",
            Scenario::write("greet.txt", "hello\n")
                .then_write(report("implementation"), implemented)
                .then_text("done"),
        ),
        turn("validator", Scenario::write(report("validation"), validated).then_text("done")),
        (
            "FOLLOW-THE-PAGE".to_owned(),
            Scenario::step(Step::Tool { name: "bash".to_owned(), arguments: run.to_string() })
                .then_text("FOLLOWED"),
        ),
    ];
    let model = ScriptedModel::start_by_prompt(turns, Scenario::text("nothing is planned")).unwrap();
    env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&model.base_url()).to_string());
    env.set("OPENCODE_CANONICAL_MODEL", "mock/m1");
    env.set("DX_RUNNER_GRACE_MS", "1000");
    let mut opencode = env.command(agents.join("opencode"));
    opencode.current_dir(&top).args(["run", "--format", "json", "--dir"]).arg(&top).arg("FOLLOW-THE-PAGE");
    let output = env.run_command(opencode).assert_code(0);
    assert!(output.stdout.contains("FOLLOWED") && output.stdout.contains("\"exit\":0"), "{output}");
    let complaints = complaints_about(&env, PAGE, &all, is_run);
    assert!(complaints.is_empty(), "{}\n{output}", complaints.join("\n\n"));
}
