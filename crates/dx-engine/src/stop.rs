//! `stop` and `finalize`: asking the run's monitor to end it, or ending it here when none of ours is left.

use crate::Engine;
use crate::action;
use crate::api::{FinalizeRequest, JobName};
use crate::damaged::{self, Remains};
use crate::environment;
use crate::error::EngineError;
use crate::lookup::{self, Found, Record};
use crate::providers::{Wish, script};
use crate::settle;
use crate::view::{self, View};
use dx_jobdir::{DiskFile, ExitFile, JournalWriter, RunPaths, StateDir, disk};
use dx_monitor::{ADAPTER_MODE, end_tree, process_of};
use dx_proc::{ExitStatus, Host, PidFd, clock};
use dx_protocol::{
    ActionDocument, EndRequest, Ending, Event, Exit, ExitRecord, Identity, REQUEST_FINALIZE, REQUEST_STOP,
    REQUEST_VERSION, ReasonCode, Slot, Timestamp, Witness,
};
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long the monitor has beyond the grace: KILL, sweep, settler.
pub(crate) const PATIENCE_MS: u64 = 90_000;
/// While the monitor ends a run, its record is read this often, and its claim is looked at this often.
const LOOK_MS: u64 = 200;
pub(crate) const GLANCE_MS: u64 = 10;
/// No request gives a job longer than this to end.
const MAX_GRACE: Duration = Duration::from_millis(environment::MAX_GRACE_MS);

impl Engine {
    /// Ends a job's whole process tree. After the end it changes nothing.
    pub fn stop(&self, job: &JobName, grace: Option<Duration>) -> Result<ActionDocument, EngineError> {
        if grace.is_some_and(|g| g > MAX_GRACE) {
            return Err(EngineError::Argument("--grace takes at most 1 day".to_owned()));
        }
        let request = EndRequest {
            version: REQUEST_VERSION,
            reason: ReasonCode::ManualStop,
            exit_code: None,
            grace_ms: grace.map(|g| g.as_millis() as u64),
            note: None,
            at: Timestamp(clock::now_ms()),
        };
        self.end(job, "stop", REQUEST_STOP, &request)
    }

    /// Forces an end with a reason and an exit code; never a success.
    pub fn finalize(&self, request: &FinalizeRequest) -> Result<ActionDocument, EngineError> {
        if request.exit_code == Some(0) {
            return Err(EngineError::Argument(
                "finalize never makes a success: --exit-code 0 is refused".to_owned(),
            ));
        }
        if request.exit_code.is_some_and(|c| !(1..=255).contains(&c)) {
            return Err(EngineError::Argument("--exit-code takes 1 to 255".to_owned()));
        }
        let known: Option<ReasonCode> = request.reason.as_deref().and_then(ending_reason);
        let end = EndRequest {
            version: REQUEST_VERSION,
            reason: known.unwrap_or(ReasonCode::ForcedFinalization),
            exit_code: Some(request.exit_code.unwrap_or(1)),
            grace_ms: None,
            note: if known.is_some() { None } else { request.reason.clone() },
            at: Timestamp(clock::now_ms()),
        };
        self.end(&request.job, "finalize", REQUEST_FINALIZE, &end)
    }

    /// Gives an adapter script the chance to end what our signals cannot reach. Whatever comes of it, the tree is ended.
    fn tell_adapter(&self, state: &StateDir, found: &Found) {
        let created = &found.run.created;
        if !created.contract.execution_mode.starts_with(ADAPTER_MODE) {
            return;
        }
        let told = self.layers(None, None).map_err(|_| ()).and_then(|layers| {
            let provider = layers.providers.find(&created.ids.provider).map_err(|_| ())?;
            let env = provider.environment();
            let progress = |what: &str| self.progress(what);
            let wish = Wish {
                server: None,
                state,
                worktree: Path::new(&created.spec.worktree),
                beads: created.ids.beads.as_str(),
                log: &found.paths.log(),
                repository: None,
                confined: true,
                model: created.spec.model.as_deref(),
                allow_model_override: created.spec.allow_model_override,
                agent: None,
                command: &[],
                has_prompt: true,
                prompt_file: &found.paths.prompt(),
                env: &env,
                progress: &progress,
                settings: &layers,
                list_age: None,
            };
            script::stop(&provider, &wish).map_err(|_| ())
        });
        if told.is_err() {
            self.progress("adapter_stop failed; the job's processes are ended all the same");
        }
    }

    pub(crate) fn end(
        &self,
        job: &JobName,
        action: &str,
        kind: &str,
        request: &EndRequest,
    ) -> Result<ActionDocument, EngineError> {
        let state = self.state()?;
        let host = Host::current()?;
        let mut found = match lookup::newest(&state, job) {
            Ok(Record::Ours(found)) => *found,
            Ok(Record::Foreign(foreign)) if damaged::was_ours(&state, &foreign) => {
                return Ok(damaged::document(&state, action, &foreign, false));
            }
            Ok(Record::Foreign(_)) => return Err(EngineError::Foreign { beads: job.beads.to_string() }),
            Err(EngineError::JobDamaged { provider, beads, why }) => {
                let none = || EngineError::NoJob { beads: beads.to_string(), near: Vec::new() };
                let remains = Remains::find(&state, &provider, &beads, why.clone()).ok_or_else(none)?;
                return self.end_damaged(&remains, action, kind, request);
            }
            Err(error) => return Err(error),
        };
        let ids = found.run.created.ids.clone();
        let own_job = JobName { beads: ids.beads.clone(), provider: Some(ids.provider.clone()) };
        let grace_ms = request.grace_ms.unwrap_or(found.run.created.spec.limits.grace_ms);
        let deadline = clock::monotonic_ms().saturating_add(grace_ms).saturating_add(PATIENCE_MS);
        let (mut changed, mut asked) = (false, false);
        if found.run.outcome.is_none() {
            self.tell_adapter(&state, &found);
        }
        loop {
            if found.run.outcome.is_some() && !found.claimed {
                return Ok(action::document(&state, action, &View::of(&state, &host, &found), changed));
            }
            if view::alive(&host, &found).elsewhere {
                let host = found.run.created.starter.host.clone();
                return Err(EngineError::Elsewhere { beads: job.beads.to_string(), host });
            }
            if let Some(journal) = try_lock(&found)?
                && end_here(&state, &host, &journal, &found, request)?
            {
                changed = true;
            } else {
                if found.run.outcome.is_none() && !asked {
                    asked = true;
                    changed = true;
                    ask(&found.paths, kind, request)?;
                    let run = &found.run;
                    wake(&[run.guard.as_ref(), found.exit.launcher.as_ref()], run.monitor.as_ref());
                }
                if clock::monotonic_ms() > deadline {
                    return Err(EngineError::StopDeadline);
                }
                await_change(&host, &found);
            }
            let newest = lookup::newest_ours(&state, &own_job)?;
            if newest.run.created.ids.run_uuid != ids.run_uuid {
                // A newer run stands in its place: the one we were to end is gone.
                let ours = lookup::read_run(&state, &found.paths.journal(), false).unwrap_or(found);
                return Ok(action::document(&state, action, &View::of(&state, &host, &ours), changed));
            }
            found = newest;
        }
    }
}

/// Waits until the monitor of the run is dead or its claim is gone, and no longer than the record may go unread.
fn await_change(host: &Host, found: &Found) {
    let monitor = found.run.monitor.as_ref();
    let monitor = monitor.and_then(|m| PidFd::open_verified_on(host, &process_of(m)).ok().flatten());
    let began = clock::monotonic_ms();
    if let Some(monitor) = monitor.filter(|fd| !fd.is_exited().unwrap_or(true)) {
        let claim_stands = || !found.claimed || std::fs::symlink_metadata(&found.journal).is_ok();
        while claim_stands() && clock::monotonic_ms() - began < LOOK_MS {
            match dx_proc::poll::poll(&[monitor.as_fd()], Some(GLANCE_MS)) {
                Ok(woken) if woken == [false] => {}
                Ok(_) => return,
                Err(_) => std::thread::sleep(Duration::from_millis(GLANCE_MS)),
            }
        }
    } else {
        std::thread::sleep(Duration::from_millis(GLANCE_MS));
    }
}

/// Reason codes that `finalize --reason` may name; any other text is kept as the detail.
fn ending_reason(text: &str) -> Option<ReasonCode> {
    let reason: ReasonCode = text.parse().ok()?;
    let allowed = [
        ReasonCode::ForcedFinalization,
        ReasonCode::ManualStop,
        ReasonCode::MaxRuntimeExceeded,
        ReasonCode::NoMutationTimeout,
        ReasonCode::ExtendedStall,
        ReasonCode::OutputFlood,
    ];
    allowed.contains(&reason).then_some(reason)
}

/// The lock, when nobody of ours holds it. A journal that vanished with its claim counts as held for one more look.
fn try_lock(found: &Found) -> Result<Option<JournalWriter>, EngineError> {
    match JournalWriter::try_lock(&found.journal) {
        Ok(journal) => Ok(journal),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Drops the request, whole from its first moment; the first one of a kind stands. On a disk too full for its content the
/// bare name is dropped: it counts with the defaults of its kind.
pub(crate) fn ask(paths: &RunPaths, kind: &str, request: &EndRequest) -> Result<(), EngineError> {
    let path = paths.request(kind);
    let beside = path.with_extension(format!("{}-{}", std::process::id(), clock::monotonic_ms()));
    let bytes = serde_json::to_vec(request).unwrap_or_default();
    let whole =
        DiskFile::create_new(&beside).and_then(|file| file.append(&bytes).and_then(|()| file.sync_data()));
    let dropped = match whole {
        Ok(()) => disk::link(&beside, &path),
        Err(_) => DiskFile::create_new(&path).map(drop),
    };
    let _removed = disk::remove(&beside);
    match dropped {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e.into()),
        _ => Ok(()),
    }
}

/// Wakes the monitor, which otherwise looks once a second, and lets ours run again when somebody stopped them.
pub(crate) fn wake(others: &[Option<&Identity>], monitor: Option<&Identity>) {
    for identity in others.iter().copied().chain([monitor]).flatten() {
        if let Ok(Some(pidfd)) = PidFd::open_verified(&process_of(identity)) {
            // One that somebody stopped could do nothing about the request.
            let _sent = pidfd.send_signal(Signal::CONT.as_raw());
            if monitor == Some(identity) {
                let _sent = pidfd.send_signal(Signal::USR1.as_raw());
            }
        }
    }
}

/// Ends a run that none of ours looks after: the agent by its verified identity, its tree, then the record. `false`, and
/// nothing is done, when one of ours lives all the same.
fn end_here(
    state: &StateDir,
    host: &Host,
    journal: &JournalWriter,
    found: &Found,
    request: &EndRequest,
) -> Result<bool, EngineError> {
    let mut found = lookup::read_run(state, &found.journal, found.claimed)?;
    let alive = view::alive(host, &found);
    if found.run.outcome.is_none() && (alive.ours || alive.elsewhere) {
        return Ok(false);
    }
    if found.run.outcome.is_none() && alive.agent {
        let grace_ms = request.grace_ms.unwrap_or(found.run.created.spec.limits.grace_ms);
        let ending = Ending {
            reason: request.reason,
            exit_code: request.exit_code,
            grace_ms,
            note: request.note.clone(),
        };
        settle::append(journal, &mut found, Event::Ending(ending))?;
        let agent = found.run.agent.clone().or_else(|| found.exit.agent.clone());
        let pidfd = agent.as_ref().and_then(|a| PidFd::open_verified_on(host, &process_of(a)).ok().flatten());
        let roots: Vec<dx_proc::ProcessIdentity> = agent.iter().map(process_of).collect();
        end_tree(&found.run.created.ids.run_uuid, &roots, grace_ms);
        if let Some(pidfd) = pidfd {
            witness(&found.paths, &pidfd);
        }
        found = lookup::read_run(state, &found.journal, found.claimed)?;
    } else if found.run.outcome.is_none()
        && request.reason != ReasonCode::ManualStop
        && found.exit.exit().is_none()
    {
        // `finalize` of a run whose end nobody saw: what the caller says stands, the code is marked as unobserved.
        let ending = Ending {
            reason: request.reason,
            exit_code: request.exit_code,
            grace_ms: 0,
            note: request.note.clone(),
        };
        settle::append(journal, &mut found, Event::Ending(ending))?;
    }
    let ending = Ending {
        reason: request.reason,
        exit_code: request.exit_code,
        grace_ms: request.grace_ms.unwrap_or(found.run.created.spec.limits.grace_ms),
        note: request.note.clone(),
    };
    settle::drop_check(state, journal, &mut found, alive.rebooted, ending)?;
    settle::settle(state, journal, &mut found, alive.rebooted)?;
    Ok(true)
}

/// The exit of an agent that is not our child, as the kernel keeps it behind a pidfd.
pub(crate) fn witness(paths: &RunPaths, pidfd: &PidFd) {
    let _reaped = pidfd.wait_reaped(Some(2_000));
    let Ok(Some(status)) = pidfd.exit_info() else { return };
    let exit = match status {
        ExitStatus::Exited(code) => Exit::Code(code),
        ExitStatus::Signaled(signal) => Exit::Signal(signal),
    };
    let record = ExitRecord {
        exit,
        witness: Witness::Pidfd,
        at: Timestamp(clock::now_ms()),
        mono_ms: clock::monotonic_ms(),
        cpu_ms: 0,
    };
    if let Ok(file) = ExitFile::open(&paths.exit()) {
        let _written = file.write(Slot::ExitByPidfd, &record).and_then(|()| file.sync());
    }
}
