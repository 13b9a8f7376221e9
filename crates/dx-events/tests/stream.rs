//! Whatever bytes arrive in whatever pieces: no panic, the same events, bounded strings.
#![allow(clippy::unwrap_used)]

mod invariants;

use dx_events::{Grammar, MESSAGE_MAX, Parser};
use dx_protocol::AgentEvent;
use invariants::{mask_holds, parse, parsers_hold, recorded_lines};
use proptest::prelude::*;

fn check(bytes: &[u8], cuts: &[prop::sample::Index]) {
    let cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    parsers_hold(bytes, &cuts);
    mask_holds(bytes, &cuts);
}

/// One line: recorded, recorded and cut, or garbage.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(recorded_lines());
    let garbage = proptest::collection::vec(any::<u8>(), 0..60);
    let cut = (line.clone(), any::<prop::sample::Index>()).prop_map(|(mut line, at)| {
        line.truncate(at.index(line.len() + 1));
        line
    });
    let spoilt =
        (line.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut line, at, byte)| {
            if !line.is_empty() {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        });
    prop_oneof![4 => line, 1 => garbage, 1 => cut, 2 => spoilt]
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400), cuts: [prop::sample::Index; 6]) {
        check(&bytes, &cuts);
    }

    #[test]
    fn damaged_streams(lines in proptest::collection::vec(any_line(), 0..12), cuts: [prop::sample::Index; 8]) {
        check(&lines.join(&b'\n'), &cuts);
    }

    #[test]
    fn a_reader_may_start_at_any_reported_line(lines in proptest::collection::vec(any_line(), 1..8), at: prop::sample::Index) {
        let bytes = lines.join(&b'\n');
        let (events, ..) = parse(Grammar::Text, [&bytes[..]]);
        prop_assume!(!events.is_empty());
        let start = events[at.index(events.len())].0;
        let mut parser = Parser::new(Grammar::Text);
        parser.resync(start);
        let mut rest = Vec::new();
        parser.feed(&bytes[start as usize..], &mut |offset, event| rest.push((offset, event)));
        parser.finish(&mut |offset, event| rest.push((offset, event)));
        prop_assert_eq!(rest, events.into_iter().filter(|(o, _)| *o >= start).collect::<Vec<_>>());
    }
}

#[test]
fn huge_tool_output_is_still_read() {
    let line = format!(
        r#"{{"type":"tool_use","part":{{"tool":"write","callID":"c","state":{{"status":"completed","input":{{"content":"{}","filePath":"/w/a"}}}}}}}}"#,
        "x\\n".repeat(1 << 20)
    );
    let (events, offset, unparsed) = parse(Grammar::Opencode, line.as_bytes().chunks(7000));
    assert_eq!((offset, unparsed), (line.len() as u64, 0));
    assert_eq!(events[1].1, AgentEvent::FileChanged { path: "/w/a".into() });
}

#[test]
fn a_patch_of_many_files_is_still_read() {
    let file = |n| format!(r#"{{"filePath":"/w/{n}","patch":"{}"}}"#, "+x\\n".repeat(3000));
    let files: Vec<String> = (0..60).map(file).collect();
    let line = format!(
        r#"{{"type":"tool_use","part":{{"tool":"apply_patch","callID":"c","state":{{"status":"completed","metadata":{{"files":[{}]}}}}}}}}"#,
        files.join(",")
    );
    let (events, _, unparsed) = parse(Grammar::Opencode, line.as_bytes().chunks(999));
    assert_eq!((events.len(), unparsed), (61, 0));
}

#[test]
fn a_line_that_is_too_long_is_counted_and_skipped() {
    let line = format!("[{}]\n{{\"type\":\"step_start\"}}\n", "1,".repeat(1 << 20));
    let (events, _, unparsed) = parse(Grammar::Opencode, line.as_bytes().chunks(5000));
    assert_eq!(unparsed, 1);
    assert_eq!(events, [((2 << 20) + 3, AgentEvent::StepStarted)]);
}

#[test]
fn truncation_drops_the_unfinished_line() {
    let mut parser = Parser::new(Grammar::Opencode);
    let mut events = Vec::new();
    parser.feed(b"{\"type\":\"step_start\"}\n{\"type\":\"te", &mut |o, e| events.push((o, e)));
    assert_eq!((parser.offset(), parser.line_offset()), (33, 22));
    parser.resync(0);
    parser.feed(b"{\"type\":\"step_start\"}\n", &mut |o, e| events.push((o, e)));
    assert_eq!(events, [(0, AgentEvent::StepStarted), (0, AgentEvent::StepStarted)]);
    assert_eq!(parser.unparsed(), 0);
}

#[test]
fn readers_for_people_get_longer_text() {
    let line = format!(r#"{{"type":"text","part":{{"text":"a\nb{}"}}}}"#, "é".repeat(5000));
    let text = |max| {
        let mut parser = Parser::with_text_max(Grammar::Opencode, max);
        let mut texts = Vec::new();
        parser.feed(line.as_bytes(), &mut |_, event| texts.push(event));
        parser.finish(&mut |_, event| texts.push(event));
        let Some(AgentEvent::Text { text }) = texts.pop() else { panic!("no text") };
        text
    };
    assert_eq!(text(MESSAGE_MAX).len(), 499);
    assert_eq!(text(20_000).len(), 10_003);
}
