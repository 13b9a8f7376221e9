//! Sampling the tree's CPU time, only while the log is silent, backing off while nothing changes.

use dx_protocol::Limits;

/// Growth below this between two samples is noise of a sleeping process.
const PROGRESS_MS: u64 = 50;
const SHORTEST_MS: u64 = 200;
const FIRST_MS: u64 = 10_000;
const LONGEST_MS: u64 = 60_000;

/// When to sample next, and what the last sample said.
pub(crate) struct Cpu {
    first_ms: u64,
    interval_ms: u64,
    next_at: u64,
    pub(crate) total_ms: u64,
    pub(crate) sampled_at: u64,
    /// 0: never.
    pub(crate) grew_at: u64,
}

impl Cpu {
    /// The interval follows the shortest threshold, so that short ones are judged by fresh samples.
    pub(crate) fn new(limits: &Limits, now: u64) -> Self {
        let shortest = limits.startup_grace_sec.min(limits.no_op_sec).min(limits.stall_sec);
        let first_ms = (shortest * 1000 / 5).clamp(SHORTEST_MS, FIRST_MS);
        Self {
            first_ms,
            interval_ms: first_ms,
            next_at: now + first_ms,
            total_ms: 0,
            sampled_at: 0,
            grew_at: 0,
        }
    }

    /// Goes on from what a monitor before this one sampled.
    pub(crate) fn resumed(mut self, total_ms: u64, grew_at: u64) -> Self {
        self.total_ms = total_ms;
        self.grew_at = grew_at;
        self
    }

    /// When the next sample is due.
    pub(crate) fn due_at(&self) -> u64 {
        self.next_at
    }

    /// The log spoke: no sample for a while.
    pub(crate) fn postpone(&mut self, now: u64) {
        self.interval_ms = self.first_ms;
        self.next_at = now + self.interval_ms;
    }

    /// Takes a sample in; `true` when it changes what is known.
    pub(crate) fn sample(&mut self, now: u64, total_ms: u64) -> bool {
        let grew = total_ms >= self.total_ms + PROGRESS_MS;
        if grew {
            self.grew_at = now;
            self.interval_ms = self.first_ms;
        } else {
            self.interval_ms = (self.interval_ms * 2).min(LONGEST_MS.min(self.first_ms * 6));
        }
        self.total_ms = self.total_ms.max(total_ms);
        self.sampled_at = now;
        self.next_at = now + self.interval_ms;
        grew
    }
}
