//! Health: what one observation says about a job. A pure table, first rule wins; `check --explain` prints the rule's name.
//!
//! Health is derived, never stored as truth, and never changes the lifecycle.

use dx_protocol::{Limits, OutcomeState, ReasonCode, State};

/// What is known to wait without a word about how long (a tool at work, a retry) is believed for this many stall
/// thresholds.
const PATIENCE: u64 = 3;
/// A terminal that is read for so long while nothing is seen to work beside it is a question.
const QUESTION_MS: u64 = 60_000;

/// A known reason to be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// A tool runs, and nothing was heard for this long.
    Tool { for_ms: u64 },
    /// The agent retries; it said how long it waits, and this much of that is left. Negative: it is over for so long.
    Retry { left_ms: Option<i64> },
    /// Rate limited; this much is left, where it is known. Negative: it is over for so long.
    RateLimit { left_ms: Option<i64> },
    /// A question that nobody answers: the agent told it, or a process reads the terminal for this long.
    Input { read_ms: Option<u64> },
}

/// Everything that the classification may know. Ages are milliseconds; `None` means never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    pub written_bytes: u64,
    /// Since the tree last wrote to storage.
    pub write_age_ms: Option<u64>,
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

/// Classifies. Order: blocked, settled, awaiting finalize, known wait or tool in flight, fresh event or log or CPU or
/// writing, silent mutation, waiting for the first output, stalled (evidence earlier), no-op (no evidence ever), launching.
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

/// Whether a question is all there is. One that the agent told is. A process that reads the terminal may as well be a
/// screen that could be typed at: it is none before something else had the time to show, and when something else worked
/// meanwhile, none for a threshold after that.
fn asks(read_ms: Option<u64>, works: Option<u64>, stall_ms: u64) -> bool {
    match (read_ms, works) {
        (None, _) => true,
        (Some(read), Some(age)) if age < read => age >= stall_ms,
        (Some(read), _) => read >= stall_ms.min(QUESTION_MS),
    }
}

fn classify_live(o: &Observation) -> Judgement {
    let stall_ms = o.limits.stall_sec.saturating_mul(1000);
    let grace_ms = o.limits.startup_grace_sec.saturating_mul(1000);
    let fresh = |age: Option<u64>| age.is_some_and(|age| age < stall_ms);
    // What was done without a word.
    let works = [o.cpu_age_ms, o.write_age_ms, o.mutation_age_ms].into_iter().flatten().min();
    // Nothing was heard after the first event, which tells nothing but the start.
    let only_started = o.only_started
        && o.log_age_ms.zip(o.event_age_ms).is_none_or(|(log_age, event_age)| log_age >= event_age);
    match o.wait {
        Some(WaitKind::Input { read_ms }) if asks(read_ms, works, stall_ms) => {
            return judged(State::Stalled, ReasonCode::AwaitingInput, "awaiting_input");
        }
        Some(WaitKind::RateLimit { left_ms }) if waits(left_ms, o) => {
            return judged(State::Healthy, ReasonCode::RateLimitedWaiting, "known_wait");
        }
        Some(WaitKind::Retry { left_ms }) if waits(left_ms, o) => {
            return judged(State::Healthy, ReasonCode::ProviderRetrying, "known_wait");
        }
        Some(WaitKind::Tool { for_ms }) if for_ms < stall_ms.saturating_mul(PATIENCE) || fresh(works) => {
            return judged(State::Healthy, ReasonCode::ToolInFlight, "tool_in_flight");
        }
        _ => {}
    }
    if fresh(o.event_age_ms) && !o.only_started {
        return judged(State::Healthy, ReasonCode::ProviderEvent, "fresh_event");
    }
    let printed = o.log_bytes > 0 && !only_started;
    if printed && fresh(o.log_age_ms) {
        return judged(State::Healthy, ReasonCode::RecentLogActivity, "fresh_log");
    }
    if printed && fresh(o.cpu_age_ms) {
        return judged(State::Healthy, ReasonCode::CpuProgress, "fresh_cpu");
    }
    if printed && fresh(works) {
        return judged(State::Healthy, ReasonCode::WriteProgress, "fresh_writing");
    }
    if fresh(o.mutation_age_ms) {
        return judged(State::SilentMutation, ReasonCode::WorktreeChangedNoOutput, "silent_mutation");
    }
    if fresh(works) && o.elapsed_ms >= grace_ms {
        let by_cpu = fresh(o.cpu_age_ms);
        let reason = if by_cpu { ReasonCode::CpuProgressNoOutput } else { ReasonCode::WriteProgress };
        return judged(State::WaitingFirstOutput, reason, "waiting_first_output");
    }
    let evidence = [o.event_age_ms, o.log_age_ms.filter(|_| o.log_bytes > 0), works];
    match evidence.iter().flatten().min() {
        Some(age) if *age >= stall_ms && o.log_bytes > 0 => {
            judged(State::Stalled, ReasonCode::StaleLogNoCpu, "stalled")
        }
        Some(age) if *age >= stall_ms => judged(State::Stalled, ReasonCode::NoProgress, "stalled"),
        None if o.elapsed_ms >= o.limits.no_op_sec.saturating_mul(1000) => {
            judged(State::NoOp, ReasonCode::NoHeartbeatNoMutation, "no_op")
        }
        _ if only_started => judged(State::Launching, ReasonCode::ProviderWarmup, "launching"),
        _ => judged(State::Launching, ReasonCode::StartupGrace, "launching"),
    }
}
