//! Snapshots of what every recorded OpenCode run means: its events, its verdict, its transcript.
#![allow(clippy::unwrap_used)]

mod recorded;

use dx_events::{Grammar, Parser, ProviderVerdict, Summary};
use dx_protocol::{AgentEvent, ErrorClass};
use recorded::Recorded;

const RUNS: Recorded = Recorded { grammar: Grammar::Opencode, folder: "opencode/1.18.33" };

#[test]
fn every_recorded_run() {
    let cases = RUNS.cases();
    assert!(cases.len() > 30, "{cases:?}");
    for case in cases {
        insta::assert_snapshot!(case.clone(), RUNS.describe(&case));
    }
}

#[test]
fn verdicts_of_the_recorded_runs() {
    let failed = |class, status| move |v: ProviderVerdict| matches!(v, ProviderVerdict::Failed { class: c, status: s, .. } if (c, s) == (class, status));
    for case in [
        "success-write",
        "bash-ok",
        "bash-fail",
        "429-then-ok",
        "empty",
        "read-missing",
        "unknown-tool",
        "edit",
    ] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::Ok, "{case}");
    }
    for case in ["hang", "hang-stream", "drop", "garbage", "tool-killed", "same-tool-loop"] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::NoResult, "{case}");
    }
    for case in ["permission-refused", "permission-ask-bash"] {
        assert!(matches!(RUNS.fold(case).verdict(), ProviderVerdict::Refused { .. }), "{case}");
    }
    assert!(failed(ErrorClass::Auth, Some(401))(RUNS.fold("http-401").verdict()));
    assert!(failed(ErrorClass::Auth, Some(403))(RUNS.fold("http-403").verdict()));
    assert!(failed(ErrorClass::ModelUnavailable, Some(404))(RUNS.fold("http-404").verdict()));
    assert!(failed(ErrorClass::Server, Some(500))(RUNS.fold("http-500").verdict()));
    assert!(failed(ErrorClass::RateLimit, Some(429))(RUNS.fold("429-rate").verdict()));
    assert!(failed(ErrorClass::Quota, Some(429))(RUNS.fold("429-quota").verdict()));
    assert!(failed(ErrorClass::Capacity, Some(429))(RUNS.fold("429-capacity").verdict()));
    assert!(failed(ErrorClass::Network, None)(RUNS.fold("unreachable").verdict()));
    assert!(failed(ErrorClass::Network, None)(RUNS.fold("drop-given-up").verdict()));
    assert!(failed(ErrorClass::AgentMissing, None)(RUNS.fold("unknown-agent").verdict()));
    assert!(failed(ErrorClass::Other, None)(RUNS.fold("unknown-model").verdict()));
    assert!(failed(ErrorClass::Other, None)(RUNS.fold("cut-by-length").verdict()));
    assert!(failed(ErrorClass::Other, None)(RUNS.fold("content-filter").verdict()));
}

#[test]
fn loops_show() {
    assert_eq!(
        RUNS.fold("garbage").barren_steps,
        6,
        "seven turns were begun, the last one may still bring something"
    );
    assert_eq!(RUNS.fold("same-tool-loop").barren_steps, 0);
    assert!(RUNS.fold("unknown-tool-loop").failed_calls >= 4);
}

fn errors(line: &str) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    let mut parser = Parser::new(Grammar::Opencode);
    parser.feed(line.as_bytes(), &mut |_, event| events.push(event));
    parser.finish(&mut |_, event| events.push(event));
    events
}

/// Answers of providers that the scripted model does not give; shapes from their documentation.
#[test]
fn other_limits() {
    let record = |headers: &str, body: &str| {
        let body = serde_json::to_string(body).unwrap();
        format!(
            r#"{{"type":"error","timestamp":1000,"error":{{"name":"APIError","data":{{"message":"m","statusCode":429,"responseHeaders":{headers},"responseBody":{body}}}}}}}"#
        )
    };
    let cases = [
        (
            "{}",
            r#"{"error":{"code":"1308","message":"Your limit will reset at 2026-11-21 12:00:00"}}"#,
            ErrorClass::Quota,
            None,
        ),
        ("{}", r#"{"error":{"code":1302,"message":"x"}}"#, ErrorClass::RateLimit, None),
        ("{}", r#"{"error":{"code":"1312","message":"x"}}"#, ErrorClass::Capacity, None),
        (
            "{}",
            r#"{"error":{"type":"usage_limit_reached","resets_at":1777936568}}"#,
            ErrorClass::Quota,
            Some(1_777_936_568_000),
        ),
        (r#"{"retry-after":"7"}"#, "<html>", ErrorClass::RateLimit, Some(8000)),
        (r#"{"retry-after":"Sat, 21 Nov 2026 08:00:00 GMT"}"#, "", ErrorClass::RateLimit, None),
    ];
    for (headers, body, class, until_ms) in cases {
        let expected = [
            AgentEvent::RateLimited { until_ms },
            AgentEvent::Error { class, status: Some(429), message: "m".into() },
        ];
        assert_eq!(errors(&record(headers, body)), expected, "{body}");
    }
}

#[test]
fn odd_records() {
    assert_eq!(
        errors(r#"{"type":"error","error":"boom"}"#),
        [AgentEvent::Error { class: ErrorClass::Other, status: None, message: String::new() }]
    );
    assert_eq!(
        errors(
            r#"{"type":"error","error":{"name":"MessageAbortedError","data":{"message":"Aborted\nnow"}}}"#
        ),
        [AgentEvent::Error { class: ErrorClass::Aborted, status: None, message: "Aborted now".into() }]
    );
    assert_eq!(
        errors(r#"{"type":"error","error":{"name":"ServerLost","data":{"message":"Peer disconnected"}}}"#),
        [AgentEvent::Error { class: ErrorClass::Network, status: None, message: "Peer disconnected".into() }]
    );
    // Of OpenCode 1.18.33 attached to a server that was killed.
    assert_eq!(
        errors(
            r#"{"type":"error","error":{"code":"ECONNRESET","path":"http://127.0.0.1:1/session/s/message","errno":0}}"#
        ),
        [AgentEvent::Error { class: ErrorClass::Network, status: None, message: "ECONNRESET".into() }]
    );
    assert_eq!(errors(r#"{"type":"step_finish","part":[1]}"#), []);
    let rule = r#"{"type":"tool_use","part":{"tool":"edit","callID":"c","state":{"status":"error","input":{"filePath":"/x"},"error":"The user has specified a rule which prevents you from using this specific tool call."}}}"#;
    assert_eq!(errors(rule)[0], AgentEvent::PermissionRefused { what: "edit /x".into() });
}

/// As a run in a sandbox told it, once by the tool that writes files and once by the shell, whose words are no evidence.
#[test]
fn a_write_that_the_system_refused_is_told_with_its_path() {
    let line = |tool: &str, state: &str| {
        format!(
            r#"{{"type":"tool_use","timestamp":1,"sessionID":"s","part":{{"type":"tool","tool":"{tool}","callID":"c","state":{state}}}}}"#
        )
    };
    let error = |text: &str| {
        format!(r#"{{"status":"error","input":{{"content":"x","filePath":"/h/f"}},"error":"{text}"}}"#)
    };
    let text = [
        line("write", &error("PermissionDenied: FileSystem.writeFile (/h/f)")),
        line("edit", &error("EACCES: permission denied, open '/h/f'")),
        line("write", &error("The user rejected permission to use this specific tool call. EACCES")),
        line("write", &error("the file was changed meanwhile")),
        line("read", &error("EACCES: permission denied, open '/h/f'")),
        line(
            "bash",
            r#"{"status":"completed","input":{"command":"echo > /h/f"},"output":"/h/f: Permission denied"}"#,
        ),
    ]
    .join("\n");
    let mut parser = Parser::new(Grammar::Opencode);
    let mut events = Vec::new();
    parser.feed(format!("{text}\n").as_bytes(), &mut |_, event| events.push(event));
    let told = |event: &&AgentEvent| matches!(event, AgentEvent::WriteRefused { path, .. } if path == "/h/f");
    assert_eq!(events.iter().filter(told).count(), 2, "{events:?}");
    let mut summary = Summary::new(Grammar::Opencode);
    for event in &events {
        summary.apply(event);
    }
    assert_eq!(summary.writes_refused, ["/h/f"]);
}

/// As a driver of ours prints it: what a server says of a session that is silent.
#[test]
fn a_servers_word_on_a_session_is_work_or_a_wait() {
    let told = |status: &str| {
        let line = format!(
            r#"{{"type":"session_status","timestamp":1000,"sessionID":"s","status":{status}}}{}"#,
            "\n"
        );
        let mut events = Vec::new();
        Parser::new(Grammar::Opencode).feed(line.as_bytes(), &mut |_, event| events.push(event));
        assert!(matches!(events.remove(0), AgentEvent::Started { .. }));
        events
    };
    assert_eq!(told(r#"{"type":"busy"}"#), [AgentEvent::Working]);
    let limit = r#"{"type":"retry","attempt":1,"message":"Rate Limited","next":87401000}"#;
    assert_eq!(told(limit), [AgentEvent::RateLimited { until_ms: Some(87_401_000) }]);
    let retry = r#"{"type":"retry","attempt":2,"message":"Bad\nGateway","next":5000}"#;
    let message = "Bad Gateway".to_owned();
    let waits = AgentEvent::Retrying { attempt: 2, delay_ms: Some(4000), status: None, message };
    assert_eq!(told(retry), [waits]);
    assert_eq!(told(r#"{"type":"idle"}"#), []);
    assert_eq!(told("[1]"), []);
}
