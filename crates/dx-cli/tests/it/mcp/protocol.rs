//! The protocol: what a client may say, what none should, and what it is told.

use super::client::Client;
use crate::environment;
use dx_testkit::send_signal;
use serde_json::{Value, json};

#[test]
fn what_a_client_is_told_first() {
    let env = environment();
    let mut client = Client::silent(&env, &[]);
    // Some clients ask before they say hello.
    assert_eq!(client.ask("ping", json!({})), json!({}));
    let told = client.ask("initialize", json!({ "protocolVersion": "1999-01-01" }));
    assert_eq!(told["protocolVersion"], "2025-11-25");
    assert_eq!(told["serverInfo"]["name"], "dx-runner");
    let tools = client.ask("tools/list", json!({}));
    let names: Vec<&str> =
        tools["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    for name in [
        "dispatch",
        "batch_dispatch",
        "batch_show",
        "routes",
        "models",
        "job_start",
        "job_wait",
        "job_check",
        "job_status",
        "job_logs",
        "job_stop",
        "job_report",
        "wave_run",
        "wave_status",
        "task_new",
        "task_list",
        "task_show",
        "task_check",
        "task_run",
        "preflight",
    ] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    for tool in tools["tools"].as_array().unwrap() {
        assert!(jsonschema::validator_for(&tool["inputSchema"]).is_ok(), "{tool}");
        assert!(!tool["description"].as_str().unwrap().is_empty());
    }
    assert_eq!(client.close(), Some(0));
}

#[test]
fn what_no_client_should_say() {
    let env = environment();
    let mut client = Client::new(&env, &[]);
    let mut error = |line: &[u8]| {
        client.send_bytes(line);
        let told = client.until("error", |message| !message["error"].is_null());
        (told["error"]["code"].as_i64().unwrap(), told["id"].clone())
    };
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    let long =
        [b"{\"jsonrpc\":\"2.0\",\"method\":\"".to_vec(), vec![b'x'; 17 << 20], b"\"}".to_vec()].concat();
    for (line, code) in [
        (&b"no JSON"[..], -32700),
        (b"\xff\xfe{}", -32700),
        (&deep, -32700),
        (&long, -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600),
        (br#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, -32600),
    ] {
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
        assert_eq!(error(line).0, code, "{shown}");
    }
    assert_eq!(error(br#"{"jsonrpc":"2.0","id":"a","method":"tools/destroy"}"#), (-32601, json!("a")));
    let call =
        |params: Value| json!({ "jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": params });
    for params in [json!({}), json!({ "name": 7 }), json!({ "name": "rm" })] {
        assert_eq!(error(call(params).to_string().as_bytes()), (-32602, json!("b")));
    }
    for uri in [
        "",
        "file:///etc/passwd",
        "dx-runner://job/exec/../../x",
        "dx-runner://batch/--help",
        "dx-runner://job/x/y/log",
    ] {
        let read =
            json!({ "jsonrpc": "2.0", "id": "c", "method": "resources/read", "params": { "uri": uri } });
        assert_eq!(error(read.to_string().as_bytes()), (-32002, json!("c")), "{uri}");
    }
    // A notification is never answered, and arguments that do not fit are for the model to see.
    client.send(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"job_status"}}"#);
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}"#);
    client.send(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#);
    for (tool, arguments) in [
        ("job_check", json!({})),
        ("job_check", json!([])),
        ("job_check", json!({ "beads": "x", "more": 1 })),
        ("job_check", json!({ "beads": "--help" })),
        ("job_check", json!({ "beads": "../../etc" })),
        ("job_check", json!({ "beads": "a\0b" })),
        ("dispatch", json!({ "prompt": "x", "timeout_seconds": -1 })),
        ("job_start", json!({ "provider": "no-such", "prompt": "x" })),
        ("wave_run", json!({ "file": "/no/such" })),
        ("batch_show", json!({ "id": "none" })),
        ("call_wait", json!({ "handle": "call-7" })),
    ] {
        let id = client.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let answer = client.answer(id);
        let told = answer["result"]["isError"] == true || answer["error"]["code"] == -32602;
        assert!(told, "{tool} {arguments}: {answer:#}");
    }
    assert_eq!(client.rest(), Vec::<Value>::new());
    // It is as well as before.
    assert_eq!(client.document("job_status", json!({}))["jobs"], json!([]));
    assert_eq!(client.close(), Some(0));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let env = environment();
    for signal in [2, 15] {
        let mut client = Client::new(&env, &[]);
        send_signal(client.pid(), signal);
        assert_eq!(client.end(), Some(0));
    }
}
