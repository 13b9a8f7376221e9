//! What is true after a power cut, on a full disk and on a read-only one.
//!
//! For: invariants 2 and 3. Must never: look into the product; it sees commands, files and the recorded writes.

mod cut;
mod full;
pub(crate) mod model;
mod readonly;

pub(crate) use cut::lay_out;

use std::path::Path;

/// Pids of processes of ours that serve this state directory: it is on their command line.
fn ours(state: &Path) -> Vec<i32> {
    let word = state.as_os_str().as_encoded_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word)
    };
    pids.filter(serves).collect()
}
