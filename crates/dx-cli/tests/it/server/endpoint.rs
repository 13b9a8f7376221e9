//! Members `openai:`: an endpoint that is asked over plain HTTP, without any server of OpenCode's.

use super::questions::SOON;
use crate::world::error_of;
use crate::{document, environment};
use dx_scripted_model::{Scenario, ScriptedModel};
use dx_testkit::wait_until;
use serde_json::json;
use std::os::unix::fs::DirBuilderExt as _;
use std::time::Instant;

#[test]
fn an_endpoint_is_asked() {
    let env = environment();
    let model = ScriptedModel::start(Scenario::text("no scenario in the prompt")).unwrap();
    let config = env.path("endpoints.toml");
    let text = format!(
        "endpoints = [\"local={} LOCAL_KEY\", \"open={}\", \"dead=http://127.0.0.1:9/v1\"]\n",
        model.plain_url(),
        model.plain_url()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    let ask = |code: i32, member: &str, scenario: &str, more: &[&str]| {
        let prompt = format!("OPENAI [[mock:{scenario}]]");
        let head = ["--config", &config, "dispatch", "--member", member, "--prompt", &prompt, "--json"];
        let output = env.run(&[&head[..], more].concat()).assert_code(code);
        if code == 0 { document(&env, "dispatch", &output.stdout) } else { error_of(&env, &output) }
    };
    let begun = Instant::now();
    let more = ["--system", "Be brief.", "--max-chars", "2"];
    let answer = ask(0, "openai:open/m1", "sleep:1,text:PLAIN", &more);
    let (took, whole) = (answer["duration_ms"].as_u64().unwrap(), begun.elapsed().as_millis());
    assert!(took >= 1000 && u128::from(took) <= whole, "{took} of {whole}");
    let told = (&answer["answer"], &answer["mods"], &answer["truncated"]);
    let mods = json!(["custom-system", "truncated"]);
    assert_eq!(told, (&json!("PL\n[cut: 3 more characters]"), &mods, &json!(true)), "{answer:#}");
    let calls = model.calls();
    assert!(calls.iter().any(|c| c.prompt.contains("text:PLAIN") && c.text.contains("Be brief.")));
    assert_eq!(ask(0, "openai:open/m1", "429:after=1,text:AFTER", &[])["retries"], 1);
    for (code, scenario, reason) in [
        (10, "401", "auth_missing"),
        (25, "404", "model_not_found"),
        (1, "429:after=1", "rate_limited"),
        (1, "500", "server_error"),
        (1, "503", "server_error"),
        (1, "garbage", "server_error"),
        (1, "drop", "server_error"),
        (1, "empty", "empty_response"),
        (1, "text:<tool_call>x</tool_call>", "unparsed_tool_markup"),
        (35, "hang", "timeout"),
        (35, "hang-stream", "timeout"),
        (35, "sleep:20,text:TOO-LATE", "timeout"),
    ] {
        let error = ask(code, "openai:open/m1", scenario, &["--timeout", "3"]);
        assert_eq!(error["reason_code"], reason, "{scenario}: {error:#}");
    }
    // The connection of what was late is closed, and nothing is asked again.
    let late = || {
        let calls = model.calls().into_iter().filter(|call| call.path.contains("/plain/"));
        let late = |prompt: &str| ["[mock:hang", "TOO-LATE"].iter().any(|word| prompt.contains(word));
        calls.filter(|call| call.prompt.starts_with("OPENAI ") && late(&call.prompt)).collect::<Vec<_>>()
    };
    wait_until(SOON, "the connections are closed", || late().iter().all(|call| call.done));
    assert_eq!(late().iter().map(|call| call.client_gone).collect::<Vec<_>>(), [true; 3]);
    let error = ask(1, "openai:dead/m1", "text:x", &[]);
    assert!(error["message"].as_str().unwrap().contains("http://127.0.0.1:9/v1: "), "{error}");
    assert!(error["next_action"].as_str().unwrap().contains("endpoint dead"), "{error}");
    assert_eq!(ask(10, "openai:local/m1", "text:x", &[])["reason_code"], "auth_missing");
    assert_eq!(ask(27, "openai:other/m1", "text:x", &[])["reason_code"], "provider_not_connected");
    let missing = env.path("missing").display().to_string();
    let error = ask(22, "openai:open/m1", "text:x", &["--directory", &missing]);
    assert_eq!(error["reason_code"], "worktree_missing", "{error}");
    assert!(error["next_action"].as_str().unwrap().contains("--directory"), "{error}");
    let file = env.path("n.json");
    std::fs::write(&file, r#"{"type":"object","required":["n"]}"#).unwrap();
    let schema = ["--json-schema", file.to_str().unwrap()];
    let answer = ask(0, "openai:open/m1", "text:seven,text:{\"n\":7}", &schema);
    assert_eq!((&answer["structured"], &answer["corrections"]), (&json!({ "n": 7 }), &json!(1)));
    assert_eq!(ask(1, "openai:open/m1", "text:seven", &schema)["reason_code"], "schema_mismatch");
}

/// What keeps the process of a detached batch from storing it is told by who waits for that.
#[test]
fn a_detached_batch_that_cannot_be_stored_says_why() {
    let env = environment();
    let config = env.path("endpoints.toml");
    std::fs::write(&config, "endpoints = [\"dead=http://127.0.0.1:9/v1\"]\n").unwrap();
    let config = config.display().to_string();
    env.run(&["batch", "list"]).assert_code(0);
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(env.state_dir()).unwrap();
    std::fs::write(env.state_dir().join("batches"), "in the way").unwrap();
    let args = ["batch", "--members", "openai:dead/m1,openai:dead/m2", "--prompt", "x", "--detach", "--json"];
    let output = env.run(&[&["--config", &config][..], &args].concat());
    let error = error_of(&env, &output);
    assert_ne!(output.code, 0, "{output}");
    assert!(error["message"].as_str().unwrap().contains("batches"), "{error}");
}
