//! The watchdog: one look after the other at live jobs, and what follows from it.
//!
//! Called by: `watchdog`. What is decided is on disk before it is done, so that its successor finishes it. Decisions are
//! `dx_core::watchdog`'s, limits the monitor's. Must never end with a job: whatever one does, the others are looked after.

use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Found};
use crate::settle::{Attended, attend};
use crate::view::View;
use crate::{Engine, check, providers, start, tell};
use dx_core::watchdog::{Act, Looked, decide};
use dx_jobdir::claim::{self, Claim};
use dx_jobdir::{DiskFile, JournalWriter, StateDir, WavePaths, disk, ended, faults, views};
use dx_monitor::process_of;
use dx_proc::{Host, clock};
use dx_protocol::{
    EndRequest, Event, ProcessVerdict, ProviderName, REQUEST_FINALIZE, REQUEST_VERSION, ReasonCode, Record,
    RunUuid, Sample, State, Timestamp, WatchdogAction, WatchdogDocument, WatchdogDone, Writer,
};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

const SCHEMA: &str = "dx-runner/watchdog/1";
const MAX_FILE: u64 = 4 << 20;
/// A job is looked at again after this, before anything is done: a monitor that was held up looks once a second.
const LOOK_TWICE: Duration = Duration::from_millis(2_500);
/// Git that has not answered for so many thresholds is not waited for any more.
const GIT_PATIENCE: u64 = 3;
/// After its end a job's monitor holds the journal for moments.
const LOCK_PATIENCE_MS: u64 = 10_000;
const LOCK_TICK: Duration = Duration::from_millis(20);

/// A decision, from before anything is done about it until all is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Intent {
    provider: ProviderName,
    beads: dx_protocol::BeadsId,
    run: RunUuid,
    restart: bool,
    reason: ReasonCode,
    /// The look that led to it.
    note: String,
}

/// What came of one look at a job.
enum Seen {
    LeaveAlone,
    /// None of ours was left with it, and that is mended.
    Attended(WatchdogAction),
    Decided(Box<Intent>),
}

/// The one watchdog of a state directory.
#[derive(Debug)]
pub struct Watchdog {
    engine: Engine,
    state: StateDir,
    pending: Vec<Intent>,
    _lock: DiskFile,
}

impl Engine {
    /// Takes the place of the watchdog; takes up what the last one left.
    pub fn watchdog(&self) -> Result<Watchdog, EngineError> {
        start::refuse_nested()?;
        let state = self.state()?;
        let lock = DiskFile::open_append_or_create(&state.watchdog_lock())?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(EngineError::WatchdogRunning),
            Err(error) => {
                return Err(EngineError::Io { what: "lock the watchdog's file", source: error.into() });
            }
        }
        let left = dx_jobdir::read_bounded(&state.watchdog_file(), MAX_FILE).unwrap_or_default();
        // A damaged file names nothing: those jobs are looked at like all others.
        let pending = serde_json::from_slice(&left).unwrap_or_default();
        Ok(Watchdog { engine: self.clone(), state, pending, _lock: lock })
    }
}

impl Watchdog {
    /// One round: what was left over, then each live job.
    pub fn round(&mut self, max_retries: u32) -> Result<WatchdogDocument, EngineError> {
        let host = Host::current()?;
        let mut document = WatchdogDocument {
            schema: SCHEMA.to_owned(),
            generated_at: Timestamp(clock::now_ms()),
            looked_at: 0,
            actions: Vec::new(),
        };
        for intent in self.pending.clone() {
            document.actions.push(self.finish(&intent));
        }
        let mut candidates = Vec::new();
        for claim in claim::claims(&self.state) {
            if self.pending.iter().any(|left| left.provider == claim.provider && left.beads == claim.beads) {
                continue;
            }
            document.looked_at += 1;
            match self.look(&host, &claim, max_retries) {
                Ok(Seen::LeaveAlone) => {}
                Ok(Seen::Attended(action)) => document.actions.push(action),
                Ok(Seen::Decided(_)) => candidates.push(claim),
                // It ended between the list and the look.
                Err(_) if !claim.path.exists() => {}
                Err(error) => document.actions.push(failed(&claim.provider, &claim.beads, &error)),
            }
        }
        if !candidates.is_empty() {
            std::thread::sleep(LOOK_TWICE);
        }
        for claim in candidates {
            match self.look(&host, &claim, max_retries) {
                Ok(Seen::LeaveAlone) => {}
                Ok(Seen::Attended(action)) => document.actions.push(action),
                Ok(Seen::Decided(intent)) => {
                    self.pending.push((*intent).clone());
                    self.save()?;
                    faults::step("watchdog.decided");
                    document.actions.push(self.finish(&intent));
                }
                Err(_) if !claim.path.exists() => {}
                Err(error) => document.actions.push(failed(&claim.provider, &claim.beads, &error)),
            }
        }
        Ok(document)
    }

    fn look(&self, host: &Host, claim: &Claim, max_retries: u32) -> Result<Seen, EngineError> {
        let found = lookup::read_run(&self.state, &claim.path, true)
            .map_err(|error| lookup::of_job(error, &claim.provider, &claim.beads))?;
        let view = View::of(&self.state, host, &found);
        if !view.alive.ours && !view.alive.elsewhere {
            let (done, reason) = match attend(&self.state, host, &found)? {
                Attended::Settled(outcome) => (WatchdogDone::Settled, outcome.reason_code),
                Attended::Adopted => (WatchdogDone::Adopted, view.judgement.reason),
                Attended::Busy | Attended::Elsewhere => return Ok(Seen::LeaveAlone),
            };
            let message = "its monitor was gone".to_owned();
            return Ok(Seen::Attended(action(&claim.provider, &claim.beads, done, reason, message)));
        }
        let restart = match decide(&self.looked(host, &found, &view), max_retries) {
            Act::LeaveAlone(_) => return Ok(Seen::LeaveAlone),
            Act::Restart => true,
            Act::Block => false,
        };
        let retries = found.run.created.retries;
        let what = if restart {
            format!("try {} of {max_retries} follows", retries + 1)
        } else {
            format!("after {retries} of {max_retries} tries")
        };
        let facts = check::explanation(&view).observation.join(" ");
        Ok(Seen::Decided(Box::new(Intent {
            provider: claim.provider.clone(),
            beads: claim.beads.clone(),
            run: found.run.created.ids.run_uuid.clone(),
            restart,
            reason: match view.judgement.state {
                State::NoOp => ReasonCode::NoHeartbeatNoMutation,
                _ => ReasonCode::ExtendedStall,
            },
            note: format!("watchdog: {} ({}), {what}: {facts}", view.judgement.state, view.judgement.reason),
        })))
    }

    fn looked(&self, host: &Host, found: &Found, view: &View) -> Looked {
        let created = &found.run.created;
        let held_up = found.run.monitor.as_ref().is_some_and(|monitor| host.is_stopped(&process_of(monitor)));
        Looked {
            judgement: view.judgement,
            wait: view.observation.wait,
            of_wave: self.is_of_wave(created.spec.idempotency_key.as_deref()),
            service: created.ids.provider.as_str() == providers::OPENCODE_SERVER,
            elsewhere: view.alive.elsewhere,
            ending: view.observation.ending || view.observation.process_ended,
            current: !held_up && view.sample.as_ref().is_some_and(|sample| is_current(found, sample)),
            retries: created.retries,
        }
    }

    /// Waves name their jobs by a key that begins with the wave's.
    fn is_of_wave(&self, key: Option<&str>) -> bool {
        let wave = key.and_then(|key| key.strip_prefix("wave:")).and_then(|key| key.split(':').next());
        wave.and_then(|wave| WavePaths::of(&self.state, wave)).is_some_and(|paths| paths.journal().exists())
    }

    fn save(&self) -> Result<(), EngineError> {
        let text = serde_json::to_vec(&self.pending).unwrap_or_default();
        Ok(disk::replace_synced(&self.state.watchdog_file(), &text)?)
    }

    /// Does what is decided, from wherever it was left; it stays decided until it is done.
    fn finish(&mut self, intent: &Intent) -> WatchdogAction {
        let done = self.carry_out(intent);
        let (done, reason, message) = match done {
            Ok(done) => done,
            Err(error) => {
                let gone = !self.state.run(&intent.run).journal().exists();
                if gone {
                    self.forget(intent);
                }
                return failed(&intent.provider, &intent.beads, &error);
            }
        };
        self.forget(intent);
        action(&intent.provider, &intent.beads, done, reason, message)
    }

    fn forget(&mut self, intent: &Intent) {
        self.pending.retain(|left| left != intent);
        // When it cannot be written the next one finds it done.
        let _saved = self.save();
    }

    fn carry_out(&self, intent: &Intent) -> Result<(WatchdogDone, ReasonCode, String), EngineError> {
        let job = JobName { beads: intent.beads.clone(), provider: Some(intent.provider.clone()) };
        let overtaken = || Ok((WatchdogDone::Overtaken, intent.reason, intent.note.clone()));
        let found = lookup::newest_ours(&self.state, &job)?;
        if found.run.created.ids.run_uuid != intent.run {
            return self.followed(intent, &found, found.run.outcome.as_ref().map(|o| o.reason_code));
        }
        let end = |job: &JobName| -> Result<bool, EngineError> {
            let request = EndRequest {
                version: REQUEST_VERSION,
                reason: intent.reason,
                exit_code: None,
                grace_ms: None,
                note: Some(intent.note.clone()),
                at: Timestamp(clock::now_ms()),
            };
            let ended = self.engine.end(job, "watchdog", REQUEST_FINALIZE, &request)?;
            faults::step("watchdog.ended");
            Ok(ended.reason_code == intent.reason)
        };
        let by_us = |found: &Found| {
            found.run.outcome.as_ref().is_none_or(|outcome| outcome.reason_code == intent.reason)
        };
        if !by_us(&found) {
            return overtaken();
        }
        let mut reason = ReasonCode::MaxRetriesExhausted;
        let mut note = intent.note.clone();
        if intent.restart {
            match self.engine.restart_by(&job, None, &end) {
                Ok(Some(started)) => {
                    faults::step("watchdog.restarted");
                    let message = format!("run {}; {}", started.ids.run_instance, intent.note);
                    return Ok((WatchdogDone::Restarted, intent.reason, message));
                }
                Ok(None) => return overtaken(),
                // The place that it needs will be free again.
                Err(error @ (EngineError::CapExceeded { .. } | EngineError::AlreadyRunning { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    reason = error.reason();
                    note = format!("it could not be started again: {error}; {note}");
                }
            }
        }
        let found = lookup::newest_ours(&self.state, &job)?;
        if found.run.created.ids.run_uuid != intent.run {
            return self.followed(intent, &found, Some(reason));
        }
        if !by_us(&found) || (found.run.outcome.is_none() && !end(&job)?) {
            return overtaken();
        }
        self.block(&intent.run, reason, &note)?;
        faults::step("watchdog.blocked");
        Ok((WatchdogDone::Blocked, reason, note))
    }

    /// Another run stands in the place of the one that was decided about: a restart of ours that never ran is marked, anything
    /// else is somebody's.
    fn followed(
        &self,
        intent: &Intent,
        found: &Found,
        reason: Option<ReasonCode>,
    ) -> Result<(WatchdogDone, ReasonCode, String), EngineError> {
        let never_ran =
            found.run.outcome.as_ref().is_some_and(|outcome| outcome.process == ProcessVerdict::NotStarted);
        if !(intent.restart && never_ran) {
            return Ok((WatchdogDone::Overtaken, intent.reason, intent.note.clone()));
        }
        let reason = reason.unwrap_or(ReasonCode::MaxRetriesExhausted);
        let note = format!("it could not be started again; {}", intent.note);
        self.block(&found.run.created.ids.run_uuid, reason, &note)?;
        Ok((WatchdogDone::Blocked, reason, note))
    }

    /// Marks an ended run; once.
    fn block(&self, run: &RunUuid, reason: ReasonCode, note: &str) -> Result<(), EngineError> {
        let path = self.state.run(run).journal();
        let began = clock::monotonic_ms();
        let journal = loop {
            if let Some(journal) = JournalWriter::try_lock(&path)? {
                break journal;
            }
            if clock::monotonic_ms() - began > LOCK_PATIENCE_MS {
                return Err(EngineError::StopDeadline);
            }
            std::thread::sleep(LOCK_TICK);
        };
        let found = lookup::read_run(&self.state, &path, false)?;
        let Some(mut outcome) = found.run.outcome.clone() else { return Err(EngineError::StopDeadline) };
        if found.run.blocked.is_none() {
            journal.append(&Record {
                at: Timestamp(clock::now_ms()),
                mono_ms: clock::monotonic_ms(),
                by: Writer::Settler,
                event: Event::Blocked { reason, note: Some(note.to_owned()) },
            })?;
        }
        outcome.blocked = Some(found.run.blocked.unwrap_or(reason));
        views::publish_end(&self.state, Some(&found.run.created), &outcome)?;
        let _told = tell::begin(&self.state, &found.run.created);
        Ok(ended::append(&self.state, &outcome)?)
    }
}

/// Whether the monitor has seen all that the job has printed; and whether git, if it told a change when it was asked last, was
/// asked again, unless it does not answer at all.
fn is_current(found: &Found, sample: &Sample) -> bool {
    let size = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let silent_git = is_overdue(
        sample.now(clock::monotonic_ms()),
        sample.observed_mono_ms.max(sample.observe_again_mono_ms),
        sample.limits.stall_sec,
    );
    let changed_then = sample.mutation_mono_ms != 0 && sample.mutation_mono_ms == sample.observed_mono_ms;
    size(found.paths.log()) + size(found.paths.err()) == sample.log_bytes && (!changed_then || silent_git)
}

/// Whether git, to be asked again at `due`, is not waited for any more.
fn is_overdue(now: u64, due: u64, stall_sec: u64) -> bool {
    now.saturating_sub(due) > stall_sec.saturating_mul(1000 * GIT_PATIENCE)
}

fn action(
    provider: &ProviderName,
    beads: &dx_protocol::BeadsId,
    done: WatchdogDone,
    reason_code: ReasonCode,
    message: String,
) -> WatchdogAction {
    WatchdogAction { beads: beads.to_string(), provider: provider.to_string(), done, reason_code, message }
}

fn failed(provider: &ProviderName, beads: &dx_protocol::BeadsId, error: &EngineError) -> WatchdogAction {
    let message = match error {
        // No later round can mend it.
        EngineError::JobDamaged { .. } => format!("{error}; {}", error.next_action()),
        _ => error.to_string(),
    };
    action(provider, beads, WatchdogDone::Failed, error.reason(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_that_is_asked_seldom_is_not_silent() {
        // It answered at 10 s and took 150 ms, so it is asked again at 25 s; the threshold is 4 s.
        for (now, overdue) in [(23_000, false), (25_000, false), (36_000, false), (38_000, true)] {
            assert_eq!(is_overdue(now, 25_000, 4), overdue, "{now}");
        }
    }
}
