//! The scripted model over real sockets, with a client that sees every byte.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use dx_scripted_model::{Scenario, ScriptedModel};
use serde_json::{Value, json};

/// Posts and reads until the server closes; gives status and the raw rest.
fn post(base_url: &str, body: &Value) -> (u16, String) {
    read(send(base_url, body))
}

fn read(mut stream: TcpStream) -> (u16, String) {
    let mut raw = String::new();
    stream.read_to_string(&mut raw).unwrap();
    let status = raw.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, raw.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn send(base_url: &str, body: &Value) -> TcpStream {
    send_to(&format!("{base_url}/chat/completions"), body)
}

fn send_to(url: &str, body: &Value) -> TcpStream {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = body.to_string();
    let head = format!("POST /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
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
fn what_a_tool_gave_back_chooses_too() {
    let good = "bash:cat a,text:GOOD".parse().unwrap();
    let look = "bash:cat a,text:BAD".parse().unwrap();
    let rules = vec![("read:well done".to_owned(), good), ("look".to_owned(), look)];
    let model = ScriptedModel::start_by_prompt(rules, Scenario::text("DEFAULT")).unwrap();
    for (given, answer) in [("well done", "GOOD"), ("not well", "BAD")] {
        let mut chat = ask(true, 1);
        chat["messages"][1]["content"] = json!("look, and say well done");
        chat["messages"].as_array_mut().unwrap().last_mut().unwrap()["content"] = json!(given);
        assert_eq!(text(&post(&model.base_url(), &chat).1), answer, "{chat}");
        let mut messages = message(false, 1);
        messages["messages"][0]["content"] = json!("look");
        messages["messages"][2]["content"][0]["content"] = json!([{ "type": "text", "text": given }]);
        let url = format!("{}/v1/messages", model.root_url());
        let (_, body) = read(send_to(&url, &messages));
        assert!(body.contains(answer), "{body}");
    }
}

/// A request as Claude Code makes it, after so many tool results.
fn message(stream: bool, tool_results: usize) -> Value {
    let mut messages = vec![json!({ "role": "user", "content": [
        { "type": "text", "text": "<system-reminder>x</system-reminder>" }, { "type": "text", "text": "go" }] })];
    for _ in 0..tool_results {
        messages.push(json!({ "role": "assistant", "content": [{ "type": "tool_use" }] }));
        messages.push(json!({ "role": "user", "content": [{ "type": "tool_result", "content": "ok" }] }));
    }
    json!({ "model": "claude-x", "stream": stream, "messages": messages,
        "system": [{ "type": "text", "text": "Primary working directory: /w\n" }],
        "tools": [{ "name": "Write", "input_schema": { "type": "object",
            "properties": { "file_path": { "type": "string" }, "content": { "type": "string" } } } }] })
}

/// The events of a streamed answer; each has its name before it.
fn events(raw: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut name = "";
    for line in raw.lines() {
        if let Some(text) = line.strip_prefix("event: ") {
            name = text;
        } else if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            assert_eq!(event["type"], name);
            found.push(event);
        }
    }
    found
}

#[test]
fn anthropic_messages_go_round() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let url = format!(
        "{}/v1/messages?beta=true",
        model.root_url_for(&"write:a.txt:hi,text:ALL DONE".parse().unwrap())
    );
    let (status, raw) = read(send_to(&url, &message(true, 0)));
    let found = events(&raw);
    let kinds: Vec<_> = found.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    assert_eq!(
        (status, kinds),
        (200, [&["message_start"], &block[..], &["message_delta", "message_stop"]].concat())
    );
    assert_eq!(found[1]["content_block"]["name"], "Write");
    let input: Value = serde_json::from_str(found[2]["delta"]["partial_json"].as_str().unwrap()).unwrap();
    assert_eq!(input, json!({ "file_path": "/w/a.txt", "content": "hi" }));
    assert_eq!(found[4]["delta"]["stop_reason"], "tool_use");
    assert_eq!(
        (&found[0]["message"]["usage"]["input_tokens"], &found[4]["usage"]["output_tokens"]),
        (&100.into(), &10.into())
    );

    let found = events(&read(send_to(&url, &message(true, 1))).1);
    let words: String = found.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!((words.as_str(), &found[5]["delta"]["stop_reason"]), ("ALL DONE", &"end_turn".into()));
    let whole: Value = serde_json::from_str(&read(send_to(&url, &message(false, 1))).1).unwrap();
    assert_eq!(
        (&whole["content"][0]["text"], &whole["usage"]["output_tokens"]),
        (&"ALL DONE".into(), &10.into())
    );

    let count = read(send_to(&url.replace("?beta", "/count_tokens?beta"), &message(false, 0)));
    assert_eq!(count, (200, json!({ "input_tokens": 100 }).to_string()));
    let steps: Vec<_> = model.calls().into_iter().map(|call| (call.api, call.step)).collect();
    assert_eq!(steps[0], (Some("messages"), "write:a.txt:hi".to_owned()));
    assert_eq!(steps[3], (None, String::new()), "a count of tokens is no model call");
}

#[test]
fn anthropic_refusals_have_their_own_form() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    for (scenario, status, kind, header) in [
        ("401", 401, "authentication_error", ""),
        ("429:after=7", 429, "rate_limit_error", "retry-after: 7"),
        ("429:quota", 429, "rate_limit_error", "anthropic-ratelimit-unified-status: rejected"),
        ("404", 404, "not_found_error", ""),
        ("500", 500, "api_error", ""),
        ("529", 529, "overloaded_error", ""),
    ] {
        let url = format!("{}/v1/messages", model.root_url_for(&scenario.parse().unwrap()));
        let mut raw = String::new();
        send_to(&url, &message(true, 0)).read_to_string(&mut raw).unwrap();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(header),
            "{scenario}: {head}"
        );
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &kind.into()), "{scenario}");
    }
}

fn generate(tool_results: usize) -> Value {
    let mut contents = vec![json!({ "role": "user", "parts": [
        { "text": "<session_context>\n- **Workspace Directories:**\n  - /w\n</session_context>" }, { "text": "go" }] })];
    for _ in 0..tool_results {
        contents.push(json!({ "role": "model", "parts": [{ "functionCall": {} }] }));
        contents.push(json!({ "role": "user", "parts": [{ "functionResponse": {} }] }));
    }
    json!({ "contents": contents, "tools": [{ "functionDeclarations": [{ "name": "write_file", "parametersJsonSchema": {
        "type": "object", "properties": { "file_path": {}, "content": {} } } }] }] })
}

#[test]
fn generate_content_goes_round() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let root = model.root_url_for(&"write:a.txt:hi,text:ALL DONE".parse().unwrap());
    let at = |method: &str| format!("{root}/v1beta/models/gemini-x:{method}");
    let stream = |results| {
        let (status, raw) = read(send_to(&at("streamGenerateContent?alt=sse"), &generate(results)));
        let data = raw.lines().filter_map(|line| line.strip_prefix("data: "));
        (status, data.map(|data| serde_json::from_str(data).unwrap()).collect::<Vec<Value>>())
    };
    let (status, found) = stream(0);
    let last = &found.last().unwrap()["candidates"][0];
    let call = &last["content"]["parts"][0]["functionCall"];
    assert_eq!((status, &last["finishReason"], &call["name"]), (200, &"STOP".into(), &"write_file".into()));
    assert_eq!(call["args"], json!({ "file_path": "/w/a.txt", "content": "hi" }));

    let (_, found) = stream(1);
    let text = |chunk: &Value| {
        chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(found.iter().map(text).collect::<String>(), "ALL DONE");
    assert_eq!(found[0]["usageMetadata"]["totalTokenCount"], 110);
    let whole: Value = serde_json::from_str(&read(send_to(&at("generateContent"), &generate(1))).1).unwrap();
    assert_eq!(text(&whole), "ALL DONE");

    let count = read(send_to(&at("countTokens"), &generate(0)));
    assert_eq!(count, (200, json!({ "totalTokens": 100 }).to_string()));
    let calls: Vec<_> = model.calls().into_iter().map(|call| (call.api, call.model, call.step)).collect();
    assert_eq!(calls[0], (Some("generate"), "gemini-x".to_owned(), "write:a.txt:hi".to_owned()));
    assert_eq!(calls[3].0, None, "a count of tokens is no model call");
}

#[test]
fn refusals_of_generate_content_have_their_own_form() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    for (scenario, status, word, detail) in [
        ("401", 401, "UNAUTHENTICATED", "[]"),
        ("404", 404, "NOT_FOUND", "[]"),
        ("500", 500, "INTERNAL", "[]"),
        ("429:after=7", 429, "RESOURCE_EXHAUSTED", r#""retryDelay":"7s""#),
        ("429:quota", 429, "RESOURCE_EXHAUSTED", "PerDay"),
        ("429:capacity", 429, "RESOURCE_EXHAUSTED", "MODEL_CAPACITY_EXHAUSTED"),
    ] {
        let root = model.root_url_for(&scenario.parse().unwrap());
        let (code, raw) =
            read(send_to(&format!("{root}/v1beta/models/m:streamGenerateContent"), &generate(0)));
        let error = &serde_json::from_str::<Value>(&raw).unwrap()["error"];
        assert_eq!(
            (code, &error["code"], &error["status"]),
            (status, &status.into(), &word.into()),
            "{scenario}"
        );
        assert!(error["details"].to_string().contains(detail), "{scenario}: {error}");
    }
}

/// A request as Codex makes it, after so many tool results.
fn response(stream: bool, tool_results: usize) -> Value {
    let user = |text: &str| json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] });
    let mut input = vec![user("<environment_context>\n<cwd>/w</cwd></environment_context>"), user("go")];
    for n in 0..tool_results {
        input.push(
            json!({ "type": "function_call", "call_id": n, "name": "exec_command", "arguments": "{}" }),
        );
        input.push(json!({ "type": "function_call_output", "call_id": n, "output": "ok" }));
    }
    json!({ "model": "m1", "stream": stream, "instructions": "Be brief.", "input": input, "tools": [
        { "type": "function", "name": "exec_command", "parameters": { "properties": { "cmd": { "type": "string" } } } },
        { "type": "custom", "name": "apply_patch" }] })
}

#[test]
fn openai_responses_go_round() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    let url = |scenario: &str| format!("{}/responses", model.base_url_for(&scenario.parse().unwrap()));
    let both = url("bash:ls,tool:apply_patch:*** Begin Patch\\n*** End Patch,text:ALL DONE");
    let ask = |tool_results| events(&read(send_to(&both, &response(true, tool_results))).1);
    let kinds = |found: &[Value]| {
        found.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let item = ["response.output_item.added", "response.output_item.done"];
    let found = ask(0);
    assert_eq!(kinds(&found), [&["response.created"], &item[..], &["response.completed"]].concat());
    let call = &found[2]["item"];
    assert_eq!((&call["type"], &call["name"]), (&"function_call".into(), &"exec_command".into()));
    assert_eq!(call["arguments"], json!({ "cmd": "ls" }).to_string());
    assert_eq!(found[3]["response"]["usage"]["input_tokens"], 100);
    // A tool without a schema takes text.
    let call = &ask(1)[2]["item"];
    assert_eq!((&call["type"], &call["name"]), (&"custom_tool_call".into(), &"apply_patch".into()));
    assert_eq!(call["input"], "*** Begin Patch\n*** End Patch");
    let found = ask(2);
    let words: String = found.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!((words.as_str(), &found[4]["item"]["content"][0]["text"]), ("ALL DONE", &"ALL DONE".into()));
    let whole: Value = serde_json::from_str(&read(send_to(&both, &response(false, 2))).1).unwrap();
    assert_eq!(
        (&whole["status"], &whole["output"][0]["type"]),
        (&"completed".into(), &"message".into()),
        "{whole}"
    );
    assert_eq!(events(&read(send_to(&url("empty"), &response(true, 0))).1).len(), 2, "no item at all");
    assert!(model.calls().iter().all(|call| call.api == Some("responses") && &*call.prompt == "go"));
}

#[test]
fn openai_responses_refuse_and_break_off() {
    let model = ScriptedModel::start(Scenario::text("unused")).unwrap();
    for (scenario, status, kind, part) in [
        ("401", 401, "authentication_error", "invalid_api_key"),
        ("429:after=7", 429, "rate_limit_error", "retry-after: 7"),
        ("429:quota", 429, "insufficient_quota", "insufficient_quota"),
        ("429:plan=9", 429, "usage_limit_reached", "\"resets_in_seconds\":9"),
        ("429:capacity", 429, "rate_limit_error", "No capacity"),
        ("500", 500, "api_error", ""),
    ] {
        let url = format!("{}/responses", model.base_url_for(&scenario.parse().unwrap()));
        let mut raw = String::new();
        send_to(&url, &response(true, 0)).read_to_string(&mut raw).unwrap();
        assert!(raw.starts_with(&format!("HTTP/1.1 {status} ")) && raw.contains(part), "{scenario}: {raw}");
        let body: Value = serde_json::from_str(raw.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["error"]["type"], kind, "{scenario}");
    }
    let url = format!("{}/responses", model.base_url_for(&"drop".parse().unwrap()));
    let raw = read(send_to(&url, &response(true, 0))).1;
    assert!(raw.contains("partial ") && !raw.contains("response.completed"), "{raw}");
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
