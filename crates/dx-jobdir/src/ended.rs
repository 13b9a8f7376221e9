//! The ended index: one durable line per ended run in the file of its day. Read backwards, so that the newest come first
//! and nothing gets slower as history grows.

use crate::disk::{self, DiskError, DiskFile};
use crate::journal::open_regular;
use crate::layout::StateDir;
use dx_protocol::{Outcome, Timestamp};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// A day's file is read from its end in pieces of this size.
const PIECE: u64 = 64 << 10;

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
        let Ok(file) = open_regular(&state.ended(&day)) else { continue };
        let mut go_on = true;
        let _readable = lines_backwards(&file, PIECE, &mut |line| {
            if let Ok(outcome) = serde_json::from_slice::<Outcome>(line)
                && since.is_none_or(|since| outcome.completed_at >= since)
                && seen.insert(outcome.ids.run_uuid.clone())
            {
                go_on = take(outcome);
            }
            go_on
        });
        if !go_on {
            return;
        }
    }
}

/// Calls `take` with each line that is not empty, the last first, until it returns `false`; reads in pieces from the end.
fn lines_backwards(file: &File, size: u64, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut end = file.metadata()?.len();
    // The part of a line whose beginning lies before `end`.
    let mut rest: Vec<u8> = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(size);
        let mut piece = vec![0; (end - begin) as usize];
        file.read_exact_at(&mut piece, begin)?;
        piece.append(&mut rest);
        let whole =
            if begin == 0 { 0 } else { piece.iter().position(|b| *b == b'\n').unwrap_or(piece.len()) };
        for line in piece[whole..].rsplit(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            if !take(line) {
                return Ok(());
            }
        }
        piece.truncate(whole);
        rest = piece;
        end = begin;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_backwards_whatever_the_pieces() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("day");
        std::fs::write(&path, "\none\n\ntwo two\n\nthree\n").unwrap();
        let file = File::open(&path).unwrap();
        for size in 1..40 {
            let mut lines = Vec::new();
            lines_backwards(&file, size, &mut |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                true
            })
            .unwrap();
            assert_eq!(lines, ["three", "two two", "one"], "pieces of {size}");
            let mut first = String::new();
            lines_backwards(&file, size, &mut |line| {
                first = String::from_utf8_lossy(line).into_owned();
                false
            })
            .unwrap();
            assert_eq!(first, "three");
        }
    }
}
