//! The last steps of a run, in the one order that loses nothing: outcome into the journal, the run's name durable, the
//! published views, the ended index, the claim, the history. Done again from any point it changes nothing.

use dx_core::{Run, decide};
use dx_jobdir::{
    DiskError, JournalWriter, RunPaths, StateDir, claim, disk, ended, faults, history, pools, views,
};
use dx_protocol::{Event, Outcome, Record, RunIds, Timestamp, Writer};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Why a run could not be finished now; what was done so far stands.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error("the process of this run has not ended")]
    NotEnded,
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Finishes a run whose `process_ended` is journalled. The caller holds the lock.
pub fn finish(
    state: &StateDir,
    paths: &RunPaths,
    journal: &JournalWriter,
    run: &mut Run,
    by: Writer,
) -> Result<Outcome, FinishError> {
    let outcome = if let Some(outcome) = &run.outcome {
        outcome.clone()
    } else {
        let outcome = decide(run).ok_or(FinishError::NotEnded)?;
        let record = Record {
            at: Timestamp(dx_proc::clock::now_ms()),
            mono_ms: dx_proc::clock::monotonic_ms(),
            by,
            event: Event::Ended(Box::new(outcome.clone())),
        };
        journal.append(&record)?;
        // The fold accepts `ended` after `process_ended`, which `decide` has checked.
        let _applied = run.apply(&record);
        outcome
    };
    faults::step("monitor.outcome_record");
    // Nothing uses it any more; the settler has removed it already where there was one.
    let _removed = std::fs::remove_dir_all(state.tmp(&outcome.ids.run_uuid));
    // The claim is a name of the journal; the run's own name must be durable before the claim may go.
    disk::sync_dir(paths.dir())?;
    disk::sync_dir(&state.runs_dir())?;
    // Views before the index: a step that keeps failing must not add a line with every try.
    views::publish_end(state, Some(&run.created), &outcome)?;
    faults::step("monitor.outcome_view");
    ended::append(state, &outcome)?;
    faults::step("monitor.ended_index");
    // Before the claim goes: a wave that sees it gone asks the ledger. Whoever comes next finds out himself when it cannot be
    // written.
    let now = Timestamp(dx_proc::clock::now_ms());
    let _noted = pools::ended(state, &run.created, &outcome, run.limited_until, now);
    if holds_claim(state, paths, &outcome.ids) {
        claim::release(state, &outcome.ids.provider, &outcome.ids.beads)?;
    }
    faults::step("monitor.released");
    // Last and least: a full or broken history holds no job up, and `prune` adds from the ended index what is missing.
    let _recorded = history::append(state, &history::line_of(&outcome));
    faults::step("monitor.history");
    Ok(outcome)
}

/// Whether the claim of the job is this run's: it is a second name of this journal. A newer run may hold it once ours has
/// gone.
pub(crate) fn holds_claim(state: &StateDir, paths: &RunPaths, ids: &RunIds) -> bool {
    let file = |path: &std::path::Path| std::fs::symlink_metadata(path).map(|m| (m.dev(), m.ino()));
    match (file(&state.live(&ids.provider, &ids.beads)), file(&paths.journal())) {
        (Ok(claim), Ok(journal)) => claim == journal,
        (Ok(_), Err(_)) => true,
        (Err(e), _) => e.kind() != io::ErrorKind::NotFound,
    }
}
