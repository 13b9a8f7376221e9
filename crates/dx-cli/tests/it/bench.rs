//! Benchmarks of real lanes against a scripted model, so that the true answer is known.
//!
//! Needs `DX_TEST_AGENTS_DIR` with `claude` and `opencode`; without it the tests say that they were left out.

pub(crate) mod answers;
mod failures;
mod gates;
#[allow(dead_code, reason = "the soak tests use more of it")]
mod lanes;

use crate::real_agent::{PATIENCE, RealAgent};
use crate::world::{error_of, read, spawn, write};
use dx_scripted_model::opencode_config;
use dx_testkit::{Output, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;

/// As the credentials: in no file of a run.
const TOKEN: &str = "sk-ant-bench-7736";

struct World {
    agent: RealAgent,
    out: PathBuf,
}

fn world() -> Option<World> {
    let mut agent = RealAgent::new("claude-code", "claude")?;
    let opencode = agent.program.parent()?.join("opencode");
    let opencode =
        if opencode.exists() { opencode } else { crate::real_agent::agents_dir()?.join("opencode") };
    agent.env.link_program("opencode", opencode.canonicalize().unwrap());
    agent.env.set("ANTHROPIC_BASE_URL", agent.model.root_url());
    agent.env.set("ANTHROPIC_AUTH_TOKEN", TOKEN);
    agent.env.set("CLAUDE_CODE_MAX_RETRIES", "1");
    agent.env.set("OPENCODE_CONFIG_CONTENT", opencode_config(&agent.model.base_url()).to_string());
    agent.env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    let config = agent.env.path("xdg/config/dx-runner/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    write(&config, "allow_model_override = true\n");
    let out = agent.env.path("runs");
    Some(World { agent, out })
}

impl World {
    fn prompts(&self, prompts: &[(&str, &str, Option<&str>)]) -> String {
        let rows = prompts.iter().map(|(id, scenario, check)| {
            json!({
                "id": id,
                "category": if *id == "words" { "latency" } else { "coding" },
                "title": id,
                "prompt": format!("Do it [[mock:{scenario}]]"),
                "success_hints": ["DONE"],
                "check": check,
            })
        });
        let file = self.agent.env.path("prompts.json");
        write(&file, json!({"version": 1, "prompts": rows.collect::<Vec<_>>()}).to_string());
        file.display().to_string()
    }

    fn bench(&self, args: &[&str]) -> Output {
        let out = self.out.display().to_string();
        let mut command = self.agent.env.product();
        command.arg("bench").args(args).args(["--out", &out]).current_dir(&self.agent.repository);
        self.agent.env.run_command(command)
    }

    fn json(&self, schema: &str, code: i32, args: &[&str]) -> Value {
        let output = self.bench(&[args, &["--json"]].concat()).assert_code(code);
        crate::document(&self.agent.env, schema, &output.stdout)
    }

    fn records(&self, run: &str) -> Vec<Value> {
        let text = read(self.out.join(run).join("records.ndjson"));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn scratch_is_gone(&self) {
        assert!(!self.agent.env.path("xdg/data/dx-runner/worktrees/.scratch").exists());
    }
}

const LANES: &str = "claude_code_headless,opencode_run_headless";

#[test]
fn two_lanes_are_measured_and_told_of() {
    let Some(world) = world() else { return };
    let _turn = crate::opencode::turn();
    let prompts = world.prompts(&[
        ("words", "sleep:0.7,text:DONE", None),
        ("right", "write:answer.txt:42,text:DONE", Some("test \"$(cat answer.txt)\" = 42")),
        ("wrong", "write:answer.txt:41,text:DONE", Some("test \"$(cat answer.txt)\" = 42")),
        ("refused", "401", None),
    ]);
    let args =
        ["run", "--workflows", LANES, "--model", "opencode_run_headless=mock/m1", "--prompts", &prompts];
    let args = [&args[..], &["--run-id", "one", "--parallel", "3", "--max-retries", "0"]].concat();
    let plan = world.json("bench-manifest", 0, &[&args[..], &["--dry-run"]].concat());
    assert_eq!(plan, world.json("bench-manifest", 0, &[&args[..], &["--dry-run"]].concat()));
    assert!(
        !world.out.exists() && world.agent.model.calls().is_empty(),
        "a dry run writes and starts nothing"
    );
    let document = world.json("bench", 31, &args);
    assert_eq!((&document["passed"], &document["reason_code"]), (&json!(false), &json!("bench_partial")));
    let records = world.records("one");
    assert_eq!(records.len(), 2 + 8);
    let of = |prompt: &str, workflow: &str| {
        let is = |r: &&Value| r["prompt"] == prompt && r["workflow"] == workflow && r["round"] == 1;
        records.iter().find(is).unwrap()
    };
    for lane in LANES.split(',') {
        let words = of("words", lane);
        assert_eq!((&words["success"], &words["hints_found"]), (&json!(true), &json!(1)), "{words:#}");
        let ms = |name: &str| words[name].as_u64().unwrap();
        // The model's own pause is in the first output and in the end, and in nothing before.
        assert!(ms("startup_ms") < ms("first_output_ms") && ms("first_output_ms") >= 700, "{words:#}");
        assert!(ms("completion_ms") >= ms("first_output_ms"), "{words:#}");
        assert!(words["memory_peak_kib"].as_u64().unwrap() > 10_000, "{words:#}");
        assert!(words["usage"]["output_tokens"].as_u64().unwrap() > 0, "{words:#}");
        assert_eq!(of("right", lane)["check_passed"], true);
        let wrong = of("wrong", lane);
        assert_eq!((&wrong["check_passed"], &wrong["success"]), (&json!(false), &json!(false)));
        assert_eq!(wrong["failure"]["category"], "model", "{wrong:#}");
        let refused = of("refused", lane);
        assert_eq!(refused["failure"]["category"], "env", "{refused:#}");
        let reason = refused["failure"]["reason_code"].as_str().unwrap();
        assert!(reason.ends_with("_auth_blocked"), "{reason}");
        let row = document["summary"]["workflows"].as_array().unwrap().iter().find(|row| row["name"] == lane);
        assert_eq!(
            (&row.unwrap()["success"]["count"], &row.unwrap()["success"]["of"]),
            (&json!(2), &json!(4))
        );
    }
    let folder = world.out.join("one");
    for lane in LANES.split(',') {
        assert_eq!(read(folder.join(format!("raw/r1-words-{lane}.answer.txt"))).trim(), "DONE");
    }
    let rendered =
        ["results.json", "summary.json", "summary.md", "report.html"].map(|name| folder.join(name));
    let before = rendered.each_ref().map(read);
    assert!(before[3].contains("<svg") && !before[3].contains("<script"));
    world.json("bench-summary", 0, &["report", "one"]);
    assert_eq!(before, rendered.each_ref().map(read), "byte for byte");
    for file in crate::world::files_below(&folder) {
        assert!(!read(&file).contains(TOKEN), "{}", file.display());
    }
    let same = world.json("bench-compare", 0, &["compare", "one", "one"]);
    assert_eq!(same["workflows"].as_array().unwrap().len(), 2);
    // A run that was asked something else in the place of one prompt.
    let other = world.out.join("other");
    std::fs::create_dir(&other).unwrap();
    for name in ["manifest.json", "records.ndjson"] {
        write(other.join(name), read(folder.join(name)).replace("\"right\"", "\"left\""));
    }
    let compared = world.json("bench-compare", 0, &["compare", "one", "other"]);
    for workflow in compared["workflows"].as_array().unwrap() {
        for run in ["success_a", "success_b"] {
            assert_eq!(
                (&workflow[run]["count"], &workflow[run]["of"]),
                (&json!(1), &json!(3)),
                "{workflow:#}"
            );
        }
    }
    // The same without two jobs of one lane.
    let lacks = |line: &&str| !(line.contains("\"r1-w") && line.contains("opencode_run_headless"));
    let kept: Vec<String> =
        read(folder.join("records.ndjson")).lines().filter(lacks).map(str::to_owned).collect();
    write(
        other.join("manifest.json"),
        read(folder.join("manifest.json")).replace("\"run_id\": \"one\"", "\"run_id\": \"cut\""),
    );
    write(other.join("records.ndjson"), kept.join("\n") + "\n");
    let cut = world.json("bench-compare", 0, &["compare", "one", "other"]);
    assert_eq!((&cut["missing_a"], &cut["missing_b"]), (&json!(0), &json!(2)), "{cut:#}");
    assert_eq!(cut["workflows"][1]["missing_b"], 2, "{cut:#}");
    let told = world.bench(&["compare", "one", "other"]).assert_code(0).stdout;
    for words in [
        "cut is incomplete: 2 planned jobs have no record",
        "opencode_run_headless: success 2/4 and 1/2: no verdict, cut lacks 2 jobs",
        "claude_code_headless: success 2/4 and 2/4: no change beyond noise",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    write(other.join("manifest.json"), "{}");
    let damaged = world.bench(&["compare", "one", "other"]);
    assert!(damaged.stderr.contains("record_unreadable"), "{}", damaged.stderr);
    world.scratch_is_gone();
}

#[test]
fn the_lanes_of_a_server_are_measured_too() {
    let Some(world) = world() else { return };
    let _turn = crate::opencode::turn();
    let prompts = world.prompts(&[
        ("words", "sleep:0.7,text:DONE", None),
        ("right", "write:answer.txt:42,text:DONE", Some("test \"$(cat answer.txt)\" = 42")),
    ]);
    let lanes = "opencode_server_http,opencode_server_attach_run";
    let args =
        ["run", "--workflows", lanes, "--model", "mock/m1", "--prompts", &prompts, "--run-id", "lanes"];
    let document = world.json("bench", 0, &args);
    assert_eq!(document["reason_code"], "bench_ok", "{document:#}");
    for record in world.records("lanes").iter().filter(|record| record["prompt"] == "words") {
        assert!(record["first_output_ms"].as_u64().unwrap() >= 700, "{record:#}");
        assert!(!record["session"].is_null(), "{record:#}");
        let answer = format!("lanes/raw/{}.answer.txt", record["job"].as_str().unwrap());
        assert_eq!(read(world.out.join(answer)).trim(), "DONE", "{record:#}");
    }
    let live = world.agent.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    let live: Value = serde_json::from_str(&live).unwrap();
    assert_eq!(live["jobs"], json!([]), "each lane had a server of its own, and it has ended");
    world.scratch_is_gone();
}

#[test]
fn a_killed_run_goes_on_and_repeats_nothing() {
    let Some(world) = world() else { return };
    let prompts =
        world.prompts(&[("words", "sleep:0.3,text:DONE", None), ("more", "sleep:0.3,text:DONE", None)]);
    let args = ["run", "--workflows", "claude_code_headless", "--prompts", &prompts, "--run-id", "cut"];
    let args = [&args[..], &["--parallel", "2", "--rounds", "2"]].concat();
    let mut command = world.agent.env.product();
    command.arg("bench").args(&args).arg("--out").arg(&world.out).current_dir(&world.agent.repository);
    let mut child = spawn({
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    });
    let file = world.out.join("cut/records.ndjson");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default().lines().count();
    wait_until(PATIENCE, "two jobs have ended", || lines() >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    let before = world.records("cut");
    let document = world.json("bench", 0, &args);
    assert_eq!(document["reason_code"], "bench_ok", "{document:#}");
    let after = world.records("cut");
    assert_eq!(after[..before.len()], before[..], "what was done stays");
    assert_eq!(after.len(), 1 + 4);
    // Each was asked once: those that ran when their benchmark was killed were taken up.
    let asked = world.agent.model.calls().iter().filter(|call| call.prompt.contains("sleep:0.3")).count();
    assert_eq!(asked, 5);
    for record in &after {
        let ms = |name: &str| record[name].as_u64().unwrap();
        // Unix time tells of those that were taken up, and is not quite as even as the clock of the others.
        assert!(ms("ended_ms") + 50 >= ms("began_ms") + ms("completion_ms"), "{record:#}");
    }
    let refused = |args: &[&str]| error_of(&world.agent.env, &world.bench(args).assert_code(32));
    let other = refused(&[&args[..args.len() - 1], &["3", "--json"]].concat());
    assert_eq!(other["reason_code"], "bench_changed");
    assert!(other["message"].as_str().unwrap().ends_with(": --rounds: 2 → 3"), "{other}");
    let head = || world.agent.env.git(&world.agent.repository, &["rev-parse", "HEAD"]).trim().to_owned();
    let begun = head();
    world.agent.env.git(&world.agent.repository, &["commit", "--quiet", "--allow-empty", "-m", "moved"]);
    let moved = refused(&[&args[..], &["--json"]].concat());
    assert!(
        moved["message"].as_str().unwrap().ends_with(&format!(": commit: {begun} → {}", head())),
        "{moved}"
    );
    assert_eq!(moved["next_action"], format!("check out {begun}; or another --run-id"), "{moved}");
    world.scratch_is_gone();
}

#[test]
fn launches_that_fail_are_collected_like_all_others() {
    let Some(world) = world() else { return };
    let prompts = world.prompts(&[("words", "text:DONE", None), ("more", "text:DONE", None)]);
    let args = ["run", "--workflows", "claude_code_headless", "--prompts", &prompts, "--run-id", "gone"];
    // While the warm-up waits for its model, its program is taken away.
    world.agent.model.hold_after(0);
    let mut command = world.agent.env.product();
    command.arg("bench").args(args).args(["--max-retries", "0", "--out"]).arg(&world.out);
    command.current_dir(&world.agent.repository).stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = spawn(command);
    wait_until(PATIENCE, "the warm-up asks", || !world.agent.model.calls().is_empty());
    std::fs::remove_file(world.agent.env.bin_dir().join("claude")).unwrap();
    world.agent.model.let_go();
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let folder = world.out.join("gone");
    let report = crate::document(&world.agent.env, "bench", &read(folder.join("governance_report.json")));
    assert_eq!(report["reason_code"], "bench_failed", "{report:#}");
    let summary = crate::document(&world.agent.env, "bench-summary", &read(folder.join("summary.json")));
    assert_eq!((&summary["jobs"], &summary["missing"]), (&json!(2), &json!(0)), "{summary:#}");
    let failure = json!({
        "workflow": "claude_code_headless",
        "category": "env",
        "reason_code": "claude_code_binary_missing",
        "count": 2,
    });
    assert_eq!(summary["failures"], json!([failure]));
    assert_eq!(
        world.records("gone").iter().map(|r| r["success"] == true).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert!(read(folder.join("summary.md")).contains("claude_code_binary_missing"));
    assert!(read(folder.join("report.html")).contains("<svg"));
    world.scratch_is_gone();
}

#[test]
fn a_change_outside_of_a_prompts_scope_is_a_failure() {
    let Some(world) = world() else { return };
    let file = world.agent.env.path("prompts.json");
    let prompt = json!({
        "id": "drift", "category": "coding", "title": "t", "scope": ["answer.txt"],
        "prompt": "Do it [[mock:write:answer.txt:42,write:other.txt:x,text:DONE]]",
    });
    write(&file, json!({"version": 1, "prompts": [prompt]}).to_string());
    let file = file.display().to_string();
    let args = ["run", "--workflows", "claude_code_headless", "--prompts", &file, "--max-retries", "0"];
    let document = world.json("bench", 1, &args);
    let failure = &document["summary"]["failures"][0];
    assert_eq!((&failure["category"], &failure["reason_code"]), (&json!("model"), &json!("scope_violation")));
}
