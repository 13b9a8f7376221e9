//! What the short tests show in one lane, in every lane: failures that are made to happen and whose they are told to be, checks
//! in the sandbox, first words, secrets; and the servers of a run that is killed, or which die themselves.
//!
//! For: the soak suite `bench`. Must never: assert a time.

use crate::bench::agents;
use crate::is_wanted;
use crate::lanes::{Lanes, TOKEN};
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(20);
/// A shape of a token that nobody told us of.
const SHAPE: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
/// The model of the case `slow` says nothing before.
const PAUSE_MS: u64 = 3_000;

/// Workflows, and what their own reason codes begin with.
const LANES: [(&str, &str); 7] = [
    ("opencode_run_headless", "opencode"),
    ("opencode_server_http", "opencode"),
    ("opencode_server_attach_run", "opencode"),
    ("claude_code_headless", "claude_code"),
    ("cc_glm_headless", "cc_glm"),
    ("gemini_run_headless", "gemini"),
    ("codex_headless", "codex"),
];

/// A job that is told to end in one way.
struct Case {
    id: &'static str,
    scenario: String,
    check: Option<&'static str>,
    /// Whose failure it is, and its reason; nobody's for a success. `P` is the lane's own beginning.
    expected: Option<(&'static str, &'static str)>,
    /// Where a lane's program tells it otherwise.
    but: &'static [(&'static str, &'static str)],
    /// The model says something.
    speaks: bool,
}

fn cases() -> Vec<Case> {
    let case = |id, scenario: &str, expected: (&'static str, &'static str)| Case {
        id,
        scenario: scenario.to_owned(),
        check: None,
        expected: Some(expected).filter(|expected| !expected.0.is_empty()),
        but: &[],
        speaks: false,
    };
    let good = ("", "");
    let checked = |check, case: Case| Case { check: Some(check), speaks: true, ..case };
    let but = |but, case: Case| Case { but, ..case };
    let leak = format!("bash:echo {TOKEN} $(echo {SHAPE}),text:The keys are {TOKEN} and {SHAPE} DONE");
    vec![
        Case { speaks: true, ..case("slow", "sleep:3,text:DONE", good) },
        checked("grep -q 42 answer.txt", case("right", "write:answer.txt:42,text:DONE", good)),
        checked(
            "grep -q 42 answer.txt",
            case("says", "text:answer.txt holds 42 DONE", ("model", "check_failed")),
        ),
        checked(
            "sh answer.sh",
            case("outside", "write:answer.sh:echo x > ~/outside,text:DONE", ("model", "check_failed")),
        ),
        Case { speaks: true, ..case("drift", "write:other.txt:x,text:DONE", ("model", "scope_violation")) },
        Case { speaks: true, ..case("leak", &leak, good) },
        case("key", "401", ("env", "P_auth_blocked")),
        case("cut", "drop", ("env", "provider_unreachable")),
        but(
            &[("opencode", "opencode_server_error")],
            case("broken", "500", ("model", "provider_reported_error")),
        ),
        but(
            &[("gemini", "gemini_capacity_exhausted")],
            case("used-up", "429:quota", ("model", "P_rate_limited")),
        ),
        but(
            &[("gemini", "provider_model_unavailable")],
            case("unknown", "404", ("model", "P_model_unavailable")),
        ),
        but(&[("gemini", "provider_reported_error")], case("silent", "empty", ("model", "empty_answer"))),
        case("stopped", "hang", ("harness", "manual_stop")),
    ]
}

impl Case {
    /// Whose it is and why, in a lane whose own codes begin so.
    fn expected(&self, prefix: &str) -> Option<(String, String)> {
        let (whose, reason) = self.expected?;
        let other = self.but.iter().find(|(lane, _)| *lane == prefix).map(|(_, reason)| *reason);
        Some((whose.to_owned(), other.unwrap_or(reason).replace("P_", &format!("{prefix}_"))))
    }
}

fn lanes() -> Lanes {
    let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
    Lanes::new(&agents(), model)
}

fn prompts(lanes: &Lanes, cases: &[Case]) -> String {
    let rows = cases.iter().map(|case| {
        json!({
            "id": case.id, "category": if case.id == "slow" { "latency" } else { "coding" }, "title": case.id,
            "prompt": format!("Do it, then say ALL-IS-WELL [[mock:{}]]", case.scenario),
            // The second is in every prompt: it counts in an answer only.
            "success_hints": ["DONE", "ALL-IS-WELL"], "check": case.check,
            "scope": if case.id == "drift" { vec!["answer.txt"] } else { Vec::new() },
        })
    });
    let file = lanes.env.path("prompts.json");
    std::fs::write(&file, json!({"version": 1, "prompts": rows.collect::<Vec<_>>()}).to_string()).unwrap();
    file.display().to_string()
}

#[test]
fn failures_in_every_lane() {
    if !is_wanted() {
        return;
    }
    let (lanes, cases) = (lanes(), cases());
    let prompts = prompts(&lanes, &cases);
    let names = LANES.map(|(name, _)| name).join(",");
    let more = ["--prompts", &prompts, "--max-retries", "0", "--parallel", "5", "--timeout", "900"];
    let document = std::thread::scope(|scope| {
        scope.spawn(|| stop_who_hangs(&lanes, "everywhere"));
        lanes.run("everywhere", &names, &more)
    });
    assert_eq!(document["exit_code"], 31, "{document:#}");
    let records = lanes.records("everywhere");
    let mut wrong = Vec::new();
    for (lane, prefix) in LANES {
        for case in &cases {
            let is = |r: &&Value| r["prompt"] == case.id && r["workflow"] == lane && r["round"] == 1;
            let record = records.iter().find(is).unwrap();
            let failure = &record["failure"];
            let text = |name: &str| failure[name].as_str().unwrap_or_default().to_owned();
            let told = (!failure.is_null()).then(|| (text("category"), text("reason_code")));
            println!("{lane} {}: {told:?}", case.id);
            let says = record["answer_chars"] != 0 || record["first_output_ms"].is_u64();
            // Of an answer that is cut off, some agents show the half that came.
            let speaks =
                record["hints_found"] == u64::from(case.speaks) && (case.speaks == says || case.id == "cut");
            let waited = case.id != "slow" || record["first_output_ms"].as_u64() >= Some(PAUSE_MS);
            if told != case.expected(prefix) || !speaks || !waited {
                wrong.push(format!("{lane}, {}, expected {:?}: {record:#}", case.id, case.expected(prefix)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!lanes.env.home().join("outside").exists(), "a check wrote outside");
    for entry in std::fs::read_dir(lanes.out.join("everywhere")).unwrap().flatten() {
        let files = if entry.path().is_dir() {
            std::fs::read_dir(entry.path()).unwrap().flatten().collect()
        } else {
            vec![entry]
        };
        for file in files {
            let text = std::fs::read_to_string(file.path()).unwrap();
            assert!(!text.contains(TOKEN) && !text.contains(SHAPE), "{}", file.path().display());
        }
    }
}

/// Stops the job of the case `stopped` in each lane as soon as it is there.
fn stop_who_hangs(lanes: &Lanes, run: &str) {
    let plan = lanes.out.join(run).join("manifest.json");
    wait_until(PATIENCE, "the run begins", || plan.exists());
    let plan: Value = serde_json::from_slice(&std::fs::read(plan).unwrap()).unwrap();
    let jobs = plan["jobs"].as_array().unwrap().iter().enumerate();
    let mut left: Vec<String> = jobs
        .filter(|(_, job)| job["prompt"] == "stopped")
        .map(|(number, _)| format!("bench-{run}-{number}-0"))
        .collect();
    wait_until(PATIENCE, "all that hang are stopped", || {
        // One that is not there yet cannot be stopped.
        let hangs = lanes.model.calls().iter().any(|call| call.step == "hang");
        if hangs {
            left.retain(|id| lanes.env.run(&["stop", "--beads", id]).code != 0);
        }
        left.is_empty()
    });
}

#[test]
fn servers_of_a_run_that_is_killed_and_one_that_dies() {
    if !is_wanted() {
        return;
    }
    let lanes = lanes();
    let all = cases();
    let few: Vec<Case> = all.into_iter().filter(|case| matches!(case.id, "slow" | "right")).collect();
    let prompts = prompts(&lanes, &few);
    let names = "opencode_server_http,opencode_server_attach_run";
    let args =
        ["run", "--workflows", names, "--model", "mock/m1", "--prompts", &prompts, "--max-retries", "0"];
    let asked = || lanes.model.calls().into_iter().filter(|call| call.api.is_some() && !call.side_call);
    let spawn = |id: &str| {
        let mut command = lanes.env.product();
        command.arg("bench").args(args).args(["--run-id", id, "--out"]).arg(&lanes.out);
        command.current_dir(&lanes.repository).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let live = || {
        let told = lanes.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
        serde_json::from_str::<Value>(&told).unwrap()["jobs"].as_array().unwrap().len()
    };
    lanes.model.hold_after(2);
    let mut killed = spawn("cut");
    wait_until(PATIENCE, "both lanes ask beyond their warm-up", || {
        asked().filter(|call| !call.done).count() == 4
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    lanes.model.let_go();
    assert!(live() >= 2, "the servers go on");
    let ended = lanes.run("cut", names, &["--prompts", &prompts, "--max-retries", "0"]);
    assert_eq!(ended["reason_code"], "bench_ok", "{ended:#}");
    assert_eq!(lanes.records("cut").len(), 2 + 4);
    assert_eq!(asked().filter(|call| call.tool_results == 0).count(), 2 + 4, "nothing was asked twice");
    assert_eq!(live(), 0, "the servers have ended with the run");

    lanes.model.hold_after(2);
    let before = asked().count();
    let mut run = spawn("dies");
    wait_until(PATIENCE, "both lanes ask beyond their warm-up", || asked().count() == before + 2 + 4);
    for lane in ["server", "attach"] {
        lanes.env.run(&["stop", "--beads", &format!("bench-dies-{lane}")]).assert_code(0);
    }
    lanes.model.let_go();
    run.wait().unwrap();
    let records = lanes.records("dies");
    for record in &records {
        println!("{}: {}", record["job"], record["failure"]);
    }
    for record in records.iter().filter(|record| record["round"] == 1) {
        assert_eq!(record["failure"]["category"], "env", "{record:#}");
    }
    assert_eq!(live(), 0);
}
