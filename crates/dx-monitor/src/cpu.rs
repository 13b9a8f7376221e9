//! Sampling the tree's CPU time, only while the log is silent, backing off while nothing changes.

use dx_protocol::{Grammar, Limits};

/// Less than this of a core between two samples, in thousandths, is no progress: a runtime that idles. While an answer
/// streams in that it does not print yet, a Claude Code uses about 30, and 1 on a dead connection …
const PROGRESS: u64 = 5;
/// … and an OpenCode 250, and 14 on a dead connection.
const PROGRESS_OF_OPENCODE: u64 = 40;
/// The kernel counts in ticks of 10 ms: fewer than two of them are noise in a short interval.
const PROGRESS_MS: u64 = 20;
const SHORTEST_MS: u64 = 200;
const FIRST_MS: u64 = 10_000;
const LONGEST_MS: u64 = 60_000;

/// When to sample next, and what the last sample said.
pub(crate) struct Cpu {
    progress: u64,
    first_ms: u64,
    interval_ms: u64,
    next_at: u64,
    /// The tree's time at the last sample. It falls when a process ends whose parent does not wait for it.
    tree_ms: u64,
    pub(crate) total_ms: u64,
    /// Of the last sample; before the first, of the beginning.
    pub(crate) sampled_at: u64,
    /// 0: never.
    pub(crate) grew_at: u64,
}

impl Cpu {
    /// The interval follows the shortest threshold, so that short ones are judged by fresh samples.
    pub(crate) fn new(limits: &Limits, grammar: Grammar, now: u64) -> Self {
        let shortest = limits.startup_grace_sec.min(limits.no_op_sec).min(limits.stall_sec);
        let first_ms = (shortest * 1000 / 5).clamp(SHORTEST_MS, FIRST_MS);
        let progress = if grammar == Grammar::Opencode { PROGRESS_OF_OPENCODE } else { PROGRESS };
        Self {
            progress,
            first_ms,
            interval_ms: first_ms,
            next_at: now + first_ms,
            tree_ms: 0,
            total_ms: 0,
            sampled_at: now,
            grew_at: 0,
        }
    }

    /// Goes on from what a monitor before this one sampled.
    pub(crate) fn resumed(mut self, total_ms: u64, sampled_at: u64, grew_at: u64) -> Self {
        self.tree_ms = total_ms;
        self.total_ms = total_ms;
        self.grew_at = grew_at;
        if sampled_at != 0 {
            self.sampled_at = sampled_at;
        }
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
    pub(crate) fn sample(&mut self, now: u64, tree_ms: u64) -> bool {
        let growth = tree_ms.saturating_sub(self.tree_ms);
        let needed = now.saturating_sub(self.sampled_at).saturating_mul(self.progress) / 1000;
        let grew = growth >= needed.max(PROGRESS_MS);
        if grew {
            self.grew_at = now;
            self.interval_ms = self.first_ms;
        } else {
            self.interval_ms = (self.interval_ms * 2).min(LONGEST_MS.min(self.first_ms * 6));
        }
        self.tree_ms = tree_ms;
        self.total_ms += growth;
        self.sampled_at = now;
        self.next_at = now + self.interval_ms;
        grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples every ten seconds with these times of the tree: whether each shows progress.
    fn progress(grammar: Grammar, times: &[u64]) -> Vec<bool> {
        let mut cpu = Cpu::new(&Limits::default(), grammar, 0);
        times.iter().enumerate().map(|(n, time)| cpu.sample((n as u64 + 1) * 10_000, *time)).collect()
    }

    #[test]
    fn an_idle_runtime_is_no_progress_and_a_starved_build_is() {
        // An OpenCode on a dead connection: 140 ms in 10 s, for ever.
        let opencode = |times| progress(Grammar::Opencode, times);
        assert_eq!(opencode(&[2_000, 2_140, 2_280, 2_420]), [true, false, false, false]);
        // A build that gets a twentieth of a core.
        assert_eq!(opencode(&[500, 1_000, 1_500]), [true; 3]);
        // A Claude Code on a dead connection, and one to which an answer streams.
        assert_eq!(progress(Grammar::Claude, &[1_000, 1_010, 1_020, 1_320]), [true, false, false, true]);
        assert_eq!(progress(Grammar::Text, &[0, 10, 60]), [false, false, true]);
    }

    #[test]
    fn progress_after_a_stray_has_taken_its_time_along() {
        let mut cpu = Cpu::new(&Limits::default(), Grammar::Opencode, 0);
        assert!(cpu.sample(10_000, 60_000));
        // Its ten minutes are gone from the tree; what the agent uses now still counts.
        assert!(!cpu.sample(20_000, 1_000));
        assert!(cpu.sample(30_000, 3_000));
        assert_eq!((cpu.total_ms, cpu.grew_at), (62_000, 30_000));
    }

    #[test]
    fn a_monitor_that_takes_over_goes_on() {
        let mut cpu = Cpu::new(&Limits::default(), Grammar::Opencode, 50_000).resumed(8_000, 40_000, 30_000);
        assert!(!cpu.sample(60_000, 8_100));
        assert_eq!((cpu.total_ms, cpu.grew_at), (8_100, 30_000));
    }
}
