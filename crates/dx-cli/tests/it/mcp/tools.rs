//! What the tools do: jobs, questions to an endpoint, handles, cancelling.

use super::client::{Client, PATIENCE};
use crate::environment;
use dx_proc::PidFd;
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::{TestEnv, is_running, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A model behind an endpoint that is in the configuration.
struct World {
    env: TestEnv,
    model: ScriptedModel,
    config: String,
}

impl World {
    fn new() -> Self {
        let env = environment();
        let model = ScriptedModel::start(Scenario::text("PLAIN ANSWER")).unwrap();
        let url = |scenario: &str| model.plain_url_for(&scenario.parse().unwrap());
        let endpoints = format!(
            "endpoints = [\"good={}\", \"slow={}\", \"hanging={}\", \"locked={}\", \"fields={}\"]\n",
            model.plain_url(),
            url("sleep:2,text:LATE"),
            url("hang"),
            url("401"),
            url("text:{\"n\":7}"),
        );
        let config = env.path("config.toml");
        std::fs::write(&config, endpoints).unwrap();
        Self { env, model, config: config.display().to_string() }
    }

    fn client(&self) -> Client {
        Client::new(&self.env, &["--config", &self.config])
    }
}

#[test]
fn a_job_from_its_start_to_its_report() {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]).display().to_string();
    let mut client = Client::new(&env, &[]);
    let go = env.path("go");
    let script =
        format!("echo WORKING; until test -e {}; do sleep 0.05; done; echo two > b.txt", go.display());
    let started = client.document(
        "job_start",
        json!({ "provider": "exec", "beads": "m-1", "worktree": repo, "command": ["sh", "-c", script] }),
    );
    assert_eq!((&started["action"], &started["beads"]), (&json!("start"), &json!("m-1")), "{started:#}");
    let waited = client.document("job_wait", json!({ "beads": ["m-1"], "wait_seconds": 1 }));
    assert_eq!(waited["ended"], false, "{waited:#}");
    assert_eq!(client.document("job_status", json!({ "live": true }))["jobs"][0]["beads"], "m-1");
    std::fs::write(&go, "").unwrap();
    let waited = client.document("job_wait", json!({ "beads": ["m-1"] }));
    assert_eq!((&waited["ended"], &waited["state"]), (&json!(true), &json!("exited_ok")), "{waited:#}");
    assert_eq!(client.document("job_check", json!({ "beads": "m-1" }))["state"], "exited_ok");
    let report = client.document("job_report", json!({ "beads": "m-1" }));
    assert_eq!(report["files_changed"], json!(["b.txt"]), "{report:#}");
    let logs = client.call("job_logs", json!({ "beads": "m-1", "lines": 5 }));
    assert!(logs["content"][0]["text"].as_str().unwrap().contains("WORKING"), "{logs}");
    // The same as resources.
    let list = client.ask("resources/list", json!({}));
    let uris: Vec<&str> =
        list["resources"].as_array().unwrap().iter().map(|r| r["uri"].as_str().unwrap()).collect();
    assert_eq!(uris, ["dx-runner://job/exec/m-1/report", "dx-runner://job/exec/m-1/log"]);
    for (uri, word) in uris.iter().zip(["b.txt", "WORKING"]) {
        let read = client.ask("resources/read", json!({ "uri": uri }));
        assert!(read["contents"][0]["text"].as_str().unwrap().contains(word), "{read}");
    }
    // A start that is refused says why.
    let error =
        client.failure("job_start", json!({ "provider": "exec", "worktree": "/no/such", "command": ["ls"] }));
    assert_eq!(
        (&error["reason_code"], &error["exit_code"]),
        (&json!("worktree_missing"), &json!(22)),
        "{error:#}"
    );
    let sleeper =
        json!({ "provider": "exec", "beads": "m-2", "worktree": repo, "command": ["sleep", "1000"] });
    let pid: i32 = client.document("job_start", sleeper)["pid"].as_str().unwrap().parse().unwrap();
    // A job outlives the server that started it.
    assert_eq!(client.close(), Some(0));
    let mut client = Client::new(&env, &[]);
    assert_eq!(client.document("job_check", json!({ "beads": "m-2" }))["ended"], false);
    client.document("job_stop", json!({ "beads": ["m-2"] }));
    assert!(!is_running(pid), "the job has been stopped");
}

#[test]
fn a_task_from_its_folder_to_its_run() {
    let env = environment();
    let mut client = Client::new(&env, &[]);
    let made = client.document("task_new", json!({ "title": "Say hello" }));
    assert_eq!(made["path"], ".ai/tasks/001-say-hello");
    assert_eq!(client.document("task_list", json!({}))["tasks"][0]["id"], "001-say-hello");
    assert_eq!(client.document("task_show", json!({ "task": "1" }))["status"], "unplanned");
    // Findings are what was asked for.
    let checked = client.call("task_check", json!({ "task": "1" }));
    assert!(checked["structuredContent"]["findings"].is_array(), "{checked:#}");
    // A refusal comes as one, and not as a handle.
    let error = client.failure("task_run", json!({ "task": "1" }));
    assert_eq!(error["reason_code"], "task_unplanned", "{error:#}");
    assert_eq!(client.failure("task_show", json!({ "task": "9" }))["reason_code"], "task_not_found");
    let tools = client.ask("tools/list", json!({}));
    assert!(!tools.to_string().contains("task_approve"), "that is a person's");
    assert_eq!(client.close(), Some(0));
}

#[test]
fn questions_to_one_and_to_several() {
    let world = World::new();
    let mut client = world.client();
    let answer = client.document("dispatch", json!({ "prompt": "What?", "member": "openai:good/m1" }));
    assert_eq!(answer["answer"], "PLAIN ANSWER");
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
    let answer = client.document(
        "dispatch",
        json!({ "prompt": "How many?", "member": "openai:fields/m1", "json_schema": schema }),
    );
    assert_eq!(answer["structured"], json!({ "n": 7 }));
    let left: Vec<_> = std::fs::read_dir(world.env.path("tmp")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let error = client.failure("dispatch", json!({ "prompt": "x", "member": "openai:locked/m1" }));
    assert_eq!(
        (&error["reason_code"], &error["exit_code"]),
        (&json!("auth_missing"), &json!(10)),
        "{error:#}"
    );
    // What is wrong is told in the tool's words.
    let in_vain = |arguments: Value| json!({ "name": "dispatch", "arguments": arguments });
    for (arguments, words) in [
        (json!({ "prompt": "x" }), "name a `member`, or `provider`"),
        (json!({ "prompt": "x", "member": "nobody" }), "invalid value 'nobody' for 'member'"),
        (json!({ "prompt": "x", "member": "openai:good/m1", "task_type": "y" }), "'member'"),
        (json!({ "prompt": "x", "member": "openai:hanging/m1", "timeout_seconds": 1 }), "`timeout_seconds`"),
    ] {
        let told = client.ask("tools/call", in_vain(arguments));
        let error = &told["structuredContent"]["error"];
        let said = format!("{} {}", error["message"], error["next_action"]);
        assert!(said.contains(words) && !said.contains("--"), "{told:#}");
    }
    assert_eq!(client.document("routes", json!({}))["routes"].as_array().unwrap().len(), 17);

    let batch = client.document(
        "batch_dispatch",
        json!({ "prompt": "x", "members": ["openai:good/m1", "openai:slow/m1", "openai:locked/m1"] }),
    );
    assert_eq!(batch["status"], "running", "{batch:#}");
    let id = batch["id"].as_str().unwrap();
    let now = client.document("batch_show", json!({ "id": id, "wait_seconds": 0 }));
    assert_eq!(now["id"], id);
    let end = client.document("batch_show", json!({ "id": id }));
    assert_eq!(
        (&end["status"], &end["success"], &end["exit_code"]),
        (&json!("ended"), &json!(2), &json!(31)),
        "{end:#}"
    );
    let read = client.ask("resources/read", json!({ "uri": format!("dx-runner://batch/{id}") }));
    assert!(read["contents"][0]["text"].as_str().unwrap().contains("LATE"), "{read}");
    let error = client.failure("batch_dispatch", json!({ "prompt": "x", "members": ["openai:good/m1"] }));
    assert_eq!(error["exit_code"], 64, "{error:#}");
    assert_eq!(client.close(), Some(0));
}

/// The command of a question that hangs; its process.
fn hanging(world: &World, words: &str) {
    let asked = || world.model.calls().iter().any(|call| call.prompt.contains(words));
    wait_until(PATIENCE, "the model is asked", asked);
}

fn over(world: &World, words: &str) -> bool {
    world.model.calls().iter().filter(|call| call.prompt.contains(words)).all(|call| call.done)
}

#[test]
fn calls_are_cancelled_and_do_not_hold_each_other_up() {
    let world = World::new();
    let mut client = world.client();
    let hang = |words: &str| json!({ "name": "dispatch", "arguments": { "prompt": words, "member": "openai:hanging/m1" } });
    let id = client.request("tools/call", hang("CANCEL-ME"));
    hanging(&world, "CANCEL-ME");
    // Others are answered meanwhile; an id that is in use is not.
    assert_eq!(client.document("job_status", json!({}))["jobs"], json!([]));
    client.send(
        &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": hang("x") }).to_string(),
    );
    assert_eq!(client.answer(id)["error"]["code"], -32600);
    let cancelled = json!({ "requestId": id, "reason": "enough" });
    client.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled }).to_string(),
    );
    wait_until(PATIENCE, "the question is given up", || over(&world, "CANCEL-ME"));
    client.ask("ping", json!({}));
    assert_eq!(client.rest(), Vec::<Value>::new(), "a cancelled call is not answered");
    // The client goes away: what was asked is given up.
    client.request("tools/call", hang("LEFT-ALONE"));
    hanging(&world, "LEFT-ALONE");
    assert_eq!(client.close(), Some(0));
    wait_until(PATIENCE, "the question is given up", || over(&world, "LEFT-ALONE"));
    assert_eq!(world.env.kill_leftovers(), Vec::<String>::new());
}

#[test]
fn what_takes_long_returns_a_handle() {
    let world = World::new();
    let mut env_client = world.client();
    let hang = json!({ "prompt": "TAKES-LONG", "member": "openai:hanging/m1", "timeout_seconds": 300, "wait_seconds": 6 });
    let id = env_client.request(
        "tools/call",
        json!({ "name": "dispatch", "arguments": hang, "_meta": { "progressToken": "p-1" } }),
    );
    let progress = env_client.until("progress", |m| m["method"] == "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], "p-1");
    assert!(progress["params"]["progress"].as_u64().unwrap() > 0, "{progress}");
    let told = env_client.answer(id)["result"]["structuredContent"].clone();
    let schema = world.env.run(&["schema", "mcp-call"]).assert_code(0).stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert!(jsonschema::is_valid(&schema, &told), "{told}");
    assert_eq!((&told["status"], &told["tool"]), (&json!("running"), &json!("dispatch")), "{told}");
    let handle = told["handle"].as_str().unwrap();
    assert_eq!(env_client.document("call_wait", json!({ "handle": handle, "wait_seconds": 1 })), told);
    assert!(!over(&world, "TAKES-LONG"), "it goes on");
    assert_eq!(env_client.document("call_cancel", json!({ "handle": handle }))["status"], "cancelled");
    wait_until(PATIENCE, "the question is given up", || over(&world, "TAKES-LONG"));
    assert_eq!(env_client.failure("call_wait", json!({ "handle": handle }))["exit_code"], 64);
    assert_eq!(env_client.close(), Some(0));
}

#[test]
fn a_question_goes_with_a_server_that_is_killed() {
    let world = World::new();
    let mut client = world.client();
    let ask = json!({ "prompt": "ORPHAN", "member": "openai:hanging/m1", "timeout_seconds": 300 });
    client.request("tools/call", json!({ "name": "dispatch", "arguments": ask }));
    hanging(&world, "ORPHAN");
    PidFd::open(client.pid()).and_then(|server| server.send_signal(Signal::KILL.as_raw())).unwrap();
    wait_until(PATIENCE, "the question is given up", || over(&world, "ORPHAN"));
}
