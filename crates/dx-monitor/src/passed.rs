//! The time that a job is judged by: CLOCK_MONOTONIC without the spells in which nobody could work. A suspended machine stops
//! that clock by itself; a paused virtual machine, a frozen control group and a stopped container do not, but no process of
//! theirs runs meanwhile, the monitor neither.
//!
//! Every threshold, limit and deadline of a monitor is measured with it; records keep the kernel's clock. Must never be read
//! so seldom that waiting looks like a pause: a monitor waits a second at most.

use std::cell::Cell;

/// A monitor that has not looked for longer than this was kept from it …
const LONGEST_LOOK_MS: u64 = 3_000;
/// … and of that time so much counts, so that limits hold on a machine that is always late, too.
const LATE_LOOK_MS: u64 = 1_000;

/// The clock of one run.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    /// The last reading.
    mono_ms: Cell<u64>,
    paused_ms: Cell<u64>,
}

impl Passed {
    /// A clock that was last read then, and had been paused for so long.
    pub(crate) fn since(mono_ms: u64, paused_ms: u64) -> Self {
        Self { mono_ms: Cell::new(mono_ms), paused_ms: Cell::new(paused_ms) }
    }

    pub(crate) fn now(&self) -> u64 {
        self.at(dx_proc::clock::monotonic_ms())
    }

    pub(crate) fn paused_ms(&self) -> u64 {
        self.paused_ms.get()
    }

    fn at(&self, mono_ms: u64) -> u64 {
        let gap = mono_ms.saturating_sub(self.mono_ms.replace(mono_ms));
        if gap > LONGEST_LOOK_MS {
            self.paused_ms.set(self.paused_ms.get() + gap - LATE_LOOK_MS);
        }
        mono_ms.saturating_sub(self.paused_ms.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_saw_has_not_passed() {
        let clock = Passed::since(10_000, 0);
        assert_eq!(clock.at(11_000), 11_000);
        // Late, but there.
        assert_eq!(clock.at(14_000), 14_000);
        assert_eq!(clock.at(3_614_000), 15_000);
        assert_eq!((clock.at(3_615_000), clock.paused_ms()), (16_000, 3_599_000));
        // Always late: time passes all the same.
        let late = Passed::since(0, 0);
        assert_eq!((1..=600).map(|look| late.at(look * 10_000)).last(), Some(600_000));
        // One that takes over.
        let next = Passed::since(3_620_000, 3_599_000);
        assert_eq!(next.at(3_621_000), 22_000);
    }
}
