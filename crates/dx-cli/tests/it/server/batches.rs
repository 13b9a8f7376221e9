//! Batches through the real server: six members of every kind, a judge, and giving up.

use super::questions::{SOON, assert_quiet};
use super::real::World;
use crate::document;
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Output, Stdio};

/// Model providers whose model does always the same.
pub(super) const MEMBERS: [(&str, &str); 8] = [
    ("good", "tool:StructuredOutput:{\"n\":7},text:done"),
    ("also-good", "tool:StructuredOutput:{\"n\":8},text:done"),
    ("hanging", "hang"),
    ("locked", "401"),
    ("silent", "empty"),
    ("stubborn", "text:never"),
    (
        "biased",
        "tool:StructuredOutput:{\"winner\":\"A\",\"scores\":{\"A\":9\\,\"B\":1},\"reasons\":\"A is first\"}",
    ),
    ("plain", "text:Yes  it is."),
];

fn schema(world: &World) -> String {
    let file = world.env.path("batch-schema.json");
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    std::fs::write(&file, schema.to_string()).unwrap();
    file.display().to_string()
}

fn members(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("opencode:{name}/m1")).collect();
    names.join(",")
}

fn batch(world: &World, code: i32, names: &[&str], more: &[&str]) -> Value {
    let members = members(names);
    let head = ["batch", "--members", &members, "--prompt", "ALL-OF-YOU: how many?", "--json"];
    let output = world.env.run(&[&head[..], more].concat()).assert_code(code);
    document(&world.env, "batch", &output.stdout)
}

pub(super) fn a_batch_of_six(world: &World) {
    let before = world.sessions();
    let schema = schema(world);
    let six = ["good", "also-good", "hanging", "locked", "silent", "stubborn"];
    let more = ["--json-schema", schema.as_str(), "--timeout", "15"];
    let told = batch(world, 31, &six, &more);
    let statuses: Vec<(&str, &Value)> = told["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| (member["status"].as_str().unwrap(), &member["reason_code"]))
        .collect();
    let null = Value::Null;
    let (auth, timeout) = (json!("auth_missing"), json!("timeout"));
    assert_eq!(statuses[0], ("ok", &null), "{told:#}");
    assert_eq!(statuses[1], ("ok", &null), "{told:#}");
    assert_eq!(statuses[2], ("timeout", &timeout), "{told:#}");
    assert_eq!(statuses[3], ("error", &auth), "{told:#}");
    assert_eq!(statuses[4], ("error", &json!("empty_response")), "{told:#}");
    assert_eq!(statuses[5], ("error", &json!("schema_mismatch")), "{told:#}");
    assert_eq!((&told["success"], &told["errors"], &told["timeouts"]), (&json!(2), &json!(3), &json!(1)));
    assert_eq!(told["reason_code"], "batch_partial");
    // All had the same deadline: one after the other, nobody after the one that hangs would have been heard.
    assert_eq!(told["members"][2]["duration_ms"], told["slowest_ms"], "{told:#}");
    let all =
        told["members"].as_array().unwrap().iter().map(|member| member["duration_ms"].as_u64().unwrap());
    assert!(told["wall_ms"].as_u64().unwrap() < all.sum::<u64>(), "one after the other: {told:#}");
    assert_eq!(told["agreement"][0]["field"], "n");
    assert_eq!(told["agreement"][0]["unanimous"], false);
    assert_eq!(told["missing"].as_array().unwrap().len(), 4);
    assert_eq!(world.sessions(), before);
    assert_quiet(world, "ALL-OF-YOU");
    // It is stored, and shown as it was.
    let id = told["id"].as_str().unwrap();
    assert_eq!(world.json("batch", 0, &["batch", "show", id]), told);
    let list = world.json("batches", 0, &["batch", "list"]);
    assert!(list["batches"].as_array().unwrap().contains(&json!(id)), "{list}");
    let error = world.env.run(&["batch", "show", "batch-none"]).assert_code(1);
    assert!(error.stderr.contains("reason: batch_not_found"), "{error}");
    // A quorum that is reached, one that is not, and nobody at all.
    let some = ["good", "also-good", "locked"];
    let told = batch(world, 0, &some, &["--json-schema", &schema, "--quorum", "2"]);
    assert_eq!(told["reason_code"], "batch_ok");
    let told = batch(world, 31, &["good", "locked", "silent"], &["--json-schema", &schema, "--quorum", "2"]);
    assert_eq!(told["reason_code"], "quorum_missed");
    assert!(told["missing"][0].as_str().unwrap().contains("locked/m1: auth_missing"), "{told:#}");
    assert_eq!(batch(world, 1, &["locked", "silent"], &[])["reason_code"], "batch_failed");
    let refused = world.env.run(&["batch", "--members", &members(&["good", "good"]), "--prompt", "x"]);
    assert_eq!(refused.code, 64, "{refused}");
}

/// The model answers nobody before it was asked by all.
pub(super) fn six_members_are_asked_at_once(world: &World) {
    let schema = schema(world);
    let six = members(&["good", "also-good", "locked", "silent", "stubborn", "plain"]);
    let args = ["batch", "--members", &six, "--prompt", "ALL-AT-ONCE: how many?", "--json-schema", &schema];
    let waiting = || {
        let calls = world.model.calls().into_iter();
        let waiting = calls.filter(|call| call.prompt.contains("ALL-AT-ONCE") && !call.done);
        waiting.map(|call| call.path).collect::<BTreeSet<_>>().len()
    };
    world.model.hold_after(0);
    let told = std::thread::scope(|scope| {
        let batch = scope.spawn(|| world.json("batch", 31, &args));
        wait_until(SOON, "all six wait for the model", || waiting() == 6);
        world.model.let_go();
        batch.join().unwrap()
    });
    assert_eq!((&told["success"], &told["errors"]), (&json!(2), &json!(4)), "{told:#}");
}

pub(super) fn a_judge(world: &World) {
    // For people, and told apart by what they say.
    let args = [
        "batch",
        "--members",
        &members(&["plain", "mock"]),
        "--prompt",
        "x [[mock:text:yes it\\nis.]]",
        "--compare",
        "--judge",
        "opencode:biased/m1",
    ];
    let printed = world.env.run(&args).assert_code(0).stdout;
    assert!(printed.starts_with("=== batch-dispatch to 2 models ===\n--- "), "{printed}");
    let summary = printed.find("\nSuccess: 2/2 | Errors: 0 | Timeouts: 0\n").unwrap();
    for part in ["--- plain/m1 [OK] (", "--- mock/m1 [OK] ("] {
        assert!(printed.find(part).is_some_and(|at| at < summary), "{part} in {printed}");
    }
    assert_eq!(printed.matches("===").count(), 2, "{printed}");
    assert!(printed.contains("Same answer: "), "{printed}");
    // It always takes the first: seen, because it was asked in both orders.
    assert!(printed.contains("winner -") && printed.contains("goes by position"), "{printed}");
    let asked: Vec<_> = world.model.calls().into_iter().filter(|c| c.prompt.contains(" id=\"A\">")).collect();
    assert!(asked.len() >= 2, "{}", asked.len());
    for call in &asked {
        assert!(!call.prompt.contains("plain") && !call.prompt.contains("mock/"), "{}", call.prompt);
    }
    let first = |call: &dx_scripted_model::CallRecord| {
        call.prompt.find("Yes  it is.") < call.prompt.find("yes it\nis.")
    };
    assert_ne!(first(&asked[0]), first(asked.last().unwrap()), "the order was changed");
    // One that fails is no success, although all have answered; another one can be asked.
    let told = batch(world, 31, &["plain", "mock"], &["--judge", "opencode:locked/m1"]);
    assert_eq!((&told["reason_code"], &told["success"]), (&json!("judge_failed"), &json!(2)), "{told:#}");
    assert_eq!(told["verdict"]["reason_code"], "auth_missing", "{told:#}");
    let id = told["id"].as_str().unwrap();
    let again = |code, judge| world.json("batch", code, &["batch", "judge", id, "--judge", judge]);
    assert_eq!(again(31, "opencode:silent/m1")["reason_code"], "judge_failed");
    let judged = again(0, "opencode:biased/m1");
    assert_eq!((&judged["reason_code"], &judged["exit_code"]), (&json!("batch_ok"), &json!(0)), "{judged:#}");
    let shown = world.run(&["batch", "show", id]).assert_code(0).stdout;
    assert!(shown.starts_with("=== batch-dispatch to 2 models ===\n--- plain/m1 [OK] ("), "{shown}");
}

pub(super) fn a_batch_that_is_given_up(world: &World) {
    let before = world.sessions();
    let run = |words: &str, signal: i32, more: &[&str]| {
        let mut command = world.env.product();
        command.args([
            "batch",
            "--members",
            &members(&["mock", "hanging"]),
            "--prompt",
            &format!("{words} [[mock:text:HALF]]"),
        ]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = crate::world::spawn(command);
        let asked = || world.model.calls().iter().filter(|c| c.prompt.contains(words)).count();
        wait_until(SOON, "both are asked", || asked() >= 2);
        wait_until(SOON, "one answer is stored", || newest(world)["success"] == 1);
        // It is shown while the other is still asked.
        let mut shown = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !more.contains(&"--json") && !text.ends_with("\nHALF\n") {
            assert_ne!(shown.read_line(&mut text).unwrap(), 0, "{text}");
        }
        dx_testkit::send_signal(i32::try_from(child.id()).unwrap(), signal);
        shown.read_to_string(&mut text).unwrap();
        let output = child.wait_with_output().unwrap();
        Output { stdout: text.into_bytes(), ..output }
    };
    let output = run("GIVEN-UP-BATCH", 2, &[]);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let id = newest(world)["id"].as_str().unwrap().to_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("dx-runner batch show {id}")), "{said}");
    let output = run("GIVEN-UP-JSON", 2, &["--json"]);
    let told = document(&world.env, "batch", std::str::from_utf8(&output.stdout).unwrap());
    assert_eq!(
        (&told["reason_code"], told["exit_code"].as_i64()),
        (&json!("interrupted"), Some(130)),
        "{told:#}"
    );
    assert_eq!(output.status.code(), Some(130));
    assert_eq!((&told["success"], &told["members"][0]["answer"]), (&json!(1), &json!("HALF")), "{told:#}");
    assert_eq!(world.sessions(), before);
    assert_eq!((world.ours("__cleaner"), world.ours("batch")), (vec![], vec![]));
    assert_quiet(world, "GIVEN-UP-BATCH");
    assert_eq!(newest(world)["status"], "ended");
    // A crash loses no answer, and is not taken for a batch that runs.
    drop(run("CRASHED-BATCH", 9, &[]));
    let left = newest(world);
    assert_eq!((&left["status"], &left["success"]), (&json!("interrupted"), &json!(1)), "{left:#}");
    wait_until(SOON, "its sessions are gone", || world.sessions() == before);
    assert_quiet(world, "CRASHED-BATCH");
}

/// Killed while the judge is asked: all answers are there, no verdict is, and another judge can be asked.
pub(super) fn a_judge_that_is_killed(world: &World) {
    let before = world.sessions();
    let mut command = world.env.product();
    let prompt = "KILLED-JUDGE [[mock:text:yes it\\nis.]]";
    command.args(["batch", "--members", &members(&["plain", "mock"]), "--prompt", prompt, "--compare"]);
    command.args(["--judge", "opencode:hanging/m1"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = crate::world::spawn(command);
    let judged = || world.model.calls().iter().any(|c| c.prompt.contains(" id=\"A\">") && !c.done);
    wait_until(SOON, "the judge is asked", judged);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = newest(world);
    let told = (&left["status"], &left["reason_code"], &left["success"], &left["errors"]);
    let true_words = (&json!("interrupted"), &json!("batch_interrupted"), &json!(2), &json!(0));
    assert_eq!(told, true_words, "{left:#}");
    assert_eq!((&left["missing"], left["groups"][0].as_array().unwrap().len()), (&json!([]), 2), "{left:#}");
    let verdict = &left["verdict"];
    assert_eq!((&verdict["winner"], &verdict["judge"]), (&json!("-"), &json!("opencode:hanging/m1")));
    let id = left["id"].as_str().unwrap();
    let shown = world.run(&["batch", "show", id]).assert_code(0).stdout;
    assert!(shown.contains("the judge has not answered") && shown.contains("Status: interrupted"), "{shown}");
    wait_until(SOON, "its session is gone", || world.sessions() == before);
    assert_quiet(world, "KILLED-JUDGE");
    let again = world.json("batch", 0, &["batch", "judge", id, "--judge", "opencode:biased/m1"]);
    assert!(again["verdict"]["problem"].as_str().unwrap().contains("goes by position"), "{again:#}");
    let scores: Vec<&Value> = again["verdict"]["scores"].as_object().unwrap().values().collect();
    assert_eq!(scores, [&json!(5.0), &json!(5.0)], "position has favoured nobody");
}

/// The batch that was begun last.
fn newest(world: &World) -> Value {
    let list = world.json("batches", 0, &["batch", "list"]);
    let Some(id) = list["batches"].as_array().unwrap().last() else { return Value::Null };
    world.json("batch", 0, &["batch", "show", id.as_str().unwrap()])
}
