//! The limits that the monitor enforces by itself, by the time that has passed for the run, so that a suspended laptop
//! is no timeout.

use dx_protocol::{Limits, ReasonCode};

/// What is known when the limits are asked.
pub(crate) struct Facts {
    pub(crate) now: u64,
    pub(crate) started: u64,
    pub(crate) log_bytes: u64,
    pub(crate) barren_steps: u64,
    pub(crate) failed_calls: u64,
    /// Monotonic time of the last change in the worktree; 0: none.
    pub(crate) mutated: u64,
    /// Whether mutations can be known at all here.
    pub(crate) mutations_known: bool,
}

/// The first limit that is broken.
pub(crate) fn broken(limits: &Limits, facts: &Facts) -> Option<ReasonCode> {
    let elapsed = facts.now.saturating_sub(facts.started);
    let over = |limit: u64, value: u64| limit > 0 && value >= limit;
    if over(limits.max_runtime_sec.saturating_mul(1000), elapsed) {
        return Some(ReasonCode::MaxRuntimeExceeded);
    }
    let loops = over(limits.max_barren_steps, facts.barren_steps)
        || over(limits.max_failed_calls, facts.failed_calls);
    if loops || over(limits.max_log_bytes, facts.log_bytes) {
        return Some(ReasonCode::OutputFlood);
    }
    let still = facts.now.saturating_sub(facts.mutated.max(facts.started));
    if facts.mutations_known && over(limits.no_mutation_sec.saturating_mul(1000), still) {
        return Some(ReasonCode::NoMutationTimeout);
    }
    None
}

/// Milliseconds until a limit in time may be broken.
pub(crate) fn next_in_ms(limits: &Limits, facts: &Facts) -> u64 {
    let elapsed = facts.now.saturating_sub(facts.started);
    let still = facts.now.saturating_sub(facts.mutated.max(facts.started));
    let left =
        |limit_ms: u64, value: u64| if limit_ms == 0 { u64::MAX } else { limit_ms.saturating_sub(value) };
    left(limits.max_runtime_sec.saturating_mul(1000), elapsed)
        .min(left(limits.no_mutation_sec.saturating_mul(1000), still))
}
