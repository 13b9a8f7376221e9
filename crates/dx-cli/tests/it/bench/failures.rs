//! Failures that are made to happen, whose they are told to be, and secrets in what agents say.
//!
//! On Codex, which is the quickest; `soak` has all lanes. Must never: assert a time.

use super::lanes::{Lanes, TOKEN};
use crate::real_agent::{PATIENCE, agents_dir};
use crate::world::files_below;
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::wait_until;
use serde_json::{Value, json};

/// A shape of a token that nobody told us of.
pub(super) const SHAPE: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";

/// Id, what the model does, the check, whose failure it is, and for which reason; nobody's for a success.
const CASES: [(&str, &str, Option<&str>, &str, &str); 11] = [
    ("good", "text:DONE", None, "", ""),
    ("key", "401", None, "env", "codex_auth_blocked"),
    ("cut", "drop", None, "env", "provider_unreachable"),
    ("broken", "500", None, "model", "provider_reported_error"),
    ("plan", "429:plan", None, "model", "codex_rate_limited"),
    ("unknown", "404", None, "model", "codex_model_unavailable"),
    ("silent", "empty", None, "model", "empty_answer"),
    // It says what the check wants to see, and does it not.
    ("wrong", "text:DONE\\, answer.txt holds 42", Some("grep -q 42 answer.txt"), "model", "check_failed"),
    // Its program writes where nobody may: the check that runs it is in the sandbox.
    (
        "outside",
        "write:answer.sh:echo x > ~/outside,text:DONE",
        Some("sh answer.sh"),
        "model",
        "check_failed",
    ),
    // The shell of the check does not find the answer (127).
    ("absent", "text:DONE", Some("./answer.sh"), "model", "check_failed"),
    ("stopped", "hang", None, "harness", "manual_stop"),
];

fn prompts(lanes: &Lanes, rows: impl Iterator<Item = Value>) -> String {
    let file = lanes.env.path("prompts.json");
    std::fs::write(&file, json!({"version": 1, "prompts": rows.collect::<Vec<_>>()}).to_string()).unwrap();
    file.display().to_string()
}

fn lanes() -> Option<Lanes> {
    let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
    Some(Lanes::new(&agents_dir()?, model))
}

#[test]
fn failures_are_told_by_whose_they_are() {
    let Some(lanes) = lanes() else { return };
    let rows = CASES.iter().map(|(id, scenario, check, ..)| {
        json!({
            "id": id, "category": if *id == "good" { "latency" } else { "coding" }, "title": id,
            "prompt": format!("Do it, then say ALL-IS-WELL [[mock:{scenario}]]"),
            // The second is in every prompt: it counts in an answer only.
            "success_hints": ["DONE", "ALL-IS-WELL"], "check": check,
        })
    });
    let prompts = prompts(&lanes, rows);
    // The warm-up is the first of the plan; of one lane, the others follow as they stand.
    let hanging = format!("bench-mixed-{}-0", CASES.len());
    let document = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_until(PATIENCE, "the job hangs", || {
                let hangs = |call: &dx_scripted_model::CallRecord| call.step == "hang";
                lanes.model.calls().iter().any(hangs)
            });
            lanes.env.run(&["stop", "--beads", &hanging]).assert_code(0);
        });
        let more = ["--prompts", &prompts, "--max-retries", "0", "--parallel", "5"];
        lanes.run("mixed", "codex_headless", &more)
    });
    assert_eq!(document["exit_code"], 31, "{document:#}");
    let records = lanes.records("mixed");
    for (id, _, _, whose, reason) in CASES {
        let is = |record: &&Value| record["prompt"] == id && record["round"] == 1;
        let record = records.iter().find(is).unwrap();
        assert_eq!(record["success"], whose.is_empty(), "{record:#}");
        if !whose.is_empty() {
            let told = (&record["failure"]["category"], &record["failure"]["reason_code"]);
            assert_eq!(told, (&json!(whose), &json!(reason)), "{record:#}");
        }
        let says = u64::from(matches!(id, "good" | "wrong" | "outside" | "absent"));
        assert_eq!(record["hints_found"], says, "{record:#}");
        if says == 0 {
            // Neither its own prompt nor an error is an answer or the first word of one.
            assert_eq!(
                (&record["answer_chars"], &record["first_output_ms"]),
                (&json!(0), &Value::Null),
                "{record:#}"
            );
        }
    }
    assert!(!lanes.env.home().join("outside").exists());
    let failures = document["summary"]["failures"].as_array().unwrap();
    let count = |whose: &str| failures.iter().filter(|row| row["category"] == whose).count();
    assert_eq!(["env", "model", "harness"].map(count), [2, 5, 1], "{failures:#?}");
}

#[test]
fn secrets_in_what_agents_say_are_in_no_file_of_a_run() {
    let Some(lanes) = lanes() else { return };
    let steps = format!(
        "bash:echo \"$OPENAI_API_KEY $(echo {SHAPE}) $(printf %s {TOKEN} | base64)\",text:The keys are {TOKEN} and {SHAPE} DONE"
    );
    let row = json!({
        "id": "leak", "category": "coding", "title": "leak", "prompt": format!("Do it [[mock:{steps}]]"),
        "success_hints": ["DONE"], "check": format!("printf '%s%s %s' ghp_ {} \"$OPENAI_API_KEY\"; false", &SHAPE[4..]),
    });
    let prompts = prompts(&lanes, std::iter::once(row));
    let document = lanes.run("leak", "codex_headless", &["--prompts", &prompts, "--max-retries", "0"]);
    assert_eq!(document["summary"]["failures"][0]["reason_code"], "check_failed", "{document:#}");
    let folder = lanes.out.join("leak");
    let answer = std::fs::read_to_string(folder.join("raw/r1-leak-codex_headless.answer.txt")).unwrap();
    assert!(answer.contains("The keys are *") && answer.contains("DONE"), "{answer}");
    let encoded = lanes.env.run_command({
        let mut command = lanes.env.command("sh");
        command.args(["-c", &format!("printf %s {TOKEN} | base64")]);
        command
    });
    for file in files_below(&folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        for secret in [TOKEN, SHAPE, encoded.stdout.trim()] {
            assert!(!text.contains(secret), "{secret} is in {}", file.display());
        }
    }
}

#[test]
fn the_first_output_of_a_lane_that_streams_is_its_first_word() {
    let Some(lanes) = lanes() else { return };
    // Twenty words, a fifth of a second apart, on one line.
    let row = json!({
        "id": "words", "category": "latency", "title": "words", "prompt": "Talk [[mock:slow:0.2]]",
    });
    let prompts = prompts(&lanes, std::iter::once(row));
    lanes.run("words", "gemini_run_headless", &["--prompts", &prompts, "--max-retries", "0"]);
    let records = lanes.records("words");
    assert_eq!(records.len(), 2);
    for record in records {
        let ms = |name: &str| record[name].as_u64().unwrap();
        // The model itself takes more than this from its first word to its last.
        assert!(ms("completion_ms") - ms("first_output_ms") >= 2_000, "{record:#}");
    }
}
