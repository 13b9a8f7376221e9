//! The scripted model over real sockets, with a client that sees every byte.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dx_scripted_model::{Scenario, ScriptedModel};
use serde_json::{Value, json};

/// Posts and reads until the server closes; gives status and the raw rest.
fn post(base_url: &str, body: &Value) -> (u16, String) {
    let mut stream = send(base_url, body);
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    let status = raw.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, raw.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn send(base_url: &str, body: &Value) -> TcpStream {
    let rest = base_url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = body.to_string();
    let head = format!("POST /{path}/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    // In chunks, as some clients do.
    let (one, two) = body.split_at(body.len() / 2);
    let (n, m) = (one.len(), two.len());
    let chunks = format!("transfer-encoding: chunked\r\n\r\n{n:x}\r\n{one}\r\n{m:x}\r\n{two}\r\n0\r\n\r\n");
    stream.write_all((head + &chunks).as_bytes()).unwrap();
    stream
}

fn ask(stream: bool, tool_results: usize) -> Value {
    let mut messages = vec![
        json!({ "role": "system", "content": "Working directory: /w\n" }),
        json!({ "role": "user", "content": "go" }),
    ];
    for _ in 0..tool_results {
        messages.push(json!({ "role": "assistant", "tool_calls": [] }));
        messages.push(json!({ "role": "tool", "content": "ok" }));
    }
    json!({ "model": "m1", "stream": stream, "messages": messages, "tools": [{ "type": "function", "function": {
        "name": "write", "parameters": { "type": "object",
            "properties": { "filePath": { "type": "string" }, "content": { "type": "string" } } } } }] })
}

/// The deltas of a streamed answer.
fn deltas(raw: &str) -> Vec<Value> {
    let events = raw.lines().filter_map(|line| line.strip_prefix("data: "));
    events
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| chunk["choices"][0].clone())
        .collect()
}

fn text(raw: &str) -> String {
    deltas(raw).iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

#[test]
fn a_streamed_write_goes_round() {
    let model = ScriptedModel::start(Scenario::write("a b.txt", "x,y:z\n").then_text("ALL DONE")).unwrap();
    let (status, raw) = post(&model.base_url(), &ask(true, 0));
    assert_eq!(status, 200);
    assert!(raw.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{raw}");
    let deltas = deltas(&raw);
    let call = deltas.iter().find_map(|choice| choice["delta"]["tool_calls"].get(0)).unwrap();
    assert_eq!(call["function"]["name"], "write");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "filePath": "/w/a b.txt", "content": "x,y:z\n" }));
    assert_eq!(deltas.last().unwrap()["finish_reason"], "tool_calls");
    assert_eq!(text(&post(&model.base_url(), &ask(true, 1)).1), "ALL DONE");
    let (_, raw) = post(&model.base_url(), &ask(false, 1));
    let whole: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "ALL DONE");
}

#[test]
fn two_refusals_then_success_and_side_calls_do_not_count() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let url = model.base_url_for(&"2*429:after=3,write:a:b,text:DONE".parse().unwrap());
    let mut side = ask(true, 0);
    side["tools"] = json!([]);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        assert_eq!(text(&post(&url, &side).1), "Scripted title");
        statuses.push(post(&url, &ask(true, 0)).0);
    }
    assert_eq!(statuses, [429, 429, 200]);
    assert_eq!(text(&post(&url, &ask(true, 1)).1), "DONE");
    let calls = model.calls();
    assert_eq!(calls.iter().filter(|call| call.side_call).count(), 3);
    let steps: Vec<_> = calls.iter().filter(|call| call.has_tools).map(|call| call.step.as_str()).collect();
    assert_eq!(steps, ["429:after=3", "429:after=3", "write:a:b", "text:DONE"]);
    assert!(
        calls
            .iter()
            .all(|call| call.done && !call.client_gone && &*call.prompt == "go" && call.model == "m1")
    );
}

#[test]
fn the_prompt_chooses_and_a_wrong_scenario_is_told() {
    let model = ScriptedModel::start(Scenario::text("default")).unwrap();
    let mut body = ask(false, 0);
    body["messages"][1]["content"] = json!("go [[mock:429:quota]]");
    let (status, raw) = post(&model.base_url(), &body);
    assert_eq!((status, raw.contains("insufficient_quota")), (429, true));
    body["messages"][1]["content"] = json!("go [[mock:wrte:a]]");
    let (status, raw) = post(&model.base_url(), &body);
    assert_eq!((status, raw.contains("unknown step `wrte:a`")), (400, true));
}

#[test]
fn words_of_a_prompt_choose_unless_it_names_a_scenario() {
    let rules = vec![("fix".to_owned(), Scenario::text("FIXED")), ("f".to_owned(), Scenario::text("OTHER"))];
    let model = ScriptedModel::start_by_prompt(rules, Scenario::text("DEFAULT")).unwrap();
    for (prompt, answer) in
        [("do fix it", "FIXED"), ("if", "OTHER"), ("go", "DEFAULT"), ("fix [[mock:text:NAMED]]", "NAMED")]
    {
        let mut body = ask(true, 0);
        body["messages"][1]["content"] = json!(prompt);
        assert_eq!(text(&post(&model.base_url(), &body).1), answer, "{prompt}");
    }
}

#[test]
fn garbage_drop_and_slow() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let url = |scenario: &str| model.base_url_for(&scenario.parse().unwrap());
    let (status, raw) = post(&url("garbage"), &ask(true, 0));
    assert_eq!((status, raw.starts_with("<html>")), (200, true));
    let (status, raw) = post(&url("drop"), &ask(true, 0));
    assert_eq!((status, text(&raw).as_str(), raw.contains("[DONE]")), (200, "partial answer ", false));
    let started = Instant::now();
    let (_, raw) = post(&url("sleep:0.2,slow:0.1:one two three"), &ask(true, 0));
    assert_eq!(text(&raw), "one two three");
    assert!(started.elapsed() >= Duration::from_millis(400));
}

#[test]
fn hanging_calls_end_with_the_server() {
    let model = ScriptedModel::start(Scenario::hang()).unwrap();
    let mut silent = send(&model.base_url(), &ask(true, 0));
    let mut half = send(&model.base_url_for(&"hang-stream".parse().unwrap()), &ask(true, 0));
    let mut sleeping = send(&model.base_url_for(&"sleep:3600,text:x".parse().unwrap()), &ask(true, 0));
    let idle = TcpStream::connect(("127.0.0.1", model.port())).unwrap();
    let gone = send(&model.base_url(), &ask(true, 0));
    drop(gone);
    let end = Instant::now() + Duration::from_secs(10);
    while !(model.calls().len() == 4 && model.calls().iter().any(|call| call.client_gone)) {
        assert!(Instant::now() < end, "{:?}", model.calls());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(model.calls().iter().filter(|call| !call.done).count(), 3);
    // Joins every thread: returning at all is the point.
    drop(model);
    let mut raw = Vec::new();
    silent.read_to_end(&mut raw).unwrap();
    sleeping.read_to_end(&mut raw).unwrap();
    assert!(raw.is_empty());
    let mut raw = String::new();
    half.read_to_string(&mut raw).unwrap();
    assert_eq!(text(&raw), "partial answer ");
    drop(idle);
}

#[test]
fn models_are_listed_and_the_rest_is_not_found() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", model.port())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut raw = String::new();
        stream.read_to_string(&mut raw).unwrap();
        raw
    };
    assert!(get("/s/401/v1/models").contains(r#""id":"m2""#));
    assert!(get("/v1/chat/completions").starts_with("HTTP/1.1 404 "));
    assert_eq!(model.calls().iter().filter(|call| call.api.is_none() && call.done).count(), 2);
}
