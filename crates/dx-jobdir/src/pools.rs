//! Providers' accounts that take nothing before a time: one file for all jobs of a state directory.
//!
//! Called by monitors, who hear it from an agent, and by starts, who ask. After the time one start goes first; the others
//! have to wait for what becomes of it, or for a short while. Must never hold anything but names and times.

use crate::ClaimLock;
use crate::disk::{self, DiskError};
use crate::journal::read_bounded;
use crate::layout::StateDir;
pub use dx_protocol::QuotaPool as Pool;
use dx_protocol::{Created, Outcome, ProviderVerdict, Timestamp};
use serde::{Deserialize, Serialize};

const MAX_BYTES: u64 = 4 << 20;
/// Whoever goes first has so long alone.
const PROBE_MS: i64 = 30_000;
/// What nobody asked for any more this long after its time is forgotten.
const OLD_MS: i64 = 24 * 60 * 60 * 1000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    #[serde(flatten)]
    pub pool: Pool,
    pub until: Timestamp,
    /// The time told is over, and somebody went first.
    #[serde(default)]
    pub probed: bool,
}

/// All that are parked at a time.
pub fn parked(state: &StateDir, now: Timestamp) -> Vec<Parked> {
    read(state).into_iter().filter(|line| line.until > now).collect()
}

/// Asks to use a pool: `None` when it may be, else when to ask again.
pub fn enter(state: &StateDir, pool: &Pool, now: Timestamp) -> Result<Option<Timestamp>, DiskError> {
    if !read(state).iter().any(|line| line.pool == *pool) {
        return Ok(None);
    }
    change(state, now, |lines| {
        let at = lines.iter().position(|line| line.pool == *pool)?;
        let line = &mut lines[at];
        if line.until > now {
            return Some(line.until);
        }
        if line.probed {
            lines.remove(at);
        } else {
            (line.until, line.probed) = (Timestamp(now.0 + PROBE_MS), true);
        }
        None
    })
}

/// A structured refusal named the time.
pub fn park(state: &StateDir, pool: &Pool, until: Timestamp, now: Timestamp) -> Result<(), DiskError> {
    if until <= now {
        return Ok(());
    }
    change(state, now, |lines| {
        let known = lines.iter().position(|line| line.pool == *pool).map(|at| lines.remove(at));
        let told = known.filter(|line| !line.probed).map_or(until, |line| line.until.max(until));
        lines.push(Parked { pool: pool.clone(), until: told, probed: false });
    })
}

/// What the end of a run says of its pool; `until` is the last time that the run was told.
pub fn ended(
    state: &StateDir,
    created: &Created,
    outcome: &Outcome,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), DiskError> {
    let pool = Pool::of(created);
    match (&outcome.provider_verdict, until) {
        (ProviderVerdict::Failed { class, .. }, Some(until)) if class.is_limit() => {
            park(state, &pool, until, now)
        }
        (ProviderVerdict::Ok, told) if read(state).iter().any(|line| line.pool == pool) => {
            // One that was never refused may have begun before the others were.
            change(state, now, |lines| {
                lines.retain(|line| line.pool != pool || !(line.probed || told.is_some()));
            })
        }
        _ => Ok(()),
    }
}

fn read(state: &StateDir) -> Vec<Parked> {
    let bytes = read_bounded(&state.pools_file(), MAX_BYTES).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Reads, changes and replaces the file under the lock of the claims; readers see the old or the new one.
fn change<T>(
    state: &StateDir,
    now: Timestamp,
    how: impl FnOnce(&mut Vec<Parked>) -> T,
) -> Result<T, DiskError> {
    let _lock = ClaimLock::take(state)?;
    let before = read(state);
    let mut lines = before.clone();
    let told = how(&mut lines);
    lines.retain(|line| line.until.0 > now.0 - OLD_MS);
    if lines != before {
        let mut text = Vec::new();
        for line in &lines {
            if serde_json::to_writer(&mut text, line).is_ok() {
                text.push(b'\n');
            }
        }
        disk::replace(&state.pools_file(), &text)?;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(model: &str) -> Pool {
        Pool { provider: "p".parse().unwrap(), account: "A".to_owned(), model: model.to_owned() }
    }

    #[test]
    fn after_the_time_one_goes_first_and_the_others_later() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("s")).unwrap();
        let ask = |model: &str, now: i64| enter(&state, &pool(model), Timestamp(now)).unwrap();
        let park = |until: i64, now: i64| park(&state, &pool("m"), Timestamp(until), Timestamp(now)).unwrap();
        assert_eq!(ask("m", 0), None);
        park(100, 1);
        park(90, 2);
        park(101, 200);
        assert_eq!((ask("m", 99), ask("other", 99)), (Some(Timestamp(100)), None));
        let lease = Some(Timestamp(100 + PROBE_MS));
        assert_eq!((ask("m", 100), ask("m", 101), ask("m", 102)), (None, lease, lease));
        // One that is refused again parks anew; one that says nothing for long holds nobody up.
        park(200, 150);
        assert_eq!((ask("m", 199), ask("m", 200)), (Some(Timestamp(200)), None));
        assert_eq!((ask("m", 200 + PROBE_MS), ask("m", 200 + PROBE_MS)), (None, None));
        assert!(parked(&state, Timestamp(0)).is_empty());
        // What nobody asks for is forgotten, and damage is passed over.
        park(300, 250);
        let damaged = [&std::fs::read(state.pools_file()).unwrap()[..], b"{\"provider\":\n"].concat();
        std::fs::write(state.pools_file(), damaged).unwrap();
        assert_eq!(ask("m", 299), Some(Timestamp(300)));
        super::park(&state, &pool("n"), Timestamp(301 + OLD_MS), Timestamp(300 + OLD_MS)).unwrap();
        assert_eq!(read(&state).len(), 1);
    }

    #[test]
    fn of_twenty_that_ask_at_once_one_goes_first() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("s")).unwrap();
        park(&state, &pool("m"), Timestamp(100), Timestamp(0)).unwrap();
        let went = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| enter(&state, &pool("m"), Timestamp(100)).unwrap().is_none());
            let all: Vec<_> = (0..20).map(|_| ask()).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).filter(|went| *went).count()
        });
        assert_eq!(went, 1);
    }
}
