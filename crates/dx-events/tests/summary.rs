//! The fold: what stands after which events, and its bounds.

use dx_events::{Grammar, ProviderVerdict, Summary, Waiting};
use dx_protocol::{AgentEvent, ErrorClass, Usage};

fn fold(events: &[AgentEvent]) -> Summary {
    let mut summary = Summary::new(Grammar::Opencode);
    for event in events {
        summary.apply(event);
    }
    summary
}

fn result(ok: bool) -> AgentEvent {
    AgentEvent::Result { ok, detail: "d".into() }
}

fn error(class: ErrorClass) -> AgentEvent {
    AgentEvent::Error { class, status: Some(500), message: "m".into() }
}

fn finished(name: &str, ok: bool) -> AgentEvent {
    AgentEvent::ToolFinished { call: "c".into(), name: name.into(), ok }
}

fn turn(output_tokens: u64) -> [AgentEvent; 2] {
    [AgentEvent::StepStarted, AgentEvent::Usage(Usage { output_tokens, ..Usage::default() })]
}

#[test]
fn only_the_last_result_counts_and_only_while_nothing_follows() {
    let refused = AgentEvent::PermissionRefused { what: "w".into() };
    let failed = |class| ProviderVerdict::Failed { class, status: Some(500), message: "m".into() };
    assert_eq!(fold(&[]).verdict(), ProviderVerdict::NoResult);
    assert_eq!(fold(&[result(false), result(true)]).verdict(), ProviderVerdict::Ok);
    assert_eq!(fold(&[result(true), AgentEvent::StepStarted]).verdict(), ProviderVerdict::NoResult);
    assert_eq!(fold(&[error(ErrorClass::Server), result(true)]).verdict(), ProviderVerdict::Ok);
    assert_eq!(fold(&[result(true), error(ErrorClass::Server)]).verdict(), failed(ErrorClass::Server));
    assert_eq!(
        fold(&[refused.clone(), result(true)]).verdict(),
        ProviderVerdict::Refused { what: "w".into() }
    );
    assert_eq!(fold(&[refused, error(ErrorClass::Auth)]).verdict(), failed(ErrorClass::Auth));
    assert!(matches!(
        fold(&[error(ErrorClass::AgentMissing), result(true)]).verdict(),
        ProviderVerdict::Failed { class: ErrorClass::AgentMissing, .. }
    ));
    assert_eq!(Summary::new(Grammar::Text).verdict(), ProviderVerdict::NotApplicable);
}

#[test]
fn waits_end_with_progress() {
    let limited = AgentEvent::RateLimited { until_ms: Some(5) };
    let retry =
        AgentEvent::Retrying { attempt: 2, delay_ms: Some(9), status: Some(429), message: "m".into() };
    let until = Waiting::RateLimit { until_ms: Some(5) };
    assert_eq!(fold(&[limited.clone(), error(ErrorClass::Quota)]).waiting, until);
    assert_eq!(
        fold(&[limited.clone(), retry]).waiting,
        Waiting::Retry { attempt: 2, delay_ms: Some(9), status: Some(429), message: "m".into() }
    );
    assert_eq!(fold(&[limited, AgentEvent::StepStarted]).waiting, Waiting::Nothing);
    let asked = AgentEvent::PermissionAsked { what: "w".into() };
    assert_eq!(fold(&[asked, AgentEvent::PermissionRefused { what: "w".into() }]).waiting, Waiting::Nothing);
}

#[test]
fn barren_turns_add_up_until_something_comes() {
    let mut summary = Summary::new(Grammar::Opencode);
    for n in 0..20 {
        for event in turn(0) {
            summary.apply(&event);
        }
        assert!(summary.barren_steps <= n, "an open turn does not count");
    }
    summary.apply(&AgentEvent::StepStarted);
    assert_eq!(summary.barren_steps, 20);
    for fruit in [AgentEvent::Text { text: "t".into() }, finished("t", false), turn(1)[1].clone()] {
        let mut after = summary.clone();
        after.apply(&fruit);
        assert_eq!(after.barren_steps, 0);
        after.apply(&AgentEvent::StepStarted);
        assert_eq!(after.barren_steps, 0);
    }
}

#[test]
fn tools_are_bounded() {
    let mut summary = Summary::new(Grammar::Opencode);
    for n in 0..1000 {
        summary.apply(&finished(&format!("t{n}"), n % 2 == 0));
        summary.apply(&AgentEvent::ToolStarted { call: format!("call{n}"), name: "t".into() });
    }
    assert_eq!((summary.tools.len(), summary.in_flight.len()), (64, 64));
    assert_eq!(summary.tools.values().map(|c| c.ok + c.failed).sum::<u32>(), 1000);
    assert_eq!(summary.tools["other"].ok + summary.tools["other"].failed, 937);
    summary.apply(&AgentEvent::ToolFinished { call: "call3".into(), name: "t".into(), ok: true });
    assert_eq!((summary.in_flight.len(), summary.failed_calls), (63, 0));
}
