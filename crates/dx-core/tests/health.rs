//! The table of health, and that no evidence falls through it.

use dx_core::{Observation, WaitKind, classify};
use dx_protocol::{OutcomeState, ReasonCode, State};

fn quiet() -> Observation {
    Observation { elapsed_ms: 1_000, ..Observation::default() }
}

/// Last heard of a minute ago, and a question or a terminal that is read.
fn asked(read_ms: Option<u64>) -> Observation {
    Observation {
        elapsed_ms: 30 * 60_000,
        event_age_ms: Some(60_000),
        log_bytes: 5,
        log_age_ms: Some(60_000),
        wait: Some(WaitKind::Input { read_ms }),
        ..quiet()
    }
}

#[test]
fn table() {
    let min = 60_000;
    let later = |o: Observation| Observation { elapsed_ms: 30 * min, ..o };
    let rows: Vec<(&str, Observation, State, ReasonCode)> = vec![
        ("just started", quiet(), State::Launching, ReasonCode::StartupGrace),
        (
            "only the start event",
            Observation {
                event_age_ms: Some(5),
                only_started: true,
                log_bytes: 9,
                log_age_ms: Some(5),
                ..quiet()
            },
            State::Launching,
            ReasonCode::ProviderWarmup,
        ),
        (
            "cpu inside the grace",
            Observation { cpu_age_ms: Some(5), ..quiet() },
            State::Launching,
            ReasonCode::StartupGrace,
        ),
        (
            "cpu past the grace",
            Observation { cpu_age_ms: Some(5), elapsed_ms: 6 * min, ..quiet() },
            State::WaitingFirstOutput,
            ReasonCode::CpuProgressNoOutput,
        ),
        (
            "changed, silent",
            Observation { mutations: 1, mutation_age_ms: Some(min), ..quiet() },
            State::SilentMutation,
            ReasonCode::WorktreeChangedNoOutput,
        ),
        (
            "event",
            Observation { event_age_ms: Some(min), log_bytes: 5, log_age_ms: Some(min), ..quiet() },
            State::Healthy,
            ReasonCode::ProviderEvent,
        ),
        (
            "log",
            Observation { log_bytes: 5, log_age_ms: Some(min), ..quiet() },
            State::Healthy,
            ReasonCode::RecentLogActivity,
        ),
        (
            "silent build",
            later(Observation { log_bytes: 5, log_age_ms: Some(25 * min), cpu_age_ms: Some(min), ..quiet() }),
            State::Healthy,
            ReasonCode::CpuProgress,
        ),
        (
            "silent download",
            later(Observation {
                log_bytes: 5,
                log_age_ms: Some(25 * min),
                cpu_age_ms: Some(25 * min),
                write_age_ms: Some(min),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::WriteProgress,
        ),
        (
            "writes files, and says so no more",
            later(Observation {
                log_bytes: 5,
                log_age_ms: Some(25 * min),
                mutations: 9,
                mutation_age_ms: Some(min),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::WriteProgress,
        ),
        (
            "download past the grace, never a word",
            Observation { write_age_ms: Some(5), elapsed_ms: 6 * min, ..quiet() },
            State::WaitingFirstOutput,
            ReasonCode::WriteProgress,
        ),
        (
            "half a line after the start event",
            later(Observation {
                event_age_ms: Some(29 * min),
                only_started: true,
                log_bytes: 99,
                log_age_ms: Some(5),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::RecentLogActivity,
        ),
        (
            "stale log",
            later(Observation {
                log_bytes: 5,
                log_age_ms: Some(25 * min),
                cpu_age_ms: Some(25 * min),
                ..quiet()
            }),
            State::Stalled,
            ReasonCode::StaleLogNoCpu,
        ),
        (
            "cpu long ago, never printed",
            later(Observation { cpu_age_ms: Some(25 * min), ..quiet() }),
            State::Stalled,
            ReasonCode::NoProgress,
        ),
        (
            "nothing ever",
            Observation { elapsed_ms: 5 * min, ..quiet() },
            State::NoOp,
            ReasonCode::NoHeartbeatNoMutation,
        ),
        (
            "rate limit with a reset far away",
            later(Observation {
                event_age_ms: Some(29 * min),
                log_bytes: 5,
                wait: Some(WaitKind::RateLimit { left_ms: Some(60 * 60_000) }),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::RateLimitedWaiting,
        ),
        (
            "rate limit, just over",
            later(Observation {
                event_age_ms: Some(29 * min),
                log_bytes: 5,
                wait: Some(WaitKind::RateLimit { left_ms: Some(-5) }),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::RateLimitedWaiting,
        ),
        (
            "rate limit, over for long",
            later(Observation {
                event_age_ms: Some(29 * min),
                log_bytes: 5,
                wait: Some(WaitKind::RateLimit { left_ms: Some(-20 * 60_000) }),
                ..quiet()
            }),
            State::Stalled,
            ReasonCode::StaleLogNoCpu,
        ),
        (
            "retry, no time told",
            later(Observation {
                event_age_ms: Some(25 * min),
                log_bytes: 5,
                wait: Some(WaitKind::Retry { left_ms: None }),
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::ProviderRetrying,
        ),
        (
            "retry, no time told, for too long",
            Observation {
                elapsed_ms: 90 * min,
                event_age_ms: Some(60 * min),
                log_bytes: 5,
                wait: Some(WaitKind::Retry { left_ms: None }),
                ..quiet()
            },
            State::Stalled,
            ReasonCode::StaleLogNoCpu,
        ),
        (
            "question",
            Observation { cpu_age_ms: Some(5), ..asked(None) },
            State::Stalled,
            ReasonCode::AwaitingInput,
        ),
        ("a terminal is read", asked(Some(min)), State::Stalled, ReasonCode::AwaitingInput),
        ("for a moment", asked(Some(min - 1)), State::Healthy, ReasonCode::ProviderEvent),
        (
            "after some work",
            Observation { cpu_age_ms: Some(2 * min), ..asked(Some(2 * min)) },
            State::Stalled,
            ReasonCode::AwaitingInput,
        ),
        (
            "beside a child that computes",
            Observation { event_age_ms: None, log_age_ms: None, cpu_age_ms: Some(5), ..asked(Some(2 * min)) },
            State::Healthy,
            ReasonCode::CpuProgress,
        ),
        (
            "beside a child that downloads",
            Observation {
                event_age_ms: None,
                log_age_ms: None,
                write_age_ms: Some(19 * min),
                ..asked(Some(29 * min))
            },
            State::Healthy,
            ReasonCode::WriteProgress,
        ),
        (
            "beside a child that changed something, for long",
            Observation { mutation_age_ms: Some(20 * min), ..asked(Some(29 * min)) },
            State::Stalled,
            ReasonCode::AwaitingInput,
        ),
        (
            "tool",
            Observation { wait: Some(WaitKind::Tool { for_ms: min }), event_age_ms: Some(min), ..quiet() },
            State::Healthy,
            ReasonCode::ToolInFlight,
        ),
        (
            "tool without CPU past the threshold",
            later(Observation {
                wait: Some(WaitKind::Tool { for_ms: 25 * min }),
                event_age_ms: Some(25 * min),
                log_bytes: 5,
                ..quiet()
            }),
            State::Healthy,
            ReasonCode::ToolInFlight,
        ),
        (
            "tool that changes something for ever",
            Observation {
                elapsed_ms: 90 * min,
                wait: Some(WaitKind::Tool { for_ms: 60 * min }),
                event_age_ms: Some(60 * min),
                log_bytes: 5,
                mutation_age_ms: Some(5),
                ..quiet()
            },
            State::Healthy,
            ReasonCode::ToolInFlight,
        ),
        (
            "tool without CPU for ever",
            Observation {
                elapsed_ms: 90 * min,
                wait: Some(WaitKind::Tool { for_ms: 60 * min }),
                event_age_ms: Some(60 * min),
                log_bytes: 5,
                ..quiet()
            },
            State::Stalled,
            ReasonCode::StaleLogNoCpu,
        ),
        (
            "ended, not settled",
            Observation { process_ended: true, event_age_ms: Some(5), log_bytes: 5, ..quiet() },
            State::Healthy,
            ReasonCode::AwaitingFinalize,
        ),
        (
            "success",
            Observation { outcome: Some((OutcomeState::Success, ReasonCode::ProcessExitWithRc)), ..quiet() },
            State::ExitedOk,
            ReasonCode::ProcessExitWithRc,
        ),
        (
            "stopped",
            Observation { outcome: Some((OutcomeState::Killed, ReasonCode::ManualStop)), ..quiet() },
            State::ExitedErr,
            ReasonCode::ManualStop,
        ),
        (
            "blocked",
            Observation {
                outcome: Some((OutcomeState::Failed, ReasonCode::ExtendedStall)),
                blocked: Some(ReasonCode::MaxRetriesExhausted),
                ..quiet()
            },
            State::Blocked,
            ReasonCode::MaxRetriesExhausted,
        ),
    ];
    for (name, observation, state, reason) in rows {
        let got = classify(&observation);
        assert_eq!((got.state, got.reason), (state, reason), "{name}: rule {}", got.rule);
    }
}

/// Late in a job that waits for nothing: whatever it did within the threshold keeps it from alarms, and whatever it did
/// before makes it stalled. `launching` is only who was heard of with the start and nothing else.
#[test]
fn every_kind_of_evidence_counts() {
    const NEVER: Option<u64> = None;
    const FRESH: Option<u64> = Some(60_000);
    const OLD: Option<u64> = Some(25 * 60_000);
    const AGES: [Option<u64>; 3] = [NEVER, FRESH, OLD];
    let mut seen = 0;
    for number in 0..3_usize.pow(5) * 2 {
        let age = |place: u32| AGES[number / 3_usize.pow(place) % 3];
        let only_started = number >= 3_usize.pow(5);
        let o = Observation {
            elapsed_ms: 30 * 60_000,
            event_age_ms: age(0),
            only_started: only_started && age(0).is_some(),
            log_age_ms: age(1),
            log_bytes: u64::from(age(1).is_some()),
            cpu_age_ms: age(2),
            write_age_ms: age(3),
            mutation_age_ms: age(4),
            ..quiet()
        };
        // What is written together with the start tells no more than it.
        let start = o.only_started && o.log_age_ms.is_none_or(|log| log >= o.event_age_ms.unwrap());
        let told = [o.event_age_ms, o.log_age_ms].into_iter().filter(|_| !start);
        let signs: Vec<_> = told.chain([o.cpu_age_ms, o.write_age_ms, o.mutation_age_ms]).flatten().collect();
        let fresh = signs.contains(&60_000);
        let got = classify(&o);
        let expected = match got.state {
            State::Healthy | State::SilentMutation | State::WaitingFirstOutput => fresh,
            State::Launching => !fresh && start && [o.event_age_ms, o.log_age_ms].contains(&FRESH),
            State::Stalled => !fresh && (start || !signs.is_empty()),
            State::NoOp => !fresh && !start && signs.is_empty(),
            _ => false,
        };
        assert!(expected, "{got:?} of {o:#?}");
        seen += 1;
    }
    assert_eq!(seen, 486);
}
