//! When the monitor looks at the log again: rarely beside a silent agent, and the sooner the faster the log grows, so that a
//! flood is ended near its limit and not gigabytes behind it.

use dx_proc::WriteAlarm;
use std::path::Path;

/// Beside a silent agent.
const SILENT_MS: u64 = 1_000;
/// Beside one that writes.
const ACTIVE_MS: u64 = 250;
/// After the first write that breaks a silence.
const FIRST_MS: u64 = 50;
/// In a flood …
const FLOOD_MS: u64 = 20;
/// … which is this much between two looks.
const FLOOD_BYTES: u64 = 256 << 10;

/// What was seen so far.
#[derive(Debug)]
pub(crate) struct Pace {
    alarm: Option<WriteAlarm>,
    /// It will ring at the next write.
    armed: bool,
    rang: bool,
    bytes: u64,
}

impl Pace {
    /// For the logs in this directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { alarm: WriteAlarm::new(directory), armed: false, rang: false, bytes: 0 }
    }

    /// The alarm's signal has come.
    pub(crate) fn ring(&mut self) {
        self.rang = self.armed;
        self.armed = false;
    }

    /// Milliseconds until the next look, after one that found `bytes` of output. Sets the alarm when nothing was new.
    pub(crate) fn next_ms(&mut self, bytes: u64) -> u64 {
        let grown = bytes.abs_diff(self.bytes);
        self.bytes = bytes;
        let rang = std::mem::take(&mut self.rang);
        if grown >= FLOOD_BYTES {
            return FLOOD_MS;
        }
        if rang && grown > 0 {
            return FIRST_MS;
        }
        if grown > 0 {
            return ACTIVE_MS;
        }
        if !self.armed {
            self.armed = self.alarm.as_ref().is_some_and(WriteAlarm::arm);
            // What was written before it was armed is not told.
            return if self.armed { FIRST_MS } else { SILENT_MS };
        }
        SILENT_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_it_grows_the_sooner_is_the_next_look() {
        let folder = tempfile::tempdir().unwrap();
        let mut pace = Pace::new(folder.path());
        assert_eq!(pace.next_ms(10 << 20), FLOOD_MS);
        assert_eq!(pace.next_ms((10 << 20) + 1), ACTIVE_MS);
        // Cut: that is activity too.
        assert_eq!(pace.next_ms(0), FLOOD_MS);
        pace.alarm = None;
        assert_eq!(pace.next_ms(0), SILENT_MS);
        pace.armed = true;
        assert_eq!(pace.next_ms(0), SILENT_MS);
        pace.ring();
        assert_eq!(pace.next_ms(5), FIRST_MS);
        assert_eq!(pace.next_ms(10), ACTIVE_MS);
        // A ring that is not ours changes nothing.
        pace.ring();
        assert_eq!(pace.next_ms(15), ACTIVE_MS);
    }
}
