//! The ended index: one durable line per ended run in the file of its day. Read backwards, so that the newest come first
//! and nothing gets slower as history grows.

use crate::disk::{self, DiskError, DiskFile};
use crate::journal::read_bounded;
use crate::layout::StateDir;
use dx_protocol::{Outcome, Timestamp};
use std::io;

/// No day's file is read beyond this.
const MAX_DAY_BYTES: u64 = 1 << 30;

/// Appends the line of an ended run. A second line of the same run may happen after a crash; readers take the last.
pub fn append(state: &StateDir, outcome: &Outcome) -> Result<(), DiskError> {
    let path = state.ended(&outcome.completed_at.day());
    let file = DiskFile::open_append_or_create(&path)?;
    let mut line = serde_json::to_vec(outcome).map_err(|e| DiskError {
        op: "append to",
        path: path.clone(),
        source: io::Error::from(e),
    })?;
    line.insert(0, b'\n');
    line.push(b'\n');
    file.append(&line)?;
    file.sync_data()?;
    // Always: whoever made the day's file may have died before its name was durable.
    disk::sync_dir(&state.ended_dir())
}

/// Days that have ended runs, newest first.
pub fn days(state: &StateDir) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(state.ended_dir()) else { return Vec::new() };
    let mut days: Vec<String> = entries
        .flatten()
        .filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    days.sort_by(|a, b| b.cmp(a));
    days
}

/// Calls `take` with the ended runs, newest first, until it returns `false` or a day before `since` begins.
pub fn newest_first(state: &StateDir, since: Option<Timestamp>, take: &mut dyn FnMut(Outcome) -> bool) {
    let oldest = since.map(Timestamp::day);
    let mut seen = std::collections::HashSet::new();
    for day in days(state) {
        if oldest.as_ref().is_some_and(|oldest| day < *oldest) {
            return;
        }
        let Ok(bytes) = read_bounded(&state.ended(&day), MAX_DAY_BYTES) else { continue };
        for line in bytes.rsplit(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let Ok(outcome) = serde_json::from_slice::<Outcome>(line) else { continue };
            if since.is_some_and(|since| outcome.completed_at < since) {
                continue;
            }
            if seen.insert(outcome.ids.run_uuid.clone()) && !take(outcome) {
                return;
            }
        }
    }
}
