//! The outcome as a table: what process, agent and gates make of an end, together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{created, exit, identity, record, report};
use dx_core::{Phase, check_is_due, commit_gate, decide, fold, gates_due};
use dx_protocol::{
    Created, Ending, Event, GATE_CHECK, GATE_COMMIT, GATE_REPOSITORY, GATE_SCOPE, GateReport, Gates,
    HeadMove, Outcome, OutcomeState, ProviderVerdict, ReasonCode, Settled, WorkReport,
};

/// A run of an agent that ended with `code`, told `verdict`, and was asked all gates; then the steps.
fn run(code: i32, verdict: ProviderVerdict, steps: Vec<Event>) -> dx_core::Run {
    let gates = Gates {
        required_baseline: None,
        require_commit: true,
        scope: vec!["src".into()],
        check: Some("make test".into()),
        ..Gates::default()
    };
    let created = created();
    let spec = dx_protocol::JobSpec { gates, ..created.spec };
    let ended = Event::ProcessEnded {
        exit: Some(exit(code, 2)),
        unseen: None,
        strays: 0,
        log_bytes: 0,
        cpu_ms: 0,
        rc_file: None,
    };
    let work = WorkReport { known: true, mutations: 1, ..WorkReport::default() };
    let head = [
        Event::Created(Box::new(Created { spec, ..created })),
        Event::AgentStarted { agent: identity(3) },
        ended,
        Event::Settled(Settled::Provider(report(verdict))),
        Event::Settled(Settled::Work(work)),
    ];
    let all: Vec<_> = head.into_iter().chain(steps).enumerate().map(|(n, e)| record(n as u64, e)).collect();
    let run = fold(&all).unwrap();
    assert_eq!((run.illegal, run.phase), (0, Phase::ProcessEnded));
    run
}

fn gate(name: &str, reason: ReasonCode) -> Event {
    let passed = reason.as_str().ends_with("_ok");
    Event::Settled(Settled::Gate { name: name.into(), report: GateReport::new(passed, reason, "why") })
}

fn told(outcome: &Outcome) -> (OutcomeState, ReasonCode, &str, Vec<(&str, ReasonCode)>) {
    let gates = outcome.gates.iter().map(|g| (g.name.as_str(), g.report.reason_code)).collect();
    (outcome.state, outcome.reason_code, &outcome.exit_code, gates)
}

#[test]
fn a_success_needs_every_gate_that_was_asked() {
    use OutcomeState::{Failed, Success};
    use ReasonCode as R;
    let ok = || vec![gate(GATE_COMMIT, R::CommitOk), gate(GATE_SCOPE, R::ScopeOk)];
    let (commit_ok, scope_ok) = ((GATE_COMMIT, R::CommitOk), (GATE_SCOPE, R::ScopeOk));
    let check = |reason| (GATE_CHECK, reason);
    let with = |more: Vec<Event>| ok().into_iter().chain(more).collect::<Vec<_>>();
    #[rustfmt::skip]
    let rows = [
        (with(vec![gate(GATE_CHECK, R::CheckOk)]), Success, R::ProcessExitWithRc, "0", vec![commit_ok, scope_ok, check(R::CheckOk)]),
        (with(vec![gate(GATE_CHECK, R::CheckFailed)]), Failed, R::CheckFailed, "0", vec![commit_ok, scope_ok, check(R::CheckFailed)]),
        (with(vec![gate(GATE_CHECK, R::CheckTimeout)]), Failed, R::CheckTimeout, "0", vec![commit_ok, scope_ok, check(R::CheckTimeout)]),
        (with(vec![]), Failed, R::GateUnanswered, "0", vec![commit_ok, scope_ok, check(R::GateUnanswered)]),
        // The order of the steps, not of the records.
        (vec![gate(GATE_SCOPE, R::ScopeViolation), gate(GATE_COMMIT, R::NoCommitArtifact)], Failed, R::NoCommitArtifact, "44",
            vec![(GATE_COMMIT, R::NoCommitArtifact), (GATE_SCOPE, R::ScopeViolation), check(R::CheckNotRun)]),
        (vec![gate(GATE_COMMIT, R::CommitOk), gate(GATE_SCOPE, R::ScopeViolation)], Failed, R::ScopeViolation, "0",
            vec![commit_ok, (GATE_SCOPE, R::ScopeViolation), check(R::CheckNotRun)]),
        (with(vec![gate(GATE_REPOSITORY, R::RepositoryRedirected)]), Failed, R::RepositoryRedirected, "0",
            vec![(GATE_REPOSITORY, R::RepositoryRedirected), commit_ok, scope_ok, check(R::CheckNotRun)]),
        (vec![], Failed, R::GateUnanswered, "0",
            vec![(GATE_COMMIT, R::GateUnanswered), (GATE_SCOPE, R::GateUnanswered), check(R::CheckNotRun)]),
    ];
    for (steps, state, reason, code, gates) in rows {
        let run = run(0, ProviderVerdict::Ok, steps);
        let outcome = decide(&run).unwrap();
        assert_eq!(told(&outcome), (state, reason, code, gates));
        assert_eq!(outcome.exit.unwrap().shell_code(), 0, "what was seen is kept");
    }
}

#[test]
fn a_gate_changes_no_failure() {
    use ReasonCode as R;
    let all = || vec![gate(GATE_COMMIT, R::NoCommitArtifact), gate(GATE_SCOPE, R::ScopeViolation)];
    let outcome = decide(&run(7, ProviderVerdict::Ok, all())).unwrap();
    assert_eq!((outcome.reason_code, outcome.exit_code.as_str()), (R::ProcessExitWithRc, "7"));
    let outcome = decide(&run(0, ProviderVerdict::NoResult, all())).unwrap();
    assert_eq!((outcome.reason_code, outcome.exit_code.as_str()), (R::ProviderNoResult, "0"));
    assert!(outcome.gates.iter().any(|gate| gate.report.reason_code == R::CheckNotRun));
}

#[test]
fn the_check_is_due_once_and_only_after_everything_went_well() {
    use ReasonCode as R;
    let ok = || vec![gate(GATE_COMMIT, R::CommitOk), gate(GATE_SCOPE, R::ScopeOk)];
    let due = |code, verdict, steps| check_is_due(&run(code, verdict, steps));
    assert!(due(0, ProviderVerdict::Ok, ok()));
    assert!(!due(1, ProviderVerdict::Ok, ok()));
    assert!(!due(0, ProviderVerdict::Refused { what: String::new() }, ok()));
    assert!(!due(0, ProviderVerdict::Ok, vec![gate(GATE_COMMIT, R::CommitOk)]));
    assert!(!due(
        0,
        ProviderVerdict::Ok,
        vec![gate(GATE_COMMIT, R::CommitOk), gate(GATE_SCOPE, R::ScopeViolation)]
    ));
    for verdict in [R::CheckOk, R::CheckFailed, R::CheckInfra] {
        let steps = ok().into_iter().chain([gate(GATE_CHECK, verdict)]).collect();
        assert!(!due(0, ProviderVerdict::Ok, steps));
    }
    assert_eq!(gates_due(&run(0, ProviderVerdict::Ok, vec![])), [GATE_COMMIT, GATE_SCOPE]);
    assert_eq!(gates_due(&run(0, ProviderVerdict::Ok, ok())), [""; 0]);
}

#[test]
fn a_check_that_a_person_ended_ends_the_job_as_they_wanted() {
    use ReasonCode as R;
    let ending =
        |reason, exit_code| Event::Ending(Ending { reason, exit_code, grace_ms: 1, note: Some("n".into()) });
    for (reason, code, state, expected) in [
        (R::ManualStop, None, OutcomeState::Killed, "137"),
        (R::ForcedFinalization, Some(5), OutcomeState::Failed, "5"),
    ] {
        let steps = vec![
            gate(GATE_COMMIT, R::CommitOk),
            gate(GATE_SCOPE, R::ScopeOk),
            ending(reason, code),
            gate(GATE_CHECK, R::CheckInterrupted),
        ];
        let outcome = decide(&run(0, ProviderVerdict::Ok, steps)).unwrap();
        assert_eq!(
            (outcome.state, outcome.reason_code, outcome.exit_code.as_str()),
            (state, reason, expected)
        );
        assert_eq!(outcome.exit.unwrap().shell_code(), 0);
    }
    // Once the check has its verdict nobody can end anything any more.
    let mut run = run(
        0,
        ProviderVerdict::Ok,
        vec![gate(GATE_COMMIT, R::CommitOk), gate(GATE_SCOPE, R::ScopeOk), gate(GATE_CHECK, R::CheckOk)],
    );
    assert!(run.apply(&record(99, ending(R::ManualStop, None))).is_err());
    assert_eq!(decide(&run).unwrap().state, OutcomeState::Success);
}

#[test]
fn a_commit_counts_when_it_leads_forward() {
    let gate = |head: Option<&str>, known, head_move| {
        let work = WorkReport { known, head: head.map(str::to_owned), head_move, ..WorkReport::default() };
        let report = commit_gate(Some("a"), &work);
        (report.passed, report.reason_code)
    };
    let no = (false, ReasonCode::NoCommitArtifact);
    assert_eq!(gate(Some("b"), true, HeadMove::Forward), (true, ReasonCode::CommitOk));
    for head_move in [HeadMove::Stay, HeadMove::Back, HeadMove::Aside] {
        assert_eq!(gate(Some("b"), true, head_move), no);
    }
    assert_eq!(gate(None, true, HeadMove::Aside), no);
    assert_eq!(gate(Some("b"), false, HeadMove::Forward), (false, ReasonCode::GateUnanswered));
}

#[test]
fn a_head_that_moved_is_not_nothing() {
    let reason = |head_move| {
        let ended = Event::ProcessEnded {
            exit: Some(exit(0, 2)),
            unseen: None,
            strays: 0,
            log_bytes: 0,
            cpu_ms: 0,
            rc_file: None,
        };
        let work = WorkReport { known: true, head_move, ..WorkReport::default() };
        let events = [
            Event::Created(Box::new(created())),
            Event::AgentStarted { agent: identity(3) },
            ended,
            Event::Settled(Settled::Provider(report(ProviderVerdict::Ok))),
            Event::Settled(Settled::Work(work)),
        ];
        let all: Vec<_> = events.into_iter().enumerate().map(|(n, e)| record(n as u64, e)).collect();
        decide(&fold(&all).unwrap()).unwrap().reason_code
    };
    assert_eq!(reason(HeadMove::Stay), ReasonCode::ExitZeroNoMutations);
    assert_eq!(reason(HeadMove::Back), ReasonCode::ProcessExitWithRc);
}
