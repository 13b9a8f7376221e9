//! The history: one line per ended run in the file of its month, for ever. The least of a run's records: it is made from
//! the outcome, the ended index has the same run, and whoever prunes next adds what is missing here.
//!
//! Called by: who finishes a run, after everything else; `prune`. Must never: keep an outcome from being told, so callers
//! may ignore every error of this.

use crate::disk::{self, DiskError, DiskFile};
use crate::layout::{StateDir, StateDirError};
use crate::views;
use dx_protocol::{HISTORY_SCHEMA, HistoryLine, Outcome};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where a line of the same run is looked for: finishing a run again follows soon, if at all.
const TAIL: u64 = 64 << 10;
/// What an agent said of its error may be long.
const MAX_DETAIL: usize = 500;

/// The line of an ended run.
pub fn line_of(outcome: &Outcome) -> HistoryLine {
    let words = views::verdict_words(outcome);
    let work = &outcome.work;
    HistoryLine {
        schema: HISTORY_SCHEMA.to_owned(),
        run_uuid: outcome.ids.run_uuid.to_string(),
        run_instance: outcome.ids.run_instance.clone(),
        beads: outcome.ids.beads.to_string(),
        provider: outcome.ids.provider.to_string(),
        selected_model: outcome.selected_model.clone(),
        fallback_reason: outcome.fallback_reason.clone(),
        state: outcome.state.to_string(),
        reason_code: outcome.reason_code.to_string(),
        exit_code: outcome.exit_code.clone(),
        detail: outcome.detail.chars().take(MAX_DETAIL).collect(),
        started_at: outcome.started_at,
        completed_at: outcome.completed_at,
        duration_sec: outcome.duration_sec,
        retries: outcome.retries,
        execution_mode: outcome.execution_mode.clone(),
        host: outcome.host.clone(),
        cwd: outcome.cwd.clone(),
        worktree: outcome.worktree.clone(),
        provider_switch_from: outcome.provider_switch_from.clone(),
        verdict_process: words.process,
        verdict_provider: words.provider,
        verdict_work: words.work,
        verdict_gates: words.gates,
        verdict_check: words.check,
        mutations: work.mutations,
        commits: work.cut.as_ref().map_or(work.commits.len() as u64, |cut| cut.commits),
        files_changed: work.cut.as_ref().map_or(work.files_changed.len() as u64, |cut| cut.files),
        head: work.head.clone(),
        input_tokens: outcome.usage.input_tokens,
        output_tokens: outcome.usage.output_tokens,
        cached_tokens: outcome.usage.cached_tokens,
        cost_usd: outcome.usage.cost_usd,
        tool_calls: outcome.tools.values().sum(),
        log_bytes: outcome.log_bytes,
        cpu_time_sec: outcome.cpu_time_sec,
        strays: outcome.strays,
    }
}

/// Appends a run's line and syncs it; nothing when the end of the file has one of this run. A line that was torn before
/// is ended by this one and skipped by readers.
pub fn append(state: &StateDir, line: &HistoryLine) -> Result<(), DiskError> {
    let folder = state.history_dir();
    make_folder(state)?;
    let path = folder.join(format!("{}.jsonl", line.completed_at.month()));
    let file = DiskFile::open_append_or_create(&path)?;
    let fail = |source| DiskError { op: "append to", path: path.clone(), source };
    let meta = file.file().metadata().map_err(fail)?;
    if !meta.is_file() {
        return Err(fail(io::Error::other("not a regular file")));
    }
    if tail_tells(&file, meta.len(), &line.run_uuid).map_err(fail)? {
        return Ok(());
    }
    let mut bytes = vec![b'\n'];
    serde_json::to_writer(&mut bytes, line).map_err(|e| fail(e.into()))?;
    bytes.push(b'\n');
    file.append(&bytes)?;
    file.sync_data()?;
    if meta.len() == 0 { disk::sync_dir(&folder) } else { Ok(()) }
}

fn make_folder(state: &StateDir) -> Result<(), DiskError> {
    let made = state.make_history_dir().map_err(|error| match error {
        StateDirError::Disk(error) => error,
        refused => DiskError { op: "write to", path: state.history_dir(), source: io::Error::other(refused) },
    })?;
    match state.history_dir().parent() {
        Some(parent) if made => disk::sync_dir(parent),
        _ => Ok(()),
    }
}

fn tail_tells(file: &DiskFile, len: u64, uuid: &str) -> io::Result<bool> {
    let begin = len.saturating_sub(TAIL);
    let mut tail = vec![0; (len - begin) as usize];
    file.file().read_exact_at(&mut tail, begin)?;
    let wanted = format!("\"run_uuid\":\"{uuid}\"");
    let whole = |line: &[u8]| line.ends_with(b"}") && line.starts_with(b"{");
    let tells = |line: &[u8]| line.windows(wanted.len()).any(|part| part == wanted.as_bytes());
    Ok(tail.split(|byte| *byte == b'\n').any(|line| whole(line) && tells(line)))
}

/// The files, oldest month first.
pub fn files(state: &StateDir) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(state.history_dir()) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::Timestamp;

    fn line(uuid: &str) -> HistoryLine {
        let text = format!(r#"{{"schema":"{HISTORY_SCHEMA}","run_uuid":"{uuid}"}}"#);
        let mut line: HistoryLine = serde_json::from_str(&text).unwrap();
        line.completed_at = Timestamp(1_771_416_000_000);
        line
    }

    #[test]
    fn a_run_has_one_line_and_a_torn_one_harms_no_other() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("state")).unwrap();
        append(&state, &line("a")).unwrap();
        append(&state, &line("a")).unwrap();
        let path = state.history_dir().join("2026-02.jsonl");
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().filter(|l| !l.is_empty()).count(), 1, "{whole}");
        // A power cut in the middle of the line of b.
        let torn = serde_json::to_string(&line("b")).unwrap();
        std::fs::write(&path, format!("{whole}\n{}", &torn[..torn.len() - 9])).unwrap();
        append(&state, &line("b")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read = text.lines().filter_map(|l| serde_json::from_str::<HistoryLine>(l).ok());
        assert_eq!(read.map(|l| l.run_uuid).collect::<Vec<_>>(), ["a", "b"], "{text}");
        assert_eq!(files(&state), [path]);
    }

    #[test]
    fn the_default_place_is_beside_the_jobs_and_another_one_inside() {
        let place = |root: &str| StateDir::trusted(root.into()).history_dir();
        assert_eq!(place("/x/state/dx-runner/jobs"), PathBuf::from("/x/state/dx-runner/history"));
        assert_eq!(place("/x/jobs"), PathBuf::from("/x/jobs/history"));
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("state")).unwrap();
        std::os::unix::fs::symlink(tmp.path(), state.history_dir()).unwrap();
        assert!(append(&state, &line("a")).is_err());
    }
}
