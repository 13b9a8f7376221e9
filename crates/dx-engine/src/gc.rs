//! `gc`: deletes the files of jobs that ended long ago, and their worktrees when all work in them is merged. The ended index
//! and the history stay.
//!
//! Of a run the journal goes last, so that whatever was cut off is found again by it. Must never touch a live job, a claim,
//! another program's or host's record, what a wave still needs, or a worktree with work that is in no branch, tag or remote.

use crate::Engine;
use crate::api::GcRequest;
use crate::error::{EngineError, told};
use crate::lookup::{self, Found};
use crate::permission::Places;
use crate::prune::age_ms;
use crate::wave::OpenJobs;
use crate::worktree::{Keep, Lock, Place, Unsaved, disk_use_of, remove_saved};
use dx_jobdir::{ClaimLock, JournalWriter, RunPaths, StateDir, disk, faults};
use dx_proc::clock;
use dx_protocol::{BeadsId, GcDocument, GcKept, GcRemoved, Outcome, ProviderName, RunUuid, Timestamp};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The published files of a job; of the first two there are also numbered ones.
const SUFFIXES: [&str; 13] = [
    "log",
    "outcome",
    "err",
    "meta",
    "contract",
    "rc",
    "pid",
    "monitor.pid",
    "mutation",
    "heartbeat",
    "obs",
    "prompt",
    "events.jsonl",
];

type Job = (ProviderName, BeadsId);

impl Engine {
    /// Deletes what ended before and is not needed any more.
    pub fn gc(&self, request: &GcRequest) -> Result<GcDocument, EngineError> {
        let (state, places) = (self.state()?, self.places()?);
        // What goes now is told by the history alone.
        crate::history::catch_up(&state)?;
        let mut document = GcDocument {
            schema: "dx-runner/gc/1".to_owned(),
            removed: Vec::new(),
            kept: Vec::new(),
            freed_bytes: 0,
        };
        let mut jobs = runs_by_job(&state, request.older_than);
        for (provider, beads) in lookup::known(&state) {
            // Jobs without a run of ours are other programs'.
            jobs.entry((provider, beads)).or_default();
        }
        let kept = |(provider, beads): &Job, why: String| GcKept {
            beads: beads.to_string(),
            provider: provider.to_string(),
            why,
        };
        let mut ended: Vec<(Job, Vec<Found>, Outcome)> = Vec::new();
        // After the jobs: of each of them the wave is there by now.
        let open = OpenJobs::read(&state);
        for (job, runs) in jobs {
            if let Some(wave) = open.wave_of(&job.1) {
                let why = format!("wave {wave} is not over; dx-runner wave status {wave}");
                document.kept.push(kept(&job, why));
                continue;
            }
            match settled(&state, &job, &runs) {
                Ok(outcome) => ended.push((job, runs, outcome)),
                Err(why) => document.kept.push(kept(&job, why)),
            }
        }
        ended.sort_by_key(|(_, _, outcome)| std::cmp::Reverse(outcome.completed_at));
        let now = Timestamp(clock::now_ms());
        let (age, text) =
            (u64::try_from(request.older_than.as_millis()).unwrap_or(u64::MAX), span(request.older_than));
        for (index, (job, runs, outcome)) in ended.into_iter().enumerate() {
            let stays = if index < request.keep {
                Some(format!("it is one of the {} that ended last", request.keep))
            } else if now.since_ms(outcome.completed_at) < age {
                Some(format!("it ended within the last {text}"))
            } else {
                None
            };
            let done = stays.map_or_else(|| delete(&state, &places, &job, &runs), |why| Ok(Err(why)));
            match done {
                Ok(Ok(removed)) => {
                    document.freed_bytes += removed.bytes;
                    document.removed.push(removed);
                }
                Ok(Err(why)) => document.kept.push(kept(&job, why)),
                // The others go all the same.
                Err(error) => document.kept.push(kept(&job, told(&error))),
            }
        }
        Ok(document)
    }
}

/// Deletes one job; the inner error says why it stays.
fn delete(
    state: &StateDir,
    places: &Places,
    job: &Job,
    runs: &[Found],
) -> Result<Result<GcRemoved, String>, EngineError> {
    let (provider, beads) = job;
    let mut removed = GcRemoved {
        beads: beads.to_string(),
        provider: provider.to_string(),
        runs: runs.len() as u64,
        worktree: None,
        bytes: 0,
    };
    // Whoever holds a run's lock still writes.
    let mut locks = Vec::new();
    for run in runs {
        match JournalWriter::try_lock(&run.paths.journal())? {
            Some(lock) => locks.push(lock),
            None => return Ok(Err("another process works on its record".to_owned())),
        }
    }
    let mut folders: Vec<&str> = runs.iter().map(|run| run.run.created.spec.worktree.as_str()).collect();
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        match worktree(state, places, beads, Path::new(folder))? {
            Ok(Some(bytes)) => {
                removed.worktree = Some(folder.to_owned());
                removed.bytes += bytes;
            }
            Ok(None) => {}
            Err(why) => return Ok(Err(why)),
        }
    }
    {
        // No start can claim the job meanwhile, or publish files of a new run.
        let _lock = ClaimLock::take(state)?;
        if state.live(provider, beads).exists() {
            return Ok(Err("it was started again".to_owned()));
        }
        remove_views(state, provider, beads)?;
    }
    faults::step("gc.views_removed");
    for run in runs {
        removed.bytes += disk_use_of(run.paths.dir());
        remove_run(&run.paths)?;
        let _removed = std::fs::remove_dir_all(state.tmp(&run.run.created.ids.run_uuid));
    }
    Ok(Ok(removed))
}

/// All runs that have a journal, oldest first; what an earlier `gc` left of others is cleared away.
fn runs_by_job(state: &StateDir, older_than: Duration) -> BTreeMap<Job, Vec<Found>> {
    let mut jobs: BTreeMap<Job, Vec<Found>> = BTreeMap::new();
    let entries = std::fs::read_dir(state.runs_dir()).into_iter().flatten().flatten();
    let mut uuids: Vec<RunUuid> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    uuids.sort();
    for uuid in uuids {
        let paths = state.run(&uuid);
        match lookup::read_run(state, &paths.journal(), false) {
            Ok(found) => {
                let ids = &found.run.created.ids;
                jobs.entry((ids.provider.clone(), ids.beads.clone())).or_default().push(found);
            }
            Err(_) if std::fs::symlink_metadata(paths.journal()).is_err() => {
                if age_ms(&uuid).is_some_and(|age| u128::from(age) > older_than.as_millis().max(MIN_AGE_MS)) {
                    let _removed = disk::remove_dir_all(paths.dir());
                    let _removed = std::fs::remove_dir_all(state.tmp(&uuid));
                }
            }
            // One that cannot be read is for a person to look at.
            Err(_) => {}
        }
    }
    jobs
}

/// A start that has just made its folder has no journal in it yet.
const MIN_AGE_MS: u128 = 60 * 60 * 1000;

/// The outcome of a job that is over and ours to delete; the error says why it stays.
fn settled(state: &StateDir, (provider, beads): &Job, runs: &[Found]) -> Result<Outcome, String> {
    let Some(newest) = runs.last() else {
        return Err("another program recorded it, or its record cannot be read".to_owned());
    };
    if state.live(provider, beads).exists() {
        return Err("it is live".to_owned());
    }
    let host = &newest.run.created.starter.host;
    if *host != dx_proc::hostname() {
        return Err(format!("it belongs to host {host}"));
    }
    if newest.run.blocked.is_some() {
        return Err("it is blocked: a person must look".to_owned());
    }
    if runs.iter().any(|run| run.run.outcome.is_none()) {
        return Err("it has no outcome yet: dx-runner prune settles it".to_owned());
    }
    newest.run.outcome.clone().ok_or_else(|| "it has no outcome yet".to_owned())
}

/// Removes the job's worktree when it is one of ours; its size. `Ok(None)` when there is none, or it is the user's own.
fn worktree(
    state: &StateDir,
    places: &Places,
    beads: &BeadsId,
    folder: &Path,
) -> Result<Result<Option<u64>, String>, EngineError> {
    let root = places.worktree_root()?;
    let same = |place: &Place| place.path().canonicalize().is_ok_and(|path| path == folder);
    let Some(place) = Place::of_id(root, beads).into_iter().find(same) else { return Ok(Ok(None)) };
    let Some(_lock) = Lock::existing(&place.folder)? else { return Ok(Ok(None)) };
    let Some(made) = place.load() else {
        return Ok(Err(format!("its worktree {} has no record of ours", folder.display())));
    };
    let bytes = disk_use_of(folder);
    Ok(match remove_saved(state, &place, made, Keep::Unmerged)? {
        Ok(_) => Ok(Some(bytes)),
        Err(Unsaved::Live(job)) => Err(format!("job {job} works in its worktree {}", folder.display())),
        Err(Unsaved::Occupied(process)) => {
            Err(format!("process {process} works in its worktree {}", folder.display()))
        }
        Err(Unsaved::Work { work, .. }) => {
            Err(format!("its worktree {} holds {}", folder.display(), work.join("; ")))
        }
    })
}

fn remove_views(state: &StateDir, provider: &ProviderName, beads: &BeadsId) -> Result<(), EngineError> {
    let folder = state.provider_dir(provider);
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(beads.as_str())?.strip_prefix('.'));
        if rest.is_some_and(is_view) {
            disk::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether this is the end of a view's name; another job's id may begin with this one's.
fn is_view(rest: &str) -> bool {
    let numbered = |name: &str| {
        let number = rest.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    SUFFIXES.contains(&rest) || numbered("log") || numbered("outcome")
}

fn remove_run(paths: &RunPaths) -> Result<(), EngineError> {
    for entry in std::fs::read_dir(paths.dir()).into_iter().flatten().flatten() {
        if entry.path() != paths.journal() {
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if folder { disk::remove_dir_all(&entry.path()) } else { disk::remove(&entry.path()) }?;
        }
    }
    faults::step("gc.run_emptied");
    disk::remove(&paths.journal())?;
    Ok(disk::remove_dir_all(paths.dir())?)
}

/// As people say it.
fn span(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = duration.as_secs();
    if seconds >= DAY && seconds.is_multiple_of(DAY) {
        return format!("{}d", seconds / DAY);
    }
    dx_protocol::elapsed_text(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::is_view;

    #[test]
    fn a_jobs_files_are_not_those_of_one_with_a_longer_id() {
        for rest in ["log", "log.1", "outcome.23", "monitor.pid", "events.jsonl"] {
            assert!(is_view(rest), "{rest}");
        }
        for rest in ["2.log", "log.log", "meta.meta", "log.", "outcome.1a", "err.1", "x"] {
            assert!(!is_view(rest), "{rest}");
        }
    }
}
