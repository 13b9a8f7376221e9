//! Snapshots of what every recorded Codex run means: its events, its verdict, its transcript.
#![allow(clippy::unwrap_used)]

mod recorded;

use dx_events::{Grammar, ProviderVerdict, Waiting};
use dx_protocol::{AgentEvent, ErrorClass};
use recorded::Recorded;

const RUNS: Recorded = Recorded { grammar: Grammar::Codex, folder: "codex/0.169.0" };

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
        "apply-patch",
        "edit",
        "text-only",
        "empty",
        "bash-ok",
        "bash-fail",
        "read-missing",
        "read-only",
        "multi-tool",
        "unknown-tool",
        "question",
        "patch-does-not-fit",
        "patch-system-refuses",
        "retry-defaults-429-then-ok",
        // It warns with an item of the type `error`.
        "unknown-metadata",
    ] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::Ok, "{case}");
    }
    for case in ["hang", "hang-stream", "tool-killed", "unreachable-unbounded"] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::NoResult, "{case}");
    }
    // Told on stderr alone, whatever the result says of success.
    for (case, what) in [
        (
            "rule-forbids",
            "`/bin/bash -lc 'touch a.txt'` rejected: policy forbids commands starting with `touch`",
        ),
        ("rule-asks", "approval required by policy, but AskForApproval is set to Never"),
        (
            "patch-outside",
            "patch rejected: writing outside of the project; rejected by user approval settings",
        ),
    ] {
        let summary = RUNS.fold(case);
        assert!(summary.last_result.as_ref().is_some_and(|r| r.ok), "{case}");
        assert_eq!(summary.verdict(), ProviderVerdict::Refused { what: what.to_owned() }, "{case}");
    }
    let failures = [
        ("http-400", ErrorClass::Other, None),
        ("http-401", ErrorClass::Auth, Some(401)),
        ("http-401-default-retries", ErrorClass::Auth, Some(401)),
        ("http-403", ErrorClass::Auth, Some(403)),
        ("no-key", ErrorClass::Auth, None),
        ("http-404", ErrorClass::ModelUnavailable, None),
        ("http-500", ErrorClass::Server, None),
        ("http-503", ErrorClass::Server, Some(503)),
        ("http-529", ErrorClass::Capacity, Some(529)),
        ("429-rate", ErrorClass::RateLimit, Some(429)),
        // It hands on no word of what the API said.
        ("429-capacity", ErrorClass::RateLimit, Some(429)),
        ("429-quota", ErrorClass::Quota, None),
        ("429-plan", ErrorClass::Quota, None),
        ("garbage", ErrorClass::Server, None),
        ("garbage-after-tool", ErrorClass::Server, None),
        ("drop", ErrorClass::Network, None),
        ("unreachable", ErrorClass::Network, None),
    ];
    for (case, class, status) in failures {
        let verdict = RUNS.fold(case).verdict();
        let fits = matches!(&verdict, ProviderVerdict::Failed { class: c, status: s, .. } if (*c, *s) == (class, status));
        assert!(fits, "{case}: {verdict:?}");
    }
}

#[test]
fn a_retry_without_end_is_told_as_one() {
    let summary = RUNS.fold("unreachable-unbounded");
    assert!(matches!(summary.waiting, Waiting::Retry { attempt: 0, .. }), "{:?}", summary.waiting);
    assert_eq!(summary.last_error, None);
}

#[test]
fn a_file_that_the_system_refused_is_told() {
    assert_eq!(RUNS.fold("patch-system-refuses").writes_refused, ["/sys/outside.txt"]);
    assert_eq!(RUNS.fold("apply-patch").files_changed, 2);
}

/// What the recorded runs have not; shapes from the sources of `codex exec`.
#[test]
fn other_items_and_failures() {
    let events = |lines: &str| {
        let (events, unparsed) = RUNS.parse(lines.as_bytes());
        assert_eq!(unparsed, 0, "{lines}");
        events.into_iter().map(|(_, event)| event).collect::<Vec<_>>()
    };
    let mcp = r#"{"type":"item.completed","item":{"id":"item_1","type":"mcp_tool_call","server":"s","tool":"ping","status":"failed","error":{"message":"tool call requires approval, but approval policy is never"}}}"#;
    assert_eq!(
        events(mcp),
        [
            AgentEvent::PermissionRefused { what: "s.ping".to_owned() },
            AgentEvent::ToolFinished { call: "item_1".to_owned(), name: "s.ping".to_owned(), ok: false }
        ]
    );
    let declined = r#"{"type":"item.completed","item":{"id":"i","type":"command_execution","command":"rm x","status":"declined"}}"#;
    assert_eq!(
        events(declined)[0],
        AgentEvent::PermissionRefused { what: "command_execution rm x".to_owned() }
    );
    // Tokens are told for the session so far.
    let two = concat!(
        r#"{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":40,"output_tokens":10}}"#,
        "\n",
        r#"{"type":"turn.completed","usage":{"input_tokens":150,"cached_input_tokens":60,"output_tokens":15}}"#
    );
    let usage: Vec<_> = events(two)
        .into_iter()
        .filter_map(|event| if let AgentEvent::Usage(usage) = event { Some(usage) } else { None })
        .map(|usage| (usage.input_tokens, usage.cached_tokens, usage.output_tokens))
        .collect();
    assert_eq!(usage, [(60, 40, 10), (30, 20, 5)]);
    for (message, class) in [
        ("Selected model is at capacity. Please try a different model.", ErrorClass::Capacity),
        (
            r#"{\"detail\":\"The 'x' model is not supported when using Codex with a ChatGPT account.\"}"#,
            ErrorClass::ModelUnavailable,
        ),
        (r#"{\"error\":{\"code\":\"model_not_found\"}}"#, ErrorClass::ModelUnavailable),
        ("unexpected status 404 Not Found: nothing here, url: http://h/v2", ErrorClass::Other),
        ("Your access token could not be refreshed. Please log out and sign in again.", ErrorClass::Auth),
        ("something new", ErrorClass::Other),
    ] {
        let line = format!(r#"{{"type":"turn.failed","error":{{"message":"{message}"}}}}"#);
        let told = events(&line).into_iter().find_map(|event| match event {
            AgentEvent::Error { class, .. } => Some(class),
            _ => None,
        });
        assert_eq!(told, Some(class), "{message}");
    }
    let (_, unparsed) = RUNS.parse(br#"{"type":"item.completed","item":{"type":"new_kind"}}"#);
    assert_eq!(unparsed, 1);
}
