//! What the watchdog does about a live job. Pure: a table over what one look at the job found.
//!
//! Limits are the monitor's. The watchdog adds restarts and the mark of a job that a person must look at.

use crate::health::{Judgement, WaitKind};
use dx_protocol::State;

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    pub judgement: Judgement,
    pub wait: Option<WaitKind>,
    /// It is an item or a review of a wave, which has attempts of its own.
    pub of_wave: bool,
    /// A program of ours that may be silent for ever.
    pub service: bool,
    /// The record belongs to another host.
    pub elsewhere: bool,
    /// The process has ended, or is being ended.
    pub ending: bool,
    /// There is an observation, and it has all that the log has: its monitor is not held up.
    pub current: bool,
    /// How often it was started again already.
    pub retries: u32,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    LeaveAlone(Leave),
    /// End it and start it once more.
    Restart,
    /// End it and mark it.
    Block,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    Elsewhere,
    OfWave,
    Service,
    Ending,
    NotStalled,
    /// A tool runs, or the provider told when it takes something again.
    Waits,
    NoCurrentObservation,
}

impl Leave {
    /// In a few words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Elsewhere => "belongs to another host",
            Self::OfWave => "belongs to a wave",
            Self::Service => "is a service",
            Self::Ending => "is being ended",
            Self::NotStalled => "makes progress, or waits for a known reason",
            Self::Waits => "is silent with a known reason",
            Self::NoCurrentObservation => "its monitor has not looked yet",
        }
    }
}

/// Decides; the first rule that fits wins.
pub fn decide(looked: &Looked, max_retries: u32) -> Act {
    if looked.elsewhere {
        return Act::LeaveAlone(Leave::Elsewhere);
    }
    if looked.service {
        return Act::LeaveAlone(Leave::Service);
    }
    if looked.of_wave {
        return Act::LeaveAlone(Leave::OfWave);
    }
    if looked.ending {
        return Act::LeaveAlone(Leave::Ending);
    }
    if !matches!(looked.judgement.state, State::Stalled | State::NoOp) {
        return Act::LeaveAlone(Leave::NotStalled);
    }
    match looked.wait {
        Some(WaitKind::Tool { .. }) => return Act::LeaveAlone(Leave::Waits),
        Some(WaitKind::Retry { left_ms: Some(left) } | WaitKind::RateLimit { left_ms: Some(left) })
            if left > 0 =>
        {
            return Act::LeaveAlone(Leave::Waits);
        }
        _ => {}
    }
    if !looked.current {
        return Act::LeaveAlone(Leave::NoCurrentObservation);
    }
    if looked.retries < max_retries { Act::Restart } else { Act::Block }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::ReasonCode;

    #[test]
    fn table() {
        let stalled = Looked {
            judgement: Judgement {
                state: State::Stalled,
                reason: ReasonCode::StaleLogNoCpu,
                rule: "stalled",
            },
            wait: None,
            of_wave: false,
            service: false,
            elsewhere: false,
            ending: false,
            current: true,
            retries: 0,
        };
        let judged = |state| Looked { judgement: Judgement { state, ..stalled.judgement }, ..stalled };
        let waiting = |wait| Looked { wait: Some(wait), ..stalled };
        let leave = Act::LeaveAlone;
        let rows = [
            ("stalled, one try left", stalled, 1, Act::Restart),
            ("stalled, no try left", Looked { retries: 1, ..stalled }, 1, Act::Block),
            ("more than allowed", Looked { retries: 7, ..stalled }, 1, Act::Block),
            ("no tries at all", stalled, 0, Act::Block),
            ("no-op", judged(State::NoOp), 1, Act::Restart),
            ("healthy", judged(State::Healthy), 1, leave(Leave::NotStalled)),
            ("launching", judged(State::Launching), 1, leave(Leave::NotStalled)),
            ("first output awaited", judged(State::WaitingFirstOutput), 1, leave(Leave::NotStalled)),
            ("silent changes", judged(State::SilentMutation), 1, leave(Leave::NotStalled)),
            ("ended well", judged(State::ExitedOk), 1, leave(Leave::NotStalled)),
            ("ended badly", judged(State::ExitedErr), 1, leave(Leave::NotStalled)),
            ("blocked already", judged(State::Blocked), 1, leave(Leave::NotStalled)),
            ("a tool runs", waiting(WaitKind::Tool { for_ms: u64::MAX }), 1, leave(Leave::Waits)),
            ("a limit ends", waiting(WaitKind::RateLimit { left_ms: Some(1) }), 1, leave(Leave::Waits)),
            ("a retry comes", waiting(WaitKind::Retry { left_ms: Some(1) }), 0, leave(Leave::Waits)),
            ("the limit is over", waiting(WaitKind::RateLimit { left_ms: Some(0) }), 1, Act::Restart),
            ("the retry is over", waiting(WaitKind::Retry { left_ms: Some(-1) }), 1, Act::Restart),
            ("no time was told", waiting(WaitKind::RateLimit { left_ms: None }), 1, Act::Restart),
            ("nobody answers", waiting(WaitKind::Input { read_ms: None }), 1, Act::Restart),
            ("of a wave", Looked { of_wave: true, ..stalled }, 1, leave(Leave::OfWave)),
            ("a service", Looked { service: true, ..stalled }, 1, leave(Leave::Service)),
            ("elsewhere", Looked { elsewhere: true, ..stalled }, 1, leave(Leave::Elsewhere)),
            ("being ended", Looked { ending: true, ..stalled }, 1, leave(Leave::Ending)),
            ("held up", Looked { current: false, ..stalled }, 1, leave(Leave::NoCurrentObservation)),
        ];
        for (name, looked, max_retries, expected) in rows {
            assert_eq!(decide(&looked, max_retries), expected, "{name}");
        }
    }
}
