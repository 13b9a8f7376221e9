//! Recording and claiming a run: its directory and synced journal, the claim under the cap, the published files.

use super::launch::Waiting;
use super::prepare::{Lineage, Prepared};
use super::queue::Ahead;
use crate::api::{StartRequest, Started};
use crate::error::EngineError;
use crate::lookup::{self, Found, Record};
use crate::settle::{Attended, Programs, attend};
use crate::view::View;
use dx_jobdir::pools::{self, Pool};
use dx_jobdir::{
    ClaimLock, DiskFile, ExitFile, JournalWriter, RunPaths, StateDir, Ticket, claim, disk, views,
};
use dx_proc::{Host, clock};
use dx_protocol::{BeadsId, Created, Event, ProcessVerdict, ProviderName, Timestamp, Writer};

/// The run that an earlier start with the same key made. One whose agent never ran is none: the key starts anew.
pub(super) fn same_key(
    state: &StateDir,
    beads: &BeadsId,
    request: &StartRequest,
) -> Result<Option<Started>, EngineError> {
    let Some(key) = &request.idempotency_key else { return Ok(None) };
    let Some(Record::Ours(found)) = lookup::newest_under(state, &request.provider, beads)? else {
        return Ok(None);
    };
    if found.run.created.spec.idempotency_key.as_ref() != Some(key) {
        return Ok(None);
    }
    let view = View::of(state, &Host::current()?, &found);
    let never_ran = view.outcome.as_ref().is_some_and(|o| o.process == ProcessVerdict::NotStarted)
        || found.run.spawn_error.is_some()
        || found.exit.exec.as_ref().is_some_and(|exec| exec.errno != 0);
    if never_ran {
        return Ok(None);
    }
    Ok(Some(Started {
        ids: found.run.created.ids.clone(),
        pid: view.run.agent.as_ref().map_or(0, |a| a.pid),
        log: state.view(&request.provider, beads, "log"),
        worktree: found.run.created.spec.worktree.clone(),
        selected_model: found.run.created.contract.selected_model.clone(),
        warnings: Vec::new(),
        fresh: false,
        queued_ms: None,
    }))
}

pub(super) fn already_running(found: &Found) -> EngineError {
    let ids = &found.run.created.ids;
    EngineError::AlreadyRunning {
        beads: ids.beads.to_string(),
        provider: ids.provider.to_string(),
        run_instance: ids.run_instance.clone(),
    }
}

/// Refuses early when the job runs; settles a dead run of it.
pub(super) fn refuse_running(
    state: &StateDir,
    provider: &ProviderName,
    beads: &BeadsId,
) -> Result<(), EngineError> {
    let Some(Record::Ours(found)) = lookup::newest_under(state, provider, beads)? else { return Ok(()) };
    if !found.claimed {
        return Ok(());
    }
    match attend(state, &Host::current()?, &found) {
        Ok(Attended::Settled(_)) | Err(EngineError::Journal(dx_jobdir::JournalError::Missing(_))) => Ok(()),
        Ok(Attended::Elsewhere) => Err(EngineError::Elsewhere {
            beads: beads.to_string(),
            host: found.run.created.starter.host.clone(),
        }),
        Ok(Attended::Busy | Attended::Adopted) => Err(already_running(&found)),
        // It ended and released its claim meanwhile.
        Err(EngineError::Disk(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(other) => Err(other),
    }
}

/// Refuses what another job was told to be in vain until a time. Who is let through after that time goes first, alone.
pub(super) fn refuse_parked(state: &StateDir, created: &Created) -> Result<(), EngineError> {
    let pool = Pool::of(created);
    let until = pools::enter(state, &pool, Timestamp(clock::now_ms()))?;
    until.map_or(Ok(()), |until| Err(parked(pool, until)))
}

/// The same for who only looks whether he could.
pub(super) fn refuse_known_parked(state: &StateDir, created: &Created) -> Result<(), EngineError> {
    let pool = Pool::of(created);
    let known = pools::parked(state, Timestamp(clock::now_ms())).into_iter().find(|known| known.pool == pool);
    known.map_or(Ok(()), |known| Err(parked(pool, known.until)))
}

fn parked(pool: Pool, until: Timestamp) -> EngineError {
    EngineError::QuotaParked { pool, until }
}

/// A run that is recorded and not claimed.
pub(super) struct Begun {
    pub(super) journal: JournalWriter,
    /// When it was recorded.
    pub(super) at: Timestamp,
    /// Begun while git still looked at the tree; `None` when that failed, which [`super::launch::launch`] will tell of.
    pub(super) monitor: Option<Waiting>,
}

/// Makes the run's directory and files and its synced first record, which takes in what git saw. On failure nothing is
/// left.
pub(super) fn begin(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &mut Prepared,
) -> Result<Begun, EngineError> {
    disk::make_dir(paths.dir())?;
    let made = (|| {
        let journal = JournalWriter::create(&paths.journal())?;
        ExitFile::create(&paths.exit())?;
        DiskFile::create_new(&paths.log())?;
        if prepared.created.contract.grammar != dx_protocol::Grammar::Text {
            DiskFile::create_new(&paths.err())?;
        }
        disk::write_new(&paths.prompt(), &prepared.prompt.bytes)?;
        if let Some(fingerprint) = &prepared.fingerprint {
            fingerprint.save(&paths.repository())?;
        }
        let uuid = &prepared.created.ids.run_uuid;
        disk::make_dir(&state.tmp(uuid))?;
        let programs = Programs::find();
        let monitor = programs.and_then(|programs| Waiting::begin(state, uuid, &journal, &programs)).ok();
        if let Some(taking) = prepared.snapshot.take() {
            let (snapshot, tree) = taking.finish()?;
            snapshot.save(&paths.tree())?;
            prepared.created.tree = Some(tree);
        }
        let at = Timestamp(clock::now_ms());
        let event = Event::Created(Box::new(prepared.created.clone()));
        journal.append(&dx_protocol::Record {
            at,
            mono_ms: clock::monotonic_ms(),
            by: Writer::Starter,
            event,
        })?;
        Ok(Begun { journal, at, monitor })
    })();
    if made.is_err() {
        let _removed = disk::remove_dir_all(paths.dir());
        let _removed = std::fs::remove_dir(state.tmp(&prepared.created.ids.run_uuid));
    }
    made
}

/// Refuses a start over the cap before anything is made for it; [`claim_run`] decides in the end. Dead runs are settled
/// before a refusal. The run of the job that it `replaces` makes room.
pub(super) fn refuse_over_cap(
    state: &StateDir,
    provider: &ProviderName,
    lineage: &Lineage,
    replaces: Option<&BeadsId>,
) -> Result<(), EngineError> {
    let Some(cap) = lineage.cap(provider)? else { return Ok(()) };
    let look = || {
        let lock = ClaimLock::take(state)?;
        let mut ahead = Ahead::look(state, provider, lineage.turn.ticket.as_ref(), &lock);
        ahead.running -= usize::from(replaces.is_some_and(|job| state.live(provider, job).exists()));
        Ok::<_, EngineError>(ahead)
    };
    if look()?.leaves_room(cap) {
        return Ok(());
    }
    settle_dead(state, provider);
    let ahead = look()?;
    if ahead.leaves_room(cap) { Ok(()) } else { Err(ahead.refusal(provider, cap)) }
}

/// Claims: counted and linked under the claim lock, then synced. Dead runs are settled before a refusal.
pub(super) fn claim_run(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    lineage: &Lineage,
) -> Result<(), EngineError> {
    let ids = &prepared.created.ids;
    let ticket = lineage.turn.ticket.as_ref();
    for last_try in [false, true] {
        let lock = ClaimLock::take(state)?;
        let ahead = prepared.cap.map(|cap| (cap, Ahead::look(state, &ids.provider, ticket, &lock)));
        let over = ahead.filter(|(cap, ahead)| !ahead.leaves_room(*cap));
        let used = lineage.made_id && state.view(&ids.provider, &ids.beads, "meta").exists();
        let taken = used || state.live(&ids.provider, &ids.beads).exists();
        if over.is_none() && !taken {
            claim::make(state, &ids.provider, &ids.beads, &paths.journal())?;
            // Under the same lock: it counts once.
            ticket.into_iter().for_each(Ticket::leave);
            drop(lock);
            if let Err(error) = disk::sync_dir(&state.live_dir()) {
                let _released = claim::release(state, &ids.provider, &ids.beads);
                return Err(error.into());
            }
            return Ok(());
        }
        drop(lock);
        if taken {
            refuse_running(state, &ids.provider, &ids.beads)?;
        }
        if let Some((cap, ahead)) = over {
            if last_try {
                return Err(ahead.refusal(&ids.provider, cap));
            }
            settle_dead(state, &ids.provider);
        }
    }
    // Somebody else took it between our two looks.
    match lookup::newest_under(state, &ids.provider, &ids.beads)? {
        Some(Record::Ours(found)) => Err(already_running(&found)),
        _ => Err(EngineError::MonitorLost),
    }
}

pub(super) fn settle_dead(state: &StateDir, provider: &ProviderName) {
    let Ok(host) = Host::current() else { return };
    for claim in claim::claims(state).into_iter().filter(|c| c.provider == *provider) {
        if let Ok(found) = lookup::read_run(state, &claim.path, true) {
            // One that cannot be settled keeps its place and counts.
            let _attended = attend(state, &host, &found);
        }
    }
}

/// Shows the new run; the published files of the run before are rotated away.
pub(super) fn publish(state: &StateDir, created: &Created, at: Timestamp) -> Result<(), EngineError> {
    state.make_provider_dir(&created.ids.provider)?;
    views::rotate(state, &created.ids)?;
    Ok(views::publish_start(state, created, at)?)
}
