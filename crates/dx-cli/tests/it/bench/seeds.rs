//! The seeds' command lines of the benchmark as they stand, under our program's name, and two runs compared whose difference is
//! known.
//!
//! For: the soak suite `bench`. Must never: assert a time.

use crate::answers::{canonical_config, right_answers};
use crate::bench::agents;
use crate::is_wanted;
use crate::lanes::Lanes;
use dx_scripted_model::{Scenario, ScriptedModel};
use serde_json::Value;
use std::time::Duration;

const LINES: [(&str, &[&str]); 2] = [
    (
        r#"dx-runner bench progressive \
  --required-baseline "$(git rev-parse HEAD)" \
  --reported-commit "$(git rev-parse HEAD)" \
  --branch "$(git rev-parse --abbrev-ref HEAD)""#,
        &[
            "phase1_smoke: passed, 1 of 1",
            "phase2_6stream: passed, 6 of 6",
            "phase3_real_coding_gate: passed, 8 of 8",
        ],
    ),
    (
        r#"dx-runner bench run \
  --workflows opencode_run_headless,opencode_server_http,opencode_server_attach_run \
  --model zhipuai-coding-plan/glm-5 \
  --required-baseline "$(git rev-parse HEAD)" \
  --reported-commit "$(git rev-parse HEAD)" \
  --branch "$(git rev-parse --abbrev-ref HEAD)" \
  --parallel 6"#,
        &["opencode_run_headless: 5/5", "opencode_server_http: 5/5", "opencode_server_attach_run: 5/5"],
    ),
];

#[test]
fn lines_of_the_seeds_run_as_they_stand() {
    if !is_wanted() {
        return;
    }
    let other = Scenario::text("no answer is scripted");
    let model = ScriptedModel::start_by_prompt(right_answers(Duration::from_millis(200)), other).unwrap();
    let mut lanes = Lanes::new(&agents(), model);
    let config = canonical_config(&lanes.model.base_url()).to_string();
    lanes.env.set("OPENCODE_CONFIG_CONTENT", config);
    lanes.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    for (line, told) in LINES {
        let mut bash = lanes.env.command("bash");
        bash.args(["-c", line]).current_dir(&lanes.repository);
        let output = lanes.env.run_command(bash).assert_code(0);
        for words in told {
            assert!(output.stdout.contains(words), "{words}: {output}");
        }
    }
}

#[test]
fn runs_are_told_apart_only_when_they_differ() {
    if !is_wanted() {
        return;
    }
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let of = |seconds: &str| model.root_url_for(&format!("sleep:{seconds},text:DONE").parse().unwrap());
    let (quick, slow) = (of("0.5"), of("3"));
    let lanes = Lanes::new(&agents(), model);
    let prompts = lanes.env.path("one.json");
    let prompt =
        r#"{"version":1,"prompts":[{"id":"one","category":"latency","title":"t","prompt":"Say it"}]}"#;
    std::fs::write(&prompts, prompt).unwrap();
    let prompts = prompts.display().to_string();
    let out = lanes.out.display().to_string();
    let run = |id: &str, url: &str| {
        let mut command = lanes.env.product();
        command.args([
            "bench",
            "run",
            "--workflows",
            "claude_code_headless",
            "--rounds",
            "8",
            "--parallel",
            "1",
        ]);
        command.args(["--prompts", &prompts, "--run-id", id, "--out", &out]);
        command.env("ANTHROPIC_BASE_URL", url).current_dir(&lanes.repository);
        lanes.env.run_command(command).assert_code(0);
    };
    let compare = |a: &str, b: &str| -> Value {
        let output = lanes.bench(&["compare", a, b, "--json"]).assert_code(0);
        let document: Value = serde_json::from_str(&output.stdout).unwrap();
        document["workflows"][0].clone()
    };
    run("slow", &slow);
    // Side by side, so that the machine's load falls on both alike. One comparison in twenty of equals tells a difference, so a
    // second pair may decide.
    let equal = ["1", "2"].iter().any(|n| {
        let (a, b) = (format!("a{n}"), format!("b{n}"));
        std::thread::scope(|scope| {
            for id in [&a, &b] {
                scope.spawn(|| run(id, &quick));
            }
        });
        compare(&a, &b)["completion"]["differs"] == false
    });
    assert!(equal, "two equal pairs are told apart");
    let slower = compare("a1", "slow");
    assert_eq!(slower["completion"]["differs"], true, "{slower:#}");
    assert!(slower["completion"]["low"].as_f64().unwrap() > 1.0, "{slower:#}");
    assert_eq!(slower["success_differs"], false, "{slower:#}");
    let quicker = compare("slow", "a1");
    assert!(quicker["completion"]["high"].as_f64().unwrap() < 1.0, "{quicker:#}");
}
