//! Snapshots of what every recorded OpenCode run means: its events, its verdict, its transcript.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dx_events::{Grammar, Parser, ProviderVerdict, Summary, render, stderr_event};
use dx_protocol::{AgentEvent, ErrorClass};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/opencode/1.18.33");

fn read(case: &str) -> (Vec<(u64, AgentEvent)>, Vec<AgentEvent>, u64) {
    let out = fs::read(Path::new(FIXTURES).join(format!("{case}.out"))).unwrap();
    let err = fs::read_to_string(Path::new(FIXTURES).join(format!("{case}.err"))).unwrap_or_default();
    let mut parser = Parser::new(Grammar::Opencode);
    let mut events = Vec::new();
    let mut sink = |offset, event| events.push((offset, event));
    parser.feed(&out, &mut sink);
    parser.finish(&mut sink);
    assert_eq!(parser.offset(), out.len() as u64);
    (events, err.lines().filter_map(|l| stderr_event(Grammar::Opencode, l)).collect(), parser.unparsed())
}

fn fold(case: &str) -> Summary {
    let (events, stderr, _) = read(case);
    let mut summary = Summary::new(Grammar::Opencode);
    events.iter().map(|(_, e)| e).chain(&stderr).for_each(|e| summary.apply(e));
    // The order of the two streams must not matter for the verdict.
    let mut reversed = Summary::new(Grammar::Opencode);
    stderr.iter().chain(events.iter().map(|(_, e)| e)).for_each(|e| reversed.apply(e));
    assert_eq!(summary.verdict(), reversed.verdict());
    let json = serde_json::to_string(&summary).unwrap();
    assert_eq!(serde_json::from_str::<Summary>(&json).unwrap(), summary);
    summary
}

fn describe(case: &str) -> String {
    let (events, stderr, unparsed) = read(case);
    let mut text = String::new();
    for (offset, event) in &events {
        writeln!(text, "{offset} {}", serde_json::to_string(event).unwrap()).unwrap();
    }
    for event in &stderr {
        writeln!(text, "stderr {}", serde_json::to_string(event).unwrap()).unwrap();
    }
    let summary = fold(case);
    writeln!(
        text,
        "unparsed {unparsed}, barren {}, failed calls {}",
        summary.barren_steps, summary.failed_calls
    )
    .unwrap();
    writeln!(text, "waiting {}", serde_json::to_string(&summary.waiting).unwrap()).unwrap();
    writeln!(text, "verdict {}", serde_json::to_string(&summary.verdict()).unwrap()).unwrap();
    writeln!(text, "--- transcript").unwrap();
    for line in events.iter().map(|(_, e)| e).chain(&stderr).filter_map(render) {
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn every_recorded_run() {
    let mut cases: Vec<String> = fs::read_dir(FIXTURES)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".out").map(str::to_owned))
        .collect();
    cases.sort();
    assert!(cases.len() > 30, "{cases:?}");
    for case in cases {
        insta::assert_snapshot!(case.clone(), describe(&case));
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
        assert_eq!(fold(case).verdict(), ProviderVerdict::Ok, "{case}");
    }
    for case in ["hang", "hang-stream", "drop", "garbage", "tool-killed", "same-tool-loop"] {
        assert_eq!(fold(case).verdict(), ProviderVerdict::NoResult, "{case}");
    }
    for case in ["permission-refused", "permission-ask-bash"] {
        assert!(matches!(fold(case).verdict(), ProviderVerdict::Refused { .. }), "{case}");
    }
    assert!(failed(ErrorClass::Auth, Some(401))(fold("http-401").verdict()));
    assert!(failed(ErrorClass::Auth, Some(403))(fold("http-403").verdict()));
    assert!(failed(ErrorClass::ModelUnavailable, Some(404))(fold("http-404").verdict()));
    assert!(failed(ErrorClass::Server, Some(500))(fold("http-500").verdict()));
    assert!(failed(ErrorClass::RateLimit, Some(429))(fold("429-rate").verdict()));
    assert!(failed(ErrorClass::Quota, Some(429))(fold("429-quota").verdict()));
    assert!(failed(ErrorClass::Capacity, Some(429))(fold("429-capacity").verdict()));
    assert!(failed(ErrorClass::Network, None)(fold("unreachable").verdict()));
    assert!(failed(ErrorClass::Network, None)(fold("drop-given-up").verdict()));
    assert!(failed(ErrorClass::AgentMissing, None)(fold("unknown-agent").verdict()));
    assert!(failed(ErrorClass::Other, None)(fold("unknown-model").verdict()));
    assert!(failed(ErrorClass::Other, None)(fold("cut-by-length").verdict()));
    assert!(failed(ErrorClass::Other, None)(fold("content-filter").verdict()));
}

#[test]
fn loops_show() {
    assert_eq!(
        fold("garbage").barren_steps,
        6,
        "seven turns were begun, the last one may still bring something"
    );
    assert_eq!(fold("same-tool-loop").barren_steps, 0);
    assert!(fold("unknown-tool-loop").failed_calls >= 4);
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
