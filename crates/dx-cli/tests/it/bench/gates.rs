//! Gates of a benchmark: what runs when one fails, and what its pages say of that.
//!
//! Needs `DX_TEST_AGENTS_DIR` with `claude`. Must never: assert a time.

use super::failures::SHAPE;
use super::world;
use crate::world::{error_of, read};
use serde_json::{Value, json};

#[test]
fn nothing_runs_when_a_gate_fails_and_integrity_is_looked_at_in_the_end() {
    let Some(world) = world() else { return };
    let prompts = world.prompts(&[("words", "text:DONE", None)]);
    let args = ["run", "--workflows", "claude_code_headless", "--prompts", &prompts, "--run-id"];
    let args_of_integrity = [&args[..], &["integrity"]].concat();
    let git = |args: &[&str]| world.agent.env.git(&world.agent.repository, args).trim().to_owned();
    git(&["checkout", "--quiet", "-b", "other"]);
    git(&["commit", "--quiet", "--allow-empty", "-m", "elsewhere"]);
    let (elsewhere, head) = (git(&["rev-parse", "other"]), git(&["rev-parse", "main"]));
    git(&["checkout", "--quiet", "main"]);
    let args = |id: &'static str, more: [&'static str; 1], sha: &str| {
        [&args[..], &[id], &more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .chain([sha.to_owned()])
            .collect::<Vec<_>>()
    };
    let run = |code: i32, args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        world.json("bench", code, &args)
    };
    let refused = run(1, args("base", ["--required-baseline"], &elsewhere));
    assert_eq!((&refused["passed"], &refused["summary"]), (&json!(false), &Value::Null), "{refused:#}");
    assert!(world.agent.model.calls().is_empty(), "nothing ran");
    let pages = |id: &str| ["summary.md", "report.html"].map(|name| read(world.out.join(id).join(name)));
    // What stands above the first figure.
    let tops = |id: &str| {
        let [text, page] = pages(id);
        let top = |whole: &str, end: &str| whole.split(end).next().unwrap().to_owned();
        [top(&text, "\n## "), top(&page, "<h2>")]
    };
    for top in tops("base") {
        assert!(top.contains("HEAD does not contain the required commit."), "{top}");
        assert!(
            top.contains(&format!("does not contain {elsewhere}")) && top.contains("baseline_not_met"),
            "{top}"
        );
        assert!(top.contains("No job was run"), "{top}");
    }
    let before = pages("base");
    let report = world.json("bench-summary", 0, &["report", "base"]);
    assert_eq!(report["failed_gates"][0]["name"], "baseline", "{report:#}");
    assert_eq!(pages("base"), before);
    let told = world.bench(&["report", "base"]).assert_code(0).stdout;
    assert!(told.contains("Gate baseline failed") && told.contains("report.html"), "{told}");
    let refused = world.bench(&["compare", "base", "base", "--json"]).assert_code(1);
    assert_eq!(error_of(&world.agent.env, &refused)["reason_code"], "bench_not_run", "{refused}");
    let ended = run(1, args("integrity", ["--reported-commit"], &elsewhere));
    assert_eq!(ended["reason_code"], "reported_not_ancestor", "{ended:#}");
    assert_eq!(
        ended["summary"]["workflows"][0]["success"]["count"], 1,
        "it was run and told of all the same"
    );
    for top in tops("integrity") {
        assert!(top.contains("The reported commit is not on the branch."), "{top}");
        assert!(top.contains(&format!("does not contain {elsewhere}")), "{top}");
    }
    let before = pages("integrity");
    let report = world.json("bench-summary", 0, &["report", "integrity"]);
    assert_eq!(report["failed_gates"], ended["summary"]["failed_gates"]);
    assert_eq!(pages("integrity"), before);
    // A gate that failed is not passed by leaving it away.
    let left = [&args_of_integrity[..], &["--json"]].concat();
    let left = error_of(&world.agent.env, &world.bench(&left).assert_code(32));
    assert_eq!(left["reason_code"], "bench_changed", "{left}");
    assert!(left["message"].as_str().unwrap().contains("--reported-commit: "), "{left}");
    assert_eq!(pages("integrity"), before);
    // Nothing of the refusal is left when the run is made after all.
    let well = run(0, args("base", ["--reported-commit"], &head));
    assert_eq!(well["gates"][1]["passed"], true, "{well:#}");
    assert!(well["summary"]["failed_gates"].is_null(), "{well:#}");
    for top in tops("base") {
        assert!(!top.contains("Gate ") && !top.contains("No job was run"), "{top}");
    }
    // Two runs of one job each show nothing, and what one of them failed is told.
    let compared = world.json("bench-compare", 0, &["compare", "integrity", "base"]);
    assert_eq!(compared["failed_gates_a"][0]["name"], "integrity", "{compared:#}");
    let told = world.bench(&["compare", "integrity", "base"]).assert_code(0).stdout;
    assert!(told.contains("integrity: Gate integrity failed"), "{told}");
    assert!(told.contains("success 1/1 and 1/1: so few jobs can show nothing"), "{told}");
    // A server of the user's is named, without what his address keeps secret.
    let mut named = world.agent.env.product();
    named.args(["bench", "run", "--workflows", "opencode_server_http", "--dry-run", "--json"]);
    named.env("OPENCODE_URL", "http://me:hunter2@127.0.0.1:9/").current_dir(&world.agent.repository);
    let named = world.agent.env.run_command(named).assert_code(0).stdout;
    assert!(!named.contains("hunter2"), "{named}");
    assert_eq!(crate::document(&world.agent.env, "bench-manifest", &named)["opencode_url"], "127.0.0.1:9");
    let unknown =
        world.bench(&["run", "--workflows", "codex_headles", "--run-id", "x", "--json"]).assert_code(64);
    assert!(error_of(&world.agent.env, &unknown)["message"].as_str().unwrap().contains("codex_headless"));
    let run = ["run", "--workflows", "claude_code_headless", "--json"];
    let mistakes = [
        ("--model", "claude_code_headles=x", "invalid_argument"),
        ("--prompts", "/proc/none.json", "bench_prompts_invalid"),
        ("--out", "/proc/none", "invalid_argument"),
        // They would be recorded.
        ("--required-baseline", SHAPE, "invalid_argument"),
        ("--reported-commit", SHAPE, "invalid_argument"),
        ("--run-id", SHAPE, "invalid_argument"),
    ];
    for (option, value, reason) in mistakes {
        let mut command = world.agent.env.product();
        command.arg("bench").args(run).args([option, value]).current_dir(&world.agent.repository);
        let refused = world.agent.env.run_command(command).assert_code(64);
        assert_eq!(error_of(&world.agent.env, &refused)["reason_code"], reason, "{refused}");
    }
    // A program that is not there is told before anything runs.
    let missing = world.json("bench", 21, &["run", "--workflows", "codex_headless", "--run-id", "none"]);
    assert_eq!(missing["reason_code"], "codex_binary_missing", "{missing:#}");
}
