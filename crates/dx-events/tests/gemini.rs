//! Snapshots of what every recorded run of Gemini CLI means: its events, its verdict, its transcript.
#![allow(clippy::unwrap_used)]

mod recorded;

use dx_events::{Grammar, ProviderVerdict, Summary, Waiting};
use dx_protocol::{AgentEvent, ErrorClass};
use recorded::Recorded;

const RUNS: Recorded = Recorded { grammar: Grammar::Gemini, folder: "gemini/0.61.0" };

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
        "fail-text",
        "read-missing",
        "unknown-tool",
        "edit",
        "text-only",
    ] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::Ok, "{case}");
    }
    // Each of these exits with 0.
    for case in ["hang", "hang-interrupted", "hang-stream", "tool-killed"] {
        assert_eq!(RUNS.fold(case).verdict(), ProviderVerdict::NoResult, "{case}");
    }
    // Each of these is called a success.
    for (case, what) in [
        ("permission-refused", "write_file /elsewhere/outside.txt"),
        ("permission-no-yolo", "write_file a.txt"),
        ("permission-no-yolo-shell", "run_shell_command echo x"),
    ] {
        let summary = RUNS.fold(case);
        assert!(summary.last_result.as_ref().is_some_and(|r| r.ok), "{case}");
        assert_eq!(summary.verdict(), ProviderVerdict::Refused { what: what.to_owned() }, "{case}");
    }
    let failures = [
        ("http-400", ErrorClass::Other, Some(400)),
        ("http-401", ErrorClass::Auth, Some(401)),
        ("http-403", ErrorClass::Auth, Some(403)),
        ("http-404", ErrorClass::ModelUnavailable, None),
        ("http-500", ErrorClass::Server, Some(500)),
        ("http-503", ErrorClass::Server, None),
        ("429-rate", ErrorClass::RateLimit, Some(429)),
        ("429-rate-day", ErrorClass::RateLimit, Some(429)),
        ("429-quota", ErrorClass::Quota, Some(429)),
        ("429-capacity", ErrorClass::Capacity, Some(429)),
        ("garbage", ErrorClass::Server, None),
        ("garbage-after-tool", ErrorClass::Server, None),
        ("drop", ErrorClass::Network, None),
        ("unreachable", ErrorClass::Network, None),
        ("no-trust", ErrorClass::UntrustedDirectory, None),
        ("no-auth", ErrorClass::AuthMissing, None),
        ("no-key", ErrorClass::AuthMissing, None),
        ("empty", ErrorClass::Other, None),
        // Called a success, too.
        ("loop", ErrorClass::Other, None),
    ];
    for (case, class, status) in failures {
        let verdict = RUNS.fold(case).verdict();
        let fits = matches!(&verdict, ProviderVerdict::Failed { class: c, status: s, .. } if (*c, *s) == (class, status));
        assert!(fits, "{case}: {verdict:?}");
    }
}

#[test]
fn a_call_that_is_tried_again_is_told_with_its_wait() {
    let told: Vec<(u32, Option<u64>, Option<u16>)> =
        ["429-then-ok", "429-capacity", "http-500", "unreachable"]
            .into_iter()
            .flat_map(|case| RUNS.read(case).1.into_iter().take(2))
            .filter_map(|event| match event {
                AgentEvent::Retrying { attempt, delay_ms, status, .. } => Some((attempt, delay_ms, status)),
                _ => None,
            })
            .collect();
    let wait = |case: &str| {
        let mut summary = Summary::new(Grammar::Gemini);
        RUNS.read(case).1.iter().for_each(|event| summary.apply(event));
        summary.waiting
    };
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!([told[0], told[1]], [(1, None, Some(429)), (0, Some(5059), Some(429))]);
    assert_eq!([told[2], told[3]], [(1, Some(1023), Some(429)), (2, Some(3539), Some(429))]);
    assert_eq!([told[4], told[6]], [(1, None, Some(500)), (1, None, None)]);
    assert!(matches!(wait("429-then-ok"), Waiting::Retry { delay_ms: Some(11_356), .. }));
}

#[test]
fn words_become_lines_again() {
    let texts = |case: &str| -> Vec<String> {
        let text = |event| if let AgentEvent::Text { text } = event { Some(text) } else { None };
        RUNS.read(case).0.into_iter().filter_map(|(_, event)| text(event)).collect()
    };
    assert_eq!(texts("text-only"), ["Just an answer, over", "two lines."]);
    assert_eq!(texts("hang-stream"), ["partial answer"]);
    // However long a line, and in whatever pieces.
    let piece =
        r#"{"type":"message","role":"assistant","content":"ab\u00e9","delta":true}"#.to_owned() + "\n";
    let (events, unparsed) = RUNS.parse(piece.repeat(1000).as_bytes());
    let AgentEvent::Text { text } = &events[1].1 else { panic!("{events:?}") };
    assert_eq!((events.len(), text.len(), unparsed), (2, 500, 0));
    assert!(text.starts_with("abéabé"));
}
