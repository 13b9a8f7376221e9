//! `prune`: settle what nobody looks after, and clear away pid files that name nothing and what killed starters left.

use crate::Engine;
use crate::api::JobName;
use crate::damaged::{self, Remains};
use crate::error::{EngineError, told};
use crate::lookup::{self, Found, Record};
use crate::settle::{Attended, attend};
use crate::view;
use dx_jobdir::{ClaimLock, JournalWriter, StateDir, claim, disk};
use dx_proc::{Host, clock};
use dx_protocol::{ProviderName, PruneDocument, RunUuid};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A pid file is short.
const MAX_PID_BYTES: u64 = 32;
/// How far back leftovers of killed starters are looked for: history must not make this slow.
const RECENT_MS: u64 = 24 * 60 * 60 * 1000;
/// A run folder that has no record after this long gets none any more.
const UNTOLD_MS: u64 = 60 * 60 * 1000;

impl Engine {
    /// Settles runs whose processes are gone and removes invalid pid files and leftovers of killed starters; of one job
    /// when named.
    pub fn prune(&self, job: Option<&JobName>) -> Result<PruneDocument, EngineError> {
        let state = self.state()?;
        let host = Host::current()?;
        let mut document = PruneDocument {
            schema: "dx-runner/prune/1".to_owned(),
            checked: 0,
            pruned: 0,
            details: Vec::new(),
        };
        if let Some(job) = job {
            match lookup::newest(&state, job) {
                Ok(_) | Err(EngineError::JobDamaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let named = |provider: &ProviderName, beads: &dx_protocol::BeadsId| {
            job.is_none_or(|j| j.beads == *beads && j.provider.as_ref().is_none_or(|p| p == provider))
        };
        for claim in claim::claims(&state) {
            if !named(&claim.provider, &claim.beads) {
                continue;
            }
            document.checked += 1;
            let found = match lookup::read_run(&state, &claim.path, true) {
                Ok(found) => found,
                Err(error) => {
                    let error = lookup::of_job(error, &claim.provider, &claim.beads);
                    let (done, what) = unreadable(&state, &host, &error);
                    document.pruned += u64::from(done);
                    document.details.push(format!("{}.{}: {what}", claim.provider, claim.beads));
                    continue;
                }
            };
            let attended = match attend(&state, &host, &found) {
                Ok(attended) => attended,
                // The others are settled all the same.
                Err(error) => {
                    document.details.push(format!("{}: {}", claim.beads, told(&error)));
                    continue;
                }
            };
            match attended {
                Attended::Settled(outcome) => {
                    document.pruned += 1;
                    document.details.push(format!(
                        "{}: settled as {} ({})",
                        claim.beads, outcome.state, outcome.reason_code
                    ));
                }
                Attended::Adopted => {
                    document
                        .details
                        .push(format!("{}: not at its end yet; a new monitor has it", claim.beads));
                }
                Attended::Busy | Attended::Elsewhere => {}
            }
        }
        stale_pid_files(&state, &named, &mut document)?;
        for uuid in recent_runs(&state) {
            if let Some(text) = remove_unclaimed(&state, &host, &uuid, job.is_none(), &named) {
                document.checked += 1;
                document.pruned += 1;
                document.details.push(text);
            }
        }
        dx_jobdir::queue::clear(&state, &ClaimLock::take(&state)?);
        // What the history lacks is no reason to fail.
        match crate::history::catch_up(&state) {
            Ok(0) => {}
            Ok(added) => document.details.push(format!("history: added {added} runs that it lacked")),
            Err(error) => document.details.push(format!("history: {}", told(&error))),
        }
        Ok(document)
    }
}

/// What became of a claim that cannot be read: whether it is gone, and what to say.
fn unreadable(state: &StateDir, host: &Host, error: &EngineError) -> (bool, String) {
    let EngineError::JobDamaged { provider, beads, why } = error else { return (false, told(error)) };
    let remains = Remains::find(state, provider, beads, why.clone());
    match remains.map(|remains| damaged::settle_dead(state, host, &remains)) {
        Some(Ok(Some(done))) => (true, format!("{why}; {done}")),
        Some(Err(error)) => (false, told(&error)),
        Some(Ok(None)) | None => (false, format!("{why}; {}", error.next_action())),
    }
}

/// Runs whose name tells a time of the last day.
fn recent_runs(state: &StateDir) -> Vec<RunUuid> {
    let Ok(entries) = std::fs::read_dir(state.runs_dir()) else { return Vec::new() };
    let uuids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<RunUuid>().ok());
    uuids.filter(|uuid| age_ms(uuid).is_some_and(|age| age < RECENT_MS)).collect()
}

/// How long ago the time in a UUIDv7 was.
pub(crate) fn age_ms(uuid: &RunUuid) -> Option<u64> {
    let (seconds, nanos) = uuid::Uuid::parse_str(uuid.as_str()).ok()?.get_timestamp()?.to_unix();
    let made = seconds.checked_mul(1000)?.checked_add(u64::from(nanos) / 1_000_000)?;
    Some(u64::try_from(clock::now_ms()).ok()?.saturating_sub(made))
}

/// Removes what a starter left that was killed before its claim: a run folder with its prompt, and the TMPDIR. Says so
/// when it did. Nothing is touched that has a claim, ran, ended, is locked, or whose starter lives.
fn remove_unclaimed(
    state: &StateDir,
    host: &Host,
    uuid: &RunUuid,
    all: bool,
    named: &dyn Fn(&ProviderName, &dx_protocol::BeadsId) -> bool,
) -> Option<String> {
    let paths = state.run(uuid);
    // The cheap look first: most runs of the day had a launcher.
    if dx_jobdir::exit_file::read_exit_file(&paths.exit()).launcher.is_some() {
        return None;
    }
    let journal = paths.journal();
    let _lock = match JournalWriter::try_lock(&journal) {
        Ok(Some(lock)) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Ok(None) | Err(_) => return None,
    };
    let what = match lookup::read_run(state, &journal, false) {
        Ok(found) => {
            let ids = &found.run.created.ids;
            if !is_unclaimed(host, &found) || !named(&ids.provider, &ids.beads) {
                return None;
            }
            ids.beads.to_string()
        }
        // Not even the first record, of which nobody knows the job.
        Err(_) if all && age_ms(uuid)? > UNTOLD_MS && is_empty(&journal) => uuid.to_string(),
        Err(_) => return None,
    };
    disk::remove_dir_all(paths.dir()).ok()?;
    let _removed = std::fs::remove_dir_all(state.tmp(uuid));
    Some(format!("{what}: removed what a start left that was cut off before its claim"))
}

/// Whether this run, whose lock is free, never came to its claim and nobody is there to claim it.
fn is_unclaimed(host: &Host, found: &Found) -> bool {
    let (run, alive) = (&found.run, view::alive(host, found));
    let unused = run.outcome.is_none() && run.monitor.is_none() && run.agent.is_none();
    // A claim is another name of the journal; so are views that follow it.
    let one_name = std::fs::symlink_metadata(&found.journal).is_ok_and(|meta| meta.nlink() == 1);
    unused && one_name && !alive.ours && !alive.agent && !alive.elsewhere
}

fn is_empty(journal: &Path) -> bool {
    std::fs::symlink_metadata(journal).map_or(true, |meta| meta.len() == 0)
}

/// Removes `.pid` and `.monitor.pid` files that hold no number, or stand beside no live claim.
fn stale_pid_files(
    state: &StateDir,
    named: &dyn Fn(&ProviderName, &dx_protocol::BeadsId) -> bool,
    document: &mut PruneDocument,
) -> Result<(), EngineError> {
    for provider in state.providers() {
        let Ok(entries) = std::fs::read_dir(state.provider_dir(&provider)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some(id) = name.strip_suffix(".monitor.pid").or_else(|| name.strip_suffix(".pid")) else {
                continue;
            };
            let Ok(beads) = id.parse::<dx_protocol::BeadsId>() else { continue };
            // Under the lock no start can claim the job between the look and the removal.
            let _lock = ClaimLock::take(state)?;
            if !named(&provider, &beads) || state.live(&provider, &beads).exists() {
                continue;
            }
            document.checked += 1;
            let mut text = String::new();
            if let Ok(file) = dx_jobdir::open_regular(&entry.path()) {
                let _read = file.take(MAX_PID_BYTES).read_to_string(&mut text);
            }
            let pid: Option<i32> = text.trim().parse().ok().filter(|pid| *pid > 0);
            // Of ours nothing lives without a claim, whoever has the number now; of another program's we only know that.
            let ours = matches!(lookup::newest_under(state, &provider, &beads), Ok(Some(Record::Ours(_))));
            let somebody = !ours && pid.is_some_and(|pid| dx_proc::ProcessIdentity::of_pid(pid).is_ok());
            if !somebody {
                disk::remove(&entry.path())?;
                document.pruned += 1;
                document.details.push(format!("{name}: names no process of the job"));
            }
        }
    }
    Ok(())
}
