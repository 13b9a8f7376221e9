//! The progressive benchmark: its phases with the real OpenCode on the built-in prompts, which a scripted model answers.
//!
//! Needs `DX_TEST_AGENTS_DIR`; without it the tests say that they were left out.

use crate::bench::answers::{canonical_config, right_answers};
use crate::real_agent::{PATIENCE, RealAgent};
use crate::world::{error_of, read, spawn};
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::{Output, wait_until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// The seeds' command line, under our program's name.
const SEED: &str = r#"dx-runner bench progressive \
  --required-baseline "$(git rev-parse HEAD)" \
  --reported-commit "$(git rev-parse HEAD)" \
  --branch "$(git rev-parse --abbrev-ref HEAD)""#;

struct World {
    agent: RealAgent,
}

fn world() -> Option<World> {
    let other = Scenario::text("no answer is scripted");
    let model = ScriptedModel::start_by_prompt(right_answers(Duration::ZERO), other).unwrap();
    let mut agent = RealAgent::with_model("opencode", "opencode", model)?;
    let config = canonical_config(&agent.model.base_url());
    agent.env.set("OPENCODE_CONFIG_CONTENT", config.to_string());
    agent.env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
    agent.env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    Some(World { agent })
}

impl World {
    fn bench(&self, vars: &[(&str, &str)], args: &[&str]) -> Output {
        let mut command = self.agent.env.product();
        command.args(["bench", "progressive", "--json"]).args(args).current_dir(&self.agent.repository);
        command.envs(vars.iter().copied());
        self.agent.env.run_command(command)
    }

    fn json(&self, vars: &[(&str, &str)], args: &[&str], code: i32) -> Value {
        let output = self.bench(vars, args).assert_code(code);
        crate::document(&self.agent.env, "bench-progressive", &output.stdout)
    }

    /// A line in a bash in the repository.
    fn line(&self, line: &str) -> Output {
        let mut bash = self.agent.env.command("bash");
        bash.args(["-c", line]).current_dir(&self.agent.repository);
        self.agent.env.run_command(bash)
    }

    fn out(&self) -> PathBuf {
        self.agent.env.state_dir().join("bench")
    }

    /// Refused, because the phase before has not passed.
    fn is_blocked(&self, phase: &str) {
        let calls = self.agent.model.calls().len();
        let refused = self.bench(&[], &["--phase", phase]).assert_code(1);
        assert_eq!(error_of(&self.agent.env, &refused)["reason_code"], "bench_phase_blocked");
        assert_eq!(self.agent.model.calls().len(), calls, "nothing was asked");
    }
}

#[test]
fn phases_run_in_order_six_jobs_at_once_and_a_killed_one_goes_on() {
    let Some(world) = world() else { return };
    let _turn = crate::opencode::turn();
    let model = &world.agent.model;
    world.is_blocked("phase2_6stream");
    let none = [("OPENCODE_CANONICAL_MODEL", "zhipuai-coding-plan/none")];
    let failed = world.json(&none, &["--phase", "phase1_smoke"], 21);
    assert_eq!(failed["phases"][0]["state"], "failed", "{failed:#}");
    // What refused it is in its folder, of which people are told.
    let line =
        "OPENCODE_CANONICAL_MODEL=zhipuai-coding-plan/none dx-runner bench progressive --phase phase1_smoke";
    let told = world.line(line).assert_code(21).stdout;
    let page = told.lines().find(|line| line.ends_with("/summary.md")).unwrap();
    assert!(read(page).contains("No job was run"), "{told}");
    world.is_blocked("phase2_6stream");
    // Forced, it runs although the first one has failed. The warm-up is answered; then nobody is before all six ask.
    model.hold_after(1);
    let mut command = world.agent.env.product();
    command.args(["bench", "progressive", "--phase", "phase2_6stream", "--force"]);
    command.current_dir(&world.agent.repository).stdout(Stdio::null()).stderr(Stdio::null());
    let mut killed = spawn(command);
    let asked = || model.calls().into_iter().filter(|call| call.api.is_some() && !call.side_call);
    wait_until(PATIENCE, "six jobs ask their model at once", || {
        asked().filter(|call| !call.done).count() == 6
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    model.let_go();
    // What was forced and has not ended opens nothing.
    world.is_blocked("phase2_6stream");
    let smoke = world.json(&[], &["--phase", "phase1_smoke"], 0);
    assert_eq!((&smoke["phases"][0]["succeeded"], &smoke["passed"]), (&json!(1), &json!(true)), "{smoke:#}");
    let told = world.line(SEED).assert_code(0).stdout;
    assert!(told.contains("phase2_6stream: passed, 6 of 6 jobs succeeded (minimum 100 %)"), "{told}");
    assert!(told.contains("phase3_real_coding_gate: passed, 8 of 8 jobs succeeded (minimum 90 %)"), "{told}");
    assert!(!told.contains("phase1_smoke"), "it passed before: {told}");
    let first = asked().filter(|call| call.tool_results == 0).count();
    assert_eq!(first, (1 + 1) + (1 + 6) + (2 + 8), "nothing was asked twice");
    let state = crate::document(
        &world.agent.env,
        "bench-progress",
        &read(world.out().join("progressive/state.json")),
    );
    let phases = state["phases"].as_array().unwrap();
    let head = world.line("git rev-parse HEAD").stdout;
    assert!(phases.len() == 3 && phases.iter().all(|phase| phase["state"] == "passed"), "{state:#}");
    assert!(phases.iter().all(|phase| phase["baseline"] == head.trim()), "{state:#}");
    let lane = world.out().join(phases[2]["run_id"].as_str().unwrap()).join("report.html");
    assert!(read(lane).contains("opencode_server_http"));
    let live = world.agent.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    let live: Value = serde_json::from_str(&live).unwrap();
    assert_eq!(live["jobs"], json!([]), "the server of the lane has ended");
    // What passed on another commit counts for nothing.
    world.line("git commit --quiet --allow-empty -m more").assert_code(0);
    world.is_blocked("phase3_real_coding_gate");
}

/// Variables, options, exit code, fault and reason.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], i32, &'a str, &'a str);

#[test]
fn what_keeps_a_phase_from_passing_is_named() {
    let Some(world) = world() else { return };
    let _turn = crate::opencode::turn();
    let nowhere = "0".repeat(40);
    let cases: [Case<'_>; 3] = [
        (
            &[("OPENCODE_CANONICAL_MODEL", "zhipuai-coding-plan/none")],
            &[],
            21,
            "model_unavailable",
            "opencode_model_unavailable",
        ),
        (
            &[("DX_RUNNER_MAX_PARALLEL_OPENCODE", "2")],
            &["--phase", "phase2_6stream", "--force"],
            21,
            "preflight_failed",
            "provider_concurrency_cap_exceeded",
        ),
        (&[], &["--required-baseline", &nowhere], 1, "baseline_gate_failed", "required_commit_missing"),
    ];
    for (vars, args, code, fault, reason) in cases {
        let document = world.json(vars, args, code);
        let phase = &document["phases"][0];
        assert_eq!(
            (&phase["faults"], &phase["reason_code"]),
            (&json!([fault]), &json!(reason)),
            "{document:#}"
        );
        assert_eq!((&document["reason_code"], &document["phases"][1]), (&json!(reason), &Value::Null));
    }
    assert!(world.agent.model.calls().is_empty(), "nothing was run");
    // Six places, of which another job has one.
    world.agent.model.hold_after(0);
    let prompt = world.agent.env.path("wait.txt");
    std::fs::write(&prompt, "Wait").unwrap();
    let prompt = prompt.to_str().unwrap();
    let start = ["start", "--provider", "opencode", "--beads", "bd-other", "--prompt-file", prompt];
    let start = [&start[..], &["--worktree", world.agent.repository.to_str().unwrap()]].concat();
    world.agent.env.run(&start).assert_code(0);
    let document = world.json(&[], &["--phase", "phase2_6stream", "--force"], 21);
    world.agent.env.run(&["stop", "--beads", "bd-other"]).assert_code(0);
    let details = document["phases"][0]["details"].as_str().unwrap();
    assert!(details.ends_with("opencode has a cap of 6, of which 1 are taken"), "{document:#}");
}
