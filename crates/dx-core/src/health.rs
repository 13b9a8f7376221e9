//! Health: what one observation says about a job. A pure table, first rule wins; `check --explain` prints the rule's name.
//!
//! Health is derived, never stored as truth, and never changes the lifecycle.

use dx_protocol::{Limits, OutcomeState, ReasonCode, State};

/// What is known to wait without a word about how long (a tool at work, a retry) is believed for this many stall
/// thresholds.
const PATIENCE: u64 = 3;

/// A known reason to be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// A tool runs, and nothing was heard for this long.
    Tool { for_ms: u64 },
    /// The agent retries; it said how long it waits, and this much of that is left. Negative: it is over for so long.
    Retry { left_ms: Option<i64> },
    /// Rate limited; this much is left, where it is known. Negative: it is over for so long.
    RateLimit { left_ms: Option<i64> },
    /// A question that nobody answers.
    Input,
}

/// Everything that the classification may know. Ages are milliseconds; `None` means never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The outcome's state, once there is one.
    pub outcome: Option<(OutcomeState, ReasonCode)>,
    pub blocked: Option<ReasonCode>,
    /// The process is gone, the outcome is not written yet.
    pub process_ended: bool,
    /// The run is being ended.
    pub ending: bool,
    pub elapsed_ms: u64,
    pub event_age_ms: Option<u64>,
    /// The last agent event told nothing but the start.
    pub only_started: bool,
    pub log_bytes: u64,
    pub log_age_ms: Option<u64>,
    pub cpu_ms: u64,
    /// Since the tree's CPU time last grew.
    pub cpu_age_ms: Option<u64>,
    pub mutations: u64,
    pub mutation_age_ms: Option<u64>,
    pub wait: Option<WaitKind>,
    pub limits: Limits,
}

/// State, reason, and the rule that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    pub state: State,
    pub reason: ReasonCode,
    pub rule: &'static str,
}

fn judged(state: State, reason: ReasonCode, rule: &'static str) -> Judgement {
    Judgement { state, reason, rule }
}

/// Classifies. Order: blocked, settled, awaiting finalize, known wait or tool in flight, fresh event or log or CPU,
/// silent mutation, waiting for the first output, stalled (evidence earlier), no-op (no evidence ever), launching.
pub fn classify(o: &Observation) -> Judgement {
    if let (Some(reason), Some(_)) = (o.blocked, o.outcome) {
        return judged(State::Blocked, reason, "blocked");
    }
    if let Some((state, reason)) = o.outcome {
        let state = if state == OutcomeState::Success { State::ExitedOk } else { State::ExitedErr };
        return judged(state, reason, "settled");
    }
    let live = classify_live(o);
    if o.process_ended {
        return judged(live.state, ReasonCode::AwaitingFinalize, "awaiting_finalize");
    }
    if o.ending {
        return judged(live.state, ReasonCode::Stopping, "stopping");
    }
    live
}

/// Whether a wait still explains the silence. After the time that was told, the next attempt has a threshold of its own to
/// be heard of: the silence before it was none.
fn waits(left_ms: Option<i64>, o: &Observation) -> bool {
    let stall_ms = o.limits.stall_sec.saturating_mul(1000);
    match left_ms {
        Some(left) => left > 0 || left.unsigned_abs() < stall_ms,
        None => o.event_age_ms.is_some_and(|age| age < stall_ms.saturating_mul(PATIENCE)),
    }
}

fn classify_live(o: &Observation) -> Judgement {
    let stall_ms = o.limits.stall_sec.saturating_mul(1000);
    let grace_ms = o.limits.startup_grace_sec.saturating_mul(1000);
    let fresh = |age: Option<u64>| age.is_some_and(|age| age < stall_ms);
    match o.wait {
        Some(WaitKind::Input) => return judged(State::Stalled, ReasonCode::AwaitingInput, "awaiting_input"),
        Some(WaitKind::RateLimit { left_ms }) if waits(left_ms, o) => {
            return judged(State::Healthy, ReasonCode::RateLimitedWaiting, "known_wait");
        }
        Some(WaitKind::Retry { left_ms }) if waits(left_ms, o) => {
            return judged(State::Healthy, ReasonCode::ProviderRetrying, "known_wait");
        }
        Some(WaitKind::Tool { for_ms })
            if for_ms < stall_ms.saturating_mul(PATIENCE) || fresh(o.cpu_age_ms) =>
        {
            return judged(State::Healthy, ReasonCode::ToolInFlight, "tool_in_flight");
        }
        _ => {}
    }
    if fresh(o.event_age_ms) && !o.only_started {
        return judged(State::Healthy, ReasonCode::ProviderEvent, "fresh_event");
    }
    if fresh(o.log_age_ms) && o.log_bytes > 0 && !o.only_started {
        return judged(State::Healthy, ReasonCode::RecentLogActivity, "fresh_log");
    }
    let printed = o.log_bytes > 0 && !o.only_started;
    if printed && fresh(o.cpu_age_ms) {
        return judged(State::Healthy, ReasonCode::CpuProgress, "fresh_cpu");
    }
    if !printed && o.mutations > 0 && fresh(o.mutation_age_ms) {
        return judged(State::SilentMutation, ReasonCode::WorktreeChangedNoOutput, "silent_mutation");
    }
    if !printed && fresh(o.cpu_age_ms) && o.elapsed_ms >= grace_ms {
        return judged(State::WaitingFirstOutput, ReasonCode::CpuProgressNoOutput, "waiting_first_output");
    }
    let evidence =
        [o.event_age_ms, o.log_age_ms.filter(|_| o.log_bytes > 0), o.cpu_age_ms, o.mutation_age_ms];
    match evidence.iter().flatten().min() {
        Some(age) if *age >= stall_ms && o.log_bytes > 0 => {
            judged(State::Stalled, ReasonCode::StaleLogNoCpu, "stalled")
        }
        Some(age) if *age >= stall_ms => judged(State::Stalled, ReasonCode::NoProgress, "stalled"),
        None if o.elapsed_ms >= o.limits.no_op_sec.saturating_mul(1000) => {
            judged(State::NoOp, ReasonCode::NoHeartbeatNoMutation, "no_op")
        }
        _ if o.only_started => judged(State::Launching, ReasonCode::ProviderWarmup, "launching"),
        _ => judged(State::Launching, ReasonCode::StartupGrace, "launching"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> Observation {
        Observation {
            outcome: None,
            blocked: None,
            process_ended: false,
            ending: false,
            elapsed_ms: 1_000,
            event_age_ms: None,
            only_started: false,
            log_bytes: 0,
            log_age_ms: None,
            cpu_ms: 0,
            cpu_age_ms: None,
            mutations: 0,
            mutation_age_ms: None,
            wait: None,
            limits: Limits::default(),
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
                later(Observation {
                    log_bytes: 5,
                    log_age_ms: Some(25 * min),
                    cpu_age_ms: Some(min),
                    ..quiet()
                }),
                State::Healthy,
                ReasonCode::CpuProgress,
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
                Observation { wait: Some(WaitKind::Input), event_age_ms: Some(5), ..quiet() },
                State::Stalled,
                ReasonCode::AwaitingInput,
            ),
            (
                "tool",
                Observation {
                    wait: Some(WaitKind::Tool { for_ms: min }),
                    event_age_ms: Some(min),
                    ..quiet()
                },
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
                Observation {
                    outcome: Some((OutcomeState::Success, ReasonCode::ProcessExitWithRc)),
                    ..quiet()
                },
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
}
