//! Sampling what the tree does, its CPU time and what it writes to storage: only while the log is silent, backing off while
//! nothing changes.
//!
//! Called by `following`. Must never: take the idling of a runtime for work.

use dx_proc::tree::Work;
use dx_protocol::{Grammar, Limits};

/// Less than this of a core between two samples, in thousandths, is no progress: a runtime that idles. While an answer
/// streams in that it does not print yet, a Claude Code uses about 30, and 1 on a dead connection …
const PROGRESS: u64 = 5;
/// … and an OpenCode 250, and 14 on a dead connection.
const PROGRESS_OF_OPENCODE: u64 = 40;
/// The kernel counts in ticks of 10 ms: fewer than two of them are noise in a short interval.
const PROGRESS_MS: u64 = 20;
/// Fewer bytes each second are notes: a tool server has 4 KiB that syncs a line each second, and 9 to 24 that commits to a
/// database …
const PROGRESS_BYTES_S: u64 = 32 << 10;
/// … and fewer at once, too: on a dead connection an OpenCode writes 52 KiB in a minute and a half, a Codex 20, a Gemini CLI 4, and
/// a Claude Code nothing.
const PROGRESS_BYTES: u64 = 64 << 10;
const SHORTEST_MS: u64 = 200;
const FIRST_MS: u64 = 10_000;
const LONGEST_MS: u64 = 60_000;

/// When to sample next, and what the last sample said.
pub(crate) struct Cpu {
    progress: u64,
    first_ms: u64,
    interval_ms: u64,
    next_at: u64,
    /// Milliseconds.
    pub(crate) used: Counter,
    /// Bytes.
    pub(crate) written: Counter,
    /// Of the last sample; before the first, of the beginning.
    pub(crate) sampled_at: u64,
}

/// One thing that is counted.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Of the tree at the last sample. It falls when a process ends whose parent does not wait for it.
    tree: u64,
    pub(crate) total: u64,
    /// 0: never.
    pub(crate) grew_at: u64,
}

impl Counter {
    pub(crate) fn resumed(total: u64, grew_at: u64) -> Self {
        Self { tree: total, total, grew_at }
    }

    /// Whether it grew by as much as is needed.
    fn take(&mut self, now: u64, tree: u64, needed: u64) -> bool {
        let growth = tree.saturating_sub(self.tree);
        self.tree = tree;
        self.total += growth;
        let grew = growth >= needed;
        if grew {
            self.grew_at = now;
        }
        grew
    }
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
            used: Counter::default(),
            written: Counter::default(),
            sampled_at: now,
        }
    }

    /// Goes on from what a monitor before this one sampled.
    pub(crate) fn resumed(mut self, sampled_at: u64, used: Counter, written: Counter) -> Self {
        (self.used, self.written) = (used, written);
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

    /// Takes a sample in; `true` when it shows progress.
    pub(crate) fn sample(&mut self, now: u64, tree: Work) -> bool {
        let passed = now.saturating_sub(self.sampled_at);
        let needed = |each_s: u64| passed.saturating_mul(each_s) / 1000;
        let used = self.used.take(now, tree.cpu_ms, needed(self.progress).max(PROGRESS_MS));
        let bytes = needed(PROGRESS_BYTES_S).max(PROGRESS_BYTES);
        let grew = self.written.take(now, tree.written_bytes, bytes) || used;
        if grew {
            self.interval_ms = self.first_ms;
        } else {
            self.interval_ms = (self.interval_ms * 2).min(LONGEST_MS.min(self.first_ms * 6));
        }
        self.sampled_at = now;
        self.next_at = now + self.interval_ms;
        grew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(cpu_ms: u64, written_bytes: u64) -> Work {
        Work { cpu_ms, written_bytes }
    }

    /// Samples every ten seconds with these times of the tree: whether each shows progress.
    fn progress(grammar: Grammar, times: &[u64]) -> Vec<bool> {
        let mut cpu = Cpu::new(&Limits::default(), grammar, 0);
        times
            .iter()
            .enumerate()
            .map(|(n, time)| cpu.sample((n as u64 + 1) * 10_000, work(*time, 0)))
            .collect()
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
        assert!(cpu.sample(10_000, work(60_000, 0)));
        // Its ten minutes are gone from the tree; what the agent uses now still counts.
        assert!(!cpu.sample(20_000, work(1_000, 0)));
        assert!(cpu.sample(30_000, work(3_000, 0)));
        assert_eq!((cpu.used.total, cpu.used.grew_at), (62_000, 30_000));
    }

    #[test]
    fn a_monitor_that_takes_over_goes_on() {
        let (used, written) = (Counter::resumed(8_000, 30_000), Counter::resumed(1 << 20, 20_000));
        let mut cpu = Cpu::new(&Limits::default(), Grammar::Opencode, 50_000).resumed(40_000, used, written);
        assert!(!cpu.sample(60_000, work(8_100, (1 << 20) + 9)));
        assert_eq!((cpu.used.total, cpu.used.grew_at), (8_100, 30_000));
        assert_eq!((cpu.written.total, cpu.written.grew_at), ((1 << 20) + 9, 20_000));
    }

    /// Samples every `pause_ms` with so many bytes more: whether the last one shows progress.
    fn progress_of_writes(pause_ms: u64, growth: &[u64]) -> bool {
        let mut cpu = Cpu::new(&Limits::default(), Grammar::Text, 0);
        let (mut bytes, mut grew, mut now) = (0, false, 0);
        for more in growth {
            (bytes, now) = (bytes + more, now + pause_ms);
            grew = cpu.sample(now, work(0, bytes));
        }
        grew
    }

    #[test]
    fn what_is_written_is_progress_when_it_is_more_than_notes() {
        // A download of 100 kB each second, and a copy that comes in bursts.
        assert!(progress_of_writes(10_000, &[1_000_000; 3]));
        assert!(progress_of_writes(60_000, &[0, 0, 20_000_000]));
        // An OpenCode on a dead connection puts its database in order.
        assert!(!progress_of_writes(10_000, &[53_248]));
        assert!(!progress_of_writes(1_000, &[53_248]));
        // A tool server that commits to its database each second.
        assert!(!progress_of_writes(60_000, &[24_576 * 60; 3]));
        assert!(!progress_of_writes(10_000, &[0; 3]));
    }
}
