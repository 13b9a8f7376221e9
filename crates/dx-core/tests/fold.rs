//! Properties of the fold and the outcome: any sequence of events folds, the end absorbs, and settling is repeatable.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{created, exit, identity, record, report};
use dx_core::{Phase, decide, fold};
use dx_protocol::{
    AgentEvent, Confinement, Ending, ErrorClass, Event, Exit, OutcomeState, ProviderVerdict, ReasonCode,
    Record, Sandbox, Settled, WorkReport,
};
use proptest::prelude::*;

fn verdict() -> impl Strategy<Value = ProviderVerdict> {
    prop_oneof![
        Just(ProviderVerdict::Ok),
        Just(ProviderVerdict::NoResult),
        Just(ProviderVerdict::NotApplicable),
        Just(ProviderVerdict::Refused { what: "w".into() }),
        Just(ProviderVerdict::Failed { class: ErrorClass::Auth, status: Some(401), message: "m".into() }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Created(Box::new(created()))),
        any::<bool>().prop_map(|adopted| Event::MonitorStarted { monitor: identity(2), adopted }),
        Just(Event::AgentStarted { agent: identity(3) }),
        Just(Event::SpawnFailed { errno: 2, message: "no such file".into() }),
        (any::<u32>()).prop_map(|o| Event::Agent { offset: o.into(), event: AgentEvent::StepStarted }),
        Just(Event::LogTruncated { lost_bytes: u64::MAX }),
        Just(Event::EventsCapped),
        Just(Event::LogGap { offset: 1, at_most_bytes: 1 }),
        Just(Event::LauncherLost { guard: None }),
        Just(Event::Ending(Ending {
            reason: ReasonCode::ManualStop,
            exit_code: None,
            grace_ms: 1,
            note: None
        })),
        (prop::option::of(0..256i32), 0..50u64).prop_map(|(code, n)| Event::ProcessEnded {
            exit: code.map(|c| exit(c, n)),
            unseen: None,
            strays: 0,
            log_bytes: 0,
            cpu_ms: 0,
            rc_file: code.filter(|c| c % 2 == 0),
        }),
        verdict().prop_map(|v| Event::Settled(Settled::Provider(report(v)))),
        any::<bool>()
            .prop_map(|known| Event::Settled(Settled::Work(WorkReport { known, ..WorkReport::default() }))),
        Just(Event::Blocked { reason: ReasonCode::MaxRetriesExhausted, note: None }),
        Just(Event::Unknown),
    ]
}

fn records(events: Vec<Event>) -> Vec<Record> {
    let first = Event::Created(Box::new(created()));
    std::iter::once(first).chain(events).enumerate().map(|(n, e)| record(n as u64, e)).collect()
}

proptest! {
    #[test]
    fn any_sequence_folds_and_splits_anywhere(events in prop::collection::vec(event(), 0..30), cut in 0..30usize) {
        let all = records(events);
        let whole = fold(&all).unwrap();
        let cut = cut.min(all.len() - 1) + 1;
        let mut parts = fold(&all[..cut]).unwrap();
        for r in &all[cut..] {
            if parts.apply(r).is_err() {
                parts.illegal += 1;
            }
        }
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(decide(&whole).is_some(), whole.phase >= Phase::ProcessEnded);
    }

    #[test]
    fn the_end_absorbs_everything_but_blocked(
        before in prop::collection::vec(event(), 0..10),
        after in prop::collection::vec(event(), 0..10),
    ) {
        let mut run = fold(&records(before)).unwrap();
        prop_assume!(run.phase == Phase::ProcessEnded);
        let outcome = decide(&run).unwrap();
        run.apply(&record(99, Event::Ended(Box::new(outcome.clone())))).unwrap();
        for e in after {
            let blocked = matches!(e, Event::Blocked { .. } | Event::Unknown);
            prop_assert_eq!(run.apply(&record(100, e)).is_ok(), blocked);
        }
        prop_assert_eq!(run.phase, Phase::Ended);
        prop_assert_eq!(run.outcome.as_ref(), Some(&outcome));
        run.blocked = None;
        prop_assert_eq!(decide(&run).unwrap(), outcome, "settling again decides the same");
    }

    #[test]
    fn success_needs_process_and_provider_to_agree(code in prop::option::of(0..256i32), v in verdict()) {
        let events = vec![
            Event::AgentStarted { agent: identity(3) },
            Event::ProcessEnded { exit: code.map(|c| exit(c, 3)), unseen: None, strays: 0, log_bytes: 0, cpu_ms: 0, rc_file: None },
            Event::Settled(Settled::Provider(report(v.clone()))),
        ];
        let outcome = decide(&fold(&records(events)).unwrap()).unwrap();
        let agree = code == Some(0) && matches!(v, ProviderVerdict::Ok | ProviderVerdict::NotApplicable);
        prop_assert_eq!(outcome.state == OutcomeState::Success, agree);
        if code.is_none() && !matches!(v, ProviderVerdict::Failed { .. }) {
            prop_assert_eq!(outcome.reason_code, ReasonCode::LateFinalizeNoRc);
        }
        prop_assert_eq!(outcome.exit_code == "-", code.is_none());
    }
}

#[test]
fn an_agent_that_ended_before_we_decided_ended_by_itself() {
    let ending = Ending { reason: ReasonCode::ManualStop, exit_code: None, grace_ms: 1, note: None };
    let ended = |n| Event::ProcessEnded {
        exit: Some(exit(0, n)),
        unseen: None,
        strays: 0,
        log_bytes: 0,
        cpu_ms: 0,
        rc_file: None,
    };
    let outcome = |n| {
        let told = Event::Settled(Settled::Provider(report(ProviderVerdict::Ok)));
        let begun = Event::AgentStarted { agent: identity(3) };
        let events = vec![begun, Event::Ending(ending.clone()), ended(n), told];
        decide(&fold(&records(events)).unwrap()).unwrap()
    };
    assert_eq!(outcome(1).state, OutcomeState::Success, "decided at 2, ended at 1");
    let stopped = outcome(3);
    assert_eq!((stopped.state, stopped.exit_code.as_str()), (OutcomeState::Killed, "137"));
    assert_eq!(stopped.exit, Some(Exit::Code(0)), "what was seen is kept");
}

#[test]
fn an_agent_that_should_have_told_a_result_and_is_not_known_to_have_is_no_success() {
    let ended = Event::ProcessEnded {
        exit: Some(exit(0, 2)),
        unseen: None,
        strays: 0,
        log_bytes: 0,
        cpu_ms: 0,
        rc_file: None,
    };
    let failed = Event::Settled(Settled::Failed { message: "the settler died".into() });
    let events = vec![Event::AgentStarted { agent: identity(3) }, ended, failed];
    let outcome = decide(&fold(&records(events)).unwrap()).unwrap();
    assert_eq!((outcome.state, outcome.reason_code), (OutcomeState::Failed, ReasonCode::ProviderNoResult));
}

#[test]
fn a_refused_write_is_the_sandboxs_doing_only_outside_of_one_and_never_a_failure() {
    let outcome = |sandbox: Sandbox| {
        let mut refused = report(ProviderVerdict::Ok);
        refused.writes_refused = vec!["/w/a".into(), "/home/b".into(), "/wide/c".into()];
        let ended = Event::ProcessEnded {
            exit: Some(exit(0, 2)),
            unseen: None,
            strays: 0,
            log_bytes: 0,
            cpu_ms: 0,
            rc_file: None,
        };
        let told = Event::Settled(Settled::Provider(refused));
        let mut run = fold(&records(vec![Event::AgentStarted { agent: identity(3) }, ended, told])).unwrap();
        run.created.contract.sandbox = sandbox;
        decide(&run).unwrap()
    };
    let strict = Sandbox { mode: Confinement::Strict, writable: vec!["/w".into()], ..Sandbox::default() };
    let end = outcome(strict);
    assert_eq!(end.state, OutcomeState::Success);
    assert_eq!(end.work.findings.len(), 1);
    assert_eq!(end.work.findings[0].reason_code, ReasonCode::SandboxDenied);
    assert_eq!(end.work.findings[0].names, ["/home/b", "/wide/c"]);
    assert!(outcome(Sandbox::none(Confinement::Off, "asked")).work.findings.is_empty());
}

#[test]
fn an_error_that_is_not_the_reason_is_told_beside_it() {
    let failed =
        ProviderVerdict::Failed { class: ErrorClass::Auth, status: Some(401), message: "no key".into() };
    let ending = |reason| Event::Ending(Ending { reason, exit_code: None, grace_ms: 1, note: None });
    let ended = |code| Event::ProcessEnded {
        exit: Some(exit(code, 9)),
        unseen: None,
        strays: 0,
        log_bytes: 0,
        cpu_ms: 0,
        rc_file: None,
    };
    let outcome = |events: Vec<Event>| decide(&fold(&records(events)).unwrap()).unwrap();
    let told = Event::Settled(Settled::Provider(report(failed)));
    let limit = outcome(vec![ending(ReasonCode::MaxRuntimeExceeded), ended(143), told.clone()]);
    assert_eq!(limit.reason_code, ReasonCode::MaxRuntimeExceeded);
    assert_eq!(limit.trouble.map(|trouble| trouble.class), Some(ErrorClass::Auth));
    assert_eq!(limit.detail, "the agent was still told no key (401)");
    let own = outcome(vec![ended(1), told]);
    assert_eq!((own.trouble, own.detail.as_str()), (None, "no key"), "it is the reason");
}
