//! Finding a job's newest run: by its claim while it lives, by its published `.meta` afterwards, by foreign files when it
//! never was ours.

use crate::api::JobName;
use crate::error::EngineError;
use dx_core::Run;
use dx_jobdir::{JournalError, RunPaths, StateDir, claim, exit_file, read_journal, views};
use dx_protocol::{BeadsId, ExitFacts, ProviderName, RunUuid};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A run with its records.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) run: Run,
    pub(crate) exit: ExitFacts,
    pub(crate) paths: RunPaths,
    /// Where an adapter script's shell may have written its job's exit code.
    pub(crate) rc_file: PathBuf,
    /// Where the journal was read; the claim's name while the run lives.
    pub(crate) journal: PathBuf,
    pub(crate) claimed: bool,
}

impl Found {
    /// The paths that its outcome names as changed.
    pub(crate) fn changed(&self) -> &[String] {
        self.run.outcome.as_ref().map(|outcome| outcome.work.files_changed.as_slice()).unwrap_or_default()
    }
}

/// A job that another program recorded.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    pub(crate) provider: ProviderName,
    pub(crate) beads: BeadsId,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) outcome: Option<BTreeMap<String, String>>,
}

/// The newest record of a job.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Ours(Box<Found>),
    Foreign(Foreign),
}

/// Reads a run by a name of its journal.
pub(crate) fn read_run(state: &StateDir, journal: &Path, claimed: bool) -> Result<Found, EngineError> {
    let read = read_journal(journal)?;
    let run = dx_core::fold(&read.records).ok_or_else(|| JournalError::Damaged {
        path: journal.to_owned(),
        why: "it tells no job".to_owned(),
    })?;
    let paths = state.run(&run.created.ids.run_uuid);
    let exit = exit_file::read_exit_file(&paths.exit());
    let rc_file = state.rc_file(&run.created.ids.run_uuid);
    Ok(Found { run, exit, paths, rc_file, journal: journal.to_owned(), claimed })
}

/// An error with the job that it is of: what cannot be read can still be ended.
pub(crate) fn of_job(error: EngineError, provider: &ProviderName, beads: &BeadsId) -> EngineError {
    match error {
        EngineError::Journal(error @ JournalError::Damaged { .. }) => EngineError::JobDamaged {
            provider: provider.clone(),
            beads: beads.clone(),
            why: error.to_string(),
        },
        other => other,
    }
}

/// The newest run of a job under one provider.
pub(crate) fn newest_under(
    state: &StateDir,
    provider: &ProviderName,
    beads: &BeadsId,
) -> Result<Option<Record>, EngineError> {
    let live = state.live(provider, beads);
    if std::fs::symlink_metadata(&live).is_ok() {
        match read_run(state, &live, true) {
            Ok(found) => return Ok(Some(Record::Ours(Box::new(found)))),
            // The run ended between the look and the read.
            Err(EngineError::Journal(JournalError::Missing(_))) => {}
            Err(other) => return Err(of_job(other, provider, beads)),
        }
    }
    // An empty view is what a power cut leaves of one.
    let view = |suffix| views::read(&state.view(provider, beads, suffix)).filter(|pairs| !pairs.is_empty());
    let (meta, outcome) = (view("meta"), view("outcome"));
    // `.meta` is of the newest run, but a power cut may bring an older one back; `.outcome` is durable.
    let told = [&meta, &outcome].into_iter().flatten();
    let mut uuids: Vec<RunUuid> = told.filter_map(|m| m.get("run_uuid")?.parse().ok()).collect();
    uuids.sort();
    uuids.dedup();
    for uuid in uuids.iter().rev() {
        match read_run(state, &state.run(uuid).journal(), false) {
            Ok(found) => return Ok(Some(Record::Ours(Box::new(found)))),
            Err(EngineError::Journal(JournalError::Missing(_))) => {}
            // Something spoiled the journal of an ended run: what was published of its end still stands.
            Err(EngineError::Journal(JournalError::Damaged { .. })) if outcome.is_some() => {}
            Err(other) => return Err(of_job(other, provider, beads)),
        }
    }
    if meta.is_none() && outcome.is_none() {
        return Ok(None);
    }
    Ok(Some(Record::Foreign(Foreign {
        provider: provider.clone(),
        beads: beads.clone(),
        meta: meta.unwrap_or_default(),
        outcome,
    })))
}

impl Record {
    /// Start of the run as sortable text.
    fn started(&self) -> String {
        match self {
            Self::Ours(found) => found.run.created_at.to_string() + found.run.created.ids.run_uuid.as_str(),
            Self::Foreign(foreign) => foreign.meta.get("started_at").cloned().unwrap_or_default(),
        }
    }
}

/// The newest record of a job; an unknown one is an error that names near ones.
pub(crate) fn newest(state: &StateDir, job: &JobName) -> Result<Record, EngineError> {
    newest_known(state, job)?.ok_or_else(|| EngineError::NoJob {
        beads: job.beads.to_string(),
        near: near(state, job.beads.as_str()),
    })
}

/// As [`newest`]; `None` for an unknown job, without looking for near ones, which costs a look at every record.
pub(crate) fn newest_known(state: &StateDir, job: &JobName) -> Result<Option<Record>, EngineError> {
    let providers = if let Some(provider) = &job.provider {
        vec![provider.clone()]
    } else {
        let mut all: BTreeSet<ProviderName> = state.providers().into_iter().collect();
        all.extend(claim::claims(state).into_iter().filter(|c| c.beads == job.beads).map(|c| c.provider));
        all.into_iter().collect()
    };
    let mut newest: Option<Record> = None;
    for provider in providers {
        if let Some(record) = newest_under(state, &provider, &job.beads)?
            && newest.as_ref().is_none_or(|n| n.started() < record.started())
        {
            newest = Some(record);
        }
    }
    Ok(newest)
}

/// As [`newest`], for commands that act: records of other programs are refused.
pub(crate) fn newest_ours(state: &StateDir, job: &JobName) -> Result<Found, EngineError> {
    match newest(state, job)? {
        Record::Ours(found) => Ok(*found),
        Record::Foreign(_) => Err(EngineError::Foreign { beads: job.beads.to_string() }),
    }
}

/// Ids of all jobs that have views, per provider.
pub(crate) fn known(state: &StateDir) -> Vec<(ProviderName, BeadsId)> {
    let mut jobs = BTreeSet::new();
    for provider in state.providers() {
        let Ok(entries) = std::fs::read_dir(state.provider_dir(&provider)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = name.strip_suffix(".meta").or_else(|| name.strip_suffix(".outcome"));
            if let Some(Ok(beads)) = id.map(str::parse::<BeadsId>) {
                jobs.insert((provider.clone(), beads));
            }
        }
    }
    jobs.into_iter().collect()
}

/// Known ids that look like this one; not itself, whose files cannot be read then.
fn near(state: &StateDir, id: &str) -> Vec<String> {
    let mut ids: Vec<(usize, String)> = known(state)
        .into_iter()
        .filter(|(_, beads)| beads.as_str() != id)
        .map(|(_, beads)| (distance(id, beads.as_str()), beads.to_string()))
        .filter(|(d, other)| *d <= 2 || other.starts_with(id))
        .collect();
    ids.sort();
    ids.dedup();
    ids.into_iter().take(3).map(|(_, id)| id).collect()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
