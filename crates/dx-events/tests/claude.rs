//! Snapshots of what every recorded Claude Code run means: its events, its verdict, its transcript.
#![allow(clippy::unwrap_used)]

mod recorded;

use dx_events::{Grammar, Parser, ProviderVerdict};
use dx_protocol::{AgentEvent, ErrorClass};
use recorded::Recorded;

const RUNS: Recorded = Recorded { grammar: Grammar::Claude, folder: "claude/2.1.329" };

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
    for case in [
        "success-write",
        "bash-ok",
        "bash-fail",
        "429-then-ok",
        "empty",
        "read-missing",
        "unknown-tool",
        "edit",
        "text-only",
        "background-task",
        "subagent",
    ] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::Ok, "{case}");
    }
    for case in ["hang", "hang-stream", "tool-killed", "retrying"] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::NoResult, "{case}");
    }
    // Told once, though the stream tells it twice, and whatever the result says of success.
    for (case, count, what) in [
        ("permission-refused", 1, "Write /elsewhere/outside.txt"),
        ("permission-no-mode", 1, "Write /w/a.txt"),
        ("permission-dont-ask", 2, "Bash echo yes > b.txt"),
    ] {
        let summary = RUNS.fold(case);
        assert!(summary.last_result.as_ref().is_some_and(|r| r.ok), "{case}");
        assert_eq!(summary.permissions_refused, count, "{case}");
        assert_eq!(summary.verdict(), ProviderVerdict::Refused { what: what.to_owned() }, "{case}");
    }
    let failures = [
        ("http-400", ErrorClass::Other, Some(400)),
        ("http-401", ErrorClass::Auth, Some(401)),
        ("http-403", ErrorClass::Auth, Some(403)),
        ("http-404", ErrorClass::ModelUnavailable, Some(404)),
        ("http-500", ErrorClass::Server, Some(500)),
        ("http-529", ErrorClass::Capacity, Some(529)),
        ("not-logged-in", ErrorClass::Auth, None),
        ("429-rate", ErrorClass::RateLimit, Some(429)),
        ("429-quota", ErrorClass::Quota, Some(429)),
        ("429-quota-key", ErrorClass::Quota, Some(429)),
        ("429-capacity", ErrorClass::Capacity, Some(429)),
        ("garbage", ErrorClass::Server, None),
        ("garbage-after-tool", ErrorClass::Server, None),
        ("drop", ErrorClass::Network, None),
        ("unreachable", ErrorClass::Network, None),
        ("unknown-agent", ErrorClass::AgentMissing, None),
        ("max-turns", ErrorClass::Other, None),
    ];
    for (case, class, status) in failures {
        let verdict = RUNS.fold(case).verdict();
        let fits = matches!(&verdict, ProviderVerdict::Failed { class: c, status: s, .. } if (*c, *s) == (class, status));
        assert!(fits, "{case}: {verdict:?}");
    }
}

#[test]
fn what_it_was_trying_to_get_over_is_known() {
    let trouble = RUNS.fold("retrying").trouble().map(|trouble| (trouble.class, trouble.status));
    assert_eq!(trouble, Some((ErrorClass::Server, Some(500))));
    assert_eq!(RUNS.fold("429-then-ok").trouble(), None);
    assert_eq!(RUNS.fold("hang").trouble(), None);
}

#[test]
fn a_limit_with_a_known_end_tells_it() {
    let limits = |case: &str| {
        let told =
            |event| if let AgentEvent::RateLimited { until_ms } = event { Some(until_ms) } else { None };
        RUNS.read(case).0.into_iter().filter_map(|(_, event)| told(event)).collect::<Vec<_>>()
    };
    assert_eq!(limits("429-quota"), [Some(1_767_229_200_000)]);
    assert_eq!(limits("429-quota-key"), [None]);
    // Only its rejection is a limit.
    let (events, unparsed) = RUNS
        .parse(br#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","resetsAt":1}}"#);
    assert_eq!((events.len(), unparsed), (0, 0));
}

#[test]
fn cost_and_tokens_are_counted_once() {
    let usage = RUNS.fold("background-task").usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (300, 30));
    // Two results tell 0.0012 and 0.0018 for the session so far.
    assert!(usage.cost_usd.is_some_and(|cost| (cost - 0.0018).abs() < 1e-9), "{usage:?}");
    // Nine calls, of which six were those of subagents.
    let usage = RUNS.fold("subagent").usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (900, 90));
}

/// Results that the recorded runs have not; shapes from the documentation of the stream.
#[test]
fn other_results() {
    let last = |line: &str| RUNS.parse(line.as_bytes()).0.pop().unwrap().1;
    let not_ok = |detail: &str| AgentEvent::Result { ok: false, detail: detail.to_owned() };
    assert_eq!(
        last(r#"{"type":"result","subtype":"success","is_error":false,"result":"a"}"#),
        AgentEvent::Result { ok: true, detail: "a".to_owned() }
    );
    for (line, detail) in [
        (r#"{"type":"result","subtype":"success","is_error":true,"result":"boom"}"#, "boom"),
        (r#"{"type":"result","subtype":"error_max_budget_usd","is_error":false}"#, "error_max_budget_usd"),
        (r#"{"type":"result","is_error":false}"#, "unknown"),
        (
            r#"{"type":"result","subtype":"success","is_error":false,"stop_reason":"refusal"}"#,
            "the model stopped: refusal",
        ),
    ] {
        assert_eq!(last(line), not_ok(detail), "{line}");
    }
    let class = |line: &str| {
        let events = RUNS.parse(line.as_bytes()).0.into_iter();
        events
            .rev()
            .find_map(|(_, e)| if let AgentEvent::Error { class, .. } = e { Some(class) } else { None })
    };
    // Interrupted by a signal, it exits with 0.
    let line = r#"{"type":"result","subtype":"error_during_execution","is_error":true}"#;
    assert_eq!(class(line), Some(ErrorClass::Aborted));
    let lines = concat!(
        r#"{"type":"assistant","message":{"model":"<synthetic>","content":[]},"error":"billing_error"}"#,
        "\n",
        r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":400,"result":"x"}"#
    );
    assert_eq!(class(lines), Some(ErrorClass::Quota));
}

#[test]
fn older_versions_tell_refusals_only_in_the_result() {
    let line = r#"{"type":"result","subtype":"success","is_error":false,"permission_denials":[{"tool_name":"Write","tool_use_id":"t","tool_input":{"file_path":"/x"}}]}"#;
    assert_eq!(
        RUNS.parse(line.as_bytes()).0[0].1,
        AgentEvent::PermissionRefused { what: "Write /x".to_owned() }
    );
}

#[test]
fn a_write_that_the_kernel_refused_is_told_and_one_that_the_tool_refused_is_not() {
    let call = |id: &str, tool: &str| {
        format!(
            r#"{{"type":"assistant","message":{{"id":"m{id}","content":[{{"type":"tool_use","id":"{id}","name":"{tool}","input":{{"file_path":"/h/{id}"}}}}]}}}}"#
        )
    };
    let answer = |id: &str, content: &str, failed: bool| {
        format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"{id}","is_error":{failed},"content":{content}}}]}}}}"#
        )
    };
    let denied = r#""EACCES: permission denied, open '/h/f'""#;
    let text = [
        call("a", "Write"),
        answer("a", denied, true),
        call("b", "Edit"),
        answer("b", r#""File has not been read yet""#, true),
        call("c", "Read"),
        answer("c", denied, true),
        call("d", "Write"),
        answer("d", denied, false),
        call("e", "Write"),
        answer("e", &format!("[{{\"type\":\"text\",\"text\":{denied}}}]"), true),
    ]
    .join("\n");
    let mut parser = Parser::new(Grammar::Claude);
    let mut events = Vec::new();
    parser.feed(format!("{text}\n").as_bytes(), &mut |_, event| events.push(event));
    let refused: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::WriteRefused { path, .. } => Some(path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(refused, ["/h/a"], "{events:?}");
}
