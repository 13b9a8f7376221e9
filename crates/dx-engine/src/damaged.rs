//! Jobs whose journal tells nothing any more: their run is found by what else there is of it, its processes are ended, and
//! its end is recorded for what it is.
//!
//! Called by: `stop`, `finalize`, `prune`. Identities come from the exit file, which has a writer of its own, and from the
//! newest observation; what carries the run's marker is the run's. Must never: signal anything else, call such an end a
//! success, or touch what a newer version wrote.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Foreign, Record};
use crate::stop::{self, GLANCE_MS, PATIENCE_MS};
use crate::view::{self, Alive};
use dx_core::ended_for;
use dx_jobdir::{
    ClaimLock, DiskError, JournalWriter, RunPaths, StateDir, claim, disk, ended, exit_file, history, views,
};
use dx_monitor::{MARKER, end_tree, process_of};
use dx_proc::{Host, PidFd, ProcessIdentity, clock, tree};
use dx_protocol::{
    ActionDocument, BeadsId, EndRequest, Ending, ExitFacts, Limits, Outcome, OutcomeState, ProcessVerdict,
    ProviderName, ProviderVerdict, ReasonCode, RunIds, RunUuid, Sample, Timestamp, WorkReport,
};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A monitor takes a request within a second. When none has after this, there is none, and the launcher that holds the
/// journal cannot have another one, which could not read it either.
const TAKEN_MS: u64 = 5_000;

/// What is left of a job.
pub(crate) struct Remains {
    provider: ProviderName,
    beads: BeadsId,
    /// Its run; none when the claim is a name of no run's journal.
    run: Option<RunUuid>,
    /// The claim while there is one, else the run's journal.
    journal: PathBuf,
    /// What is wrong with it.
    why: String,
    meta: BTreeMap<String, String>,
}

/// Who is known of a run.
struct Known {
    exit: ExitFacts,
    sample: Option<Sample>,
    alive: Alive,
}

impl Remains {
    /// Looks for the run behind a journal that cannot be read. A claim is a second name of it, so both are one file;
    /// without a claim `.meta` tells.
    pub(crate) fn find(
        state: &StateDir,
        provider: &ProviderName,
        beads: &BeadsId,
        why: String,
    ) -> Option<Self> {
        let file = |path: &Path| std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let meta = views::read(&state.view(provider, beads, "meta")).unwrap_or_default();
        let told: Option<RunUuid> = meta.get("run_uuid").and_then(|uuid| uuid.parse().ok());
        let claim = state.live(provider, beads);
        let Some(claimed) = file(&claim) else {
            let journal = state.run(told.as_ref()?).journal();
            return Some(Self {
                provider: provider.clone(),
                beads: beads.clone(),
                run: told,
                journal,
                why,
                meta,
            });
        };
        let same = |uuid: &RunUuid| file(&state.run(uuid).journal()) == Some(claimed);
        let all = || {
            let names = std::fs::read_dir(state.runs_dir()).into_iter().flatten().flatten();
            names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(same)
        };
        let run = told.filter(same).or_else(all);
        Some(Self { provider: provider.clone(), beads: beads.clone(), run, journal: claim, why, meta })
    }

    fn known(&self, state: &StateDir, host: &Host, run: &RunUuid) -> Known {
        let exit = exit_file::read_exit_file(&state.run(run).exit());
        let sample = views::read_sample(&state.view(&self.provider, &self.beads, "obs"))
            .filter(|sample| sample.ids.run_uuid == *run);
        let monitor = sample.as_ref().and_then(|sample| sample.monitor.as_ref());
        let launcher = exit.launcher.as_ref().or_else(|| sample.as_ref()?.launcher.as_ref());
        let agent = exit.agent.as_ref().or_else(|| sample.as_ref()?.agent.as_ref());
        let alive = view::look(host, &[monitor, launcher], agent);
        Known { exit, sample, alive }
    }

    /// Gives a claim that leads to no run back to the run that `.meta` tells, or takes it away.
    fn mend_claim(&self, state: &StateDir) -> Result<(), EngineError> {
        let _lock = ClaimLock::take(state)?;
        let told = self.meta.get("run_uuid").and_then(|uuid| uuid.parse::<RunUuid>().ok());
        let run = told.and_then(|uuid| lookup::read_run(state, &state.run(&uuid).journal(), false).ok());
        match run.filter(|found| found.run.outcome.is_none()) {
            Some(found) => disk::link_over(&found.journal, &self.journal)?,
            None => claim::release(state, &self.provider, &self.beads)?,
        }
        Ok(())
    }

    /// Ends what is left of the run, when that is asked for, and records its end. `ended` is when its processes were ended
    /// already for this request. `None` while something of it lives that is not to be ended, or one of ours. The caller holds
    /// the journal.
    fn close(
        &self,
        state: &StateDir,
        host: &Host,
        run: &RunUuid,
        request: Option<&EndRequest>,
        ended: Option<u64>,
    ) -> Result<Option<Outcome>, EngineError> {
        let known = self.known(state, host, run);
        if known.alive.elsewhere {
            let host = self.text("host");
            return Err(EngineError::Elsewhere { beads: self.beads.to_string(), host });
        }
        let lives = known.alive.agent || !tree::members(&[], (MARKER, run.as_str()), &[]).is_empty();
        if known.alive.ours || (lives && request.is_none()) {
            return Ok(None);
        }
        let decided = ended.unwrap_or_else(clock::monotonic_ms);
        if let Some(request) = request.filter(|_| lives) {
            end_by_identity(state, host, run, &known, grace_ms(request, &known));
        }
        let known = self.known(state, host, run);
        if known.alive.agent {
            return Ok(None);
        }
        let asked = request.filter(|request| {
            let after = known.exit.exit().is_none_or(|exit| exit.mono_ms >= decided);
            after && (lives || ended.is_some() || request.reason != ReasonCode::ManualStop)
        });
        let outcome = self.outcome(&state.run(run), run, &known, asked);
        record(state, &outcome)?;
        Ok(Some(outcome))
    }

    fn text(&self, key: &str) -> String {
        self.meta.get(key).cloned().unwrap_or_else(|| "-".to_owned())
    }

    /// What can be said of the end of a run whose record is lost: never that it was a success.
    fn outcome(&self, paths: &RunPaths, run: &RunUuid, known: &Known, asked: Option<&EndRequest>) -> Outcome {
        let exit = known.exit.exit();
        let (state, reason_code, exit_code, note) = if let Some(request) = asked {
            let ended = ended_for(&Ending {
                reason: request.reason,
                exit_code: request.exit_code,
                grace_ms: 0,
                note: request.note.clone(),
            });
            (ended.state, ended.reason, ended.exit_code, ended.detail)
        } else {
            let reason = match exit {
                Some(_) => ReasonCode::RecordUnreadable,
                None if known.alive.rebooted => ReasonCode::HostRebooted,
                None => ReasonCode::LateFinalizeNoRc,
            };
            let code = exit.map_or_else(|| "-".to_owned(), |exit| exit.exit.shell_code().to_string());
            (OutcomeState::Failed, reason, code, String::new())
        };
        let detail = if note.is_empty() { self.why.clone() } else { format!("{note}; {}", self.why) };
        let completed_at = exit.map_or(Timestamp(clock::now_ms()), |exit| exit.at);
        let told = self.meta.get("started_at").and_then(|text| Timestamp::parse(text));
        let started_at = told.unwrap_or(completed_at).min(completed_at);
        Outcome {
            ids: RunIds {
                beads: self.beads.clone(),
                provider: self.provider.clone(),
                run_id: self.text("run_id"),
                run_instance: self.text("run_instance"),
                run_uuid: run.clone(),
            },
            state,
            reason_code,
            detail,
            exit_code,
            exit: exit.map(|exit| exit.exit),
            witness: exit.map(|exit| exit.witness),
            started_at,
            completed_at,
            duration_sec: completed_at.since_ms(started_at) / 1000,
            retries: self.meta.get("retries").and_then(|text| text.parse().ok()).unwrap_or(0),
            selected_model: self.text("selected_model"),
            fallback_reason: self.text("fallback_reason"),
            execution_mode: self.text("execution_mode"),
            host: self.text("host"),
            cwd: self.text("cwd"),
            worktree: self.text("worktree"),
            provider_switch_from: self.text("provider_switch_from"),
            process: exit.map_or(ProcessVerdict::Unobserved, |exit| exit.exit.into()),
            provider_verdict: ProviderVerdict::NoResult,
            trouble: None,
            work: WorkReport::default(),
            gates: Vec::new(),
            usage: known.sample.as_ref().map(|sample| sample.usage).unwrap_or_default(),
            tools: BTreeMap::new(),
            log_bytes: std::fs::metadata(paths.log()).map_or(0, |meta| meta.len()),
            cpu_time_sec: exit.map_or(0, |exit| exit.cpu_ms) / 1000,
            strays: 0,
            strays_left: 0,
            unmasked: Vec::new(),
            blocked: None,
        }
    }
}

fn grace_ms(request: &EndRequest, known: &Known) -> u64 {
    let limits = known.sample.as_ref().map(|sample| &sample.limits);
    let usual = || limits.map_or_else(|| Limits::default().grace_ms, |limits| limits.grace_ms);
    request.grace_ms.unwrap_or_else(usual)
}

/// Ends the agent by its identity, and all that carries the run's marker.
fn end_by_identity(state: &StateDir, host: &Host, run: &RunUuid, known: &Known, grace_ms: u64) {
    let agent = known.exit.agent.as_ref().or_else(|| known.sample.as_ref()?.agent.as_ref());
    let pidfd = agent.and_then(|agent| PidFd::open_verified_on(host, &process_of(agent)).ok().flatten());
    let roots: Vec<ProcessIdentity> = agent.iter().map(|agent| process_of(agent)).collect();
    end_tree(run, &roots, grace_ms);
    if let Some(pidfd) = pidfd {
        stop::witness(&state.run(run), &pidfd);
    }
}

/// The steps of a run's end that need no journal, in their order.
fn record(state: &StateDir, outcome: &Outcome) -> Result<(), DiskError> {
    let _removed = std::fs::remove_dir_all(state.tmp(&outcome.ids.run_uuid));
    views::publish_end(state, None, outcome)?;
    ended::append(state, outcome)?;
    claim::release(state, &outcome.ids.provider, &outcome.ids.beads)?;
    // As everywhere: it holds no job up.
    let _recorded = history::append(state, &history::line_of(outcome));
    Ok(())
}

/// What `prune` did about such a job, in words; `None` when somebody else is at it.
pub(crate) fn settle_dead(
    state: &StateDir,
    host: &Host,
    remains: &Remains,
) -> Result<Option<String>, EngineError> {
    let Some(_journal) = JournalWriter::try_lock(&remains.journal)? else { return Ok(None) };
    let Some(run) = &remains.run else {
        remains.mend_claim(state)?;
        return Ok(Some("its claim led to no run".to_owned()));
    };
    let outcome = remains.close(state, host, run, None, None)?;
    Ok(outcome.map(|outcome| format!("settled as {} ({})", outcome.state, outcome.reason_code)))
}

impl Engine {
    /// `stop` and `finalize` of a job whose journal cannot be read.
    pub(crate) fn end_damaged(
        &self,
        remains: &Remains,
        action: &str,
        kind: &str,
        request: &EndRequest,
    ) -> Result<ActionDocument, EngineError> {
        let (state, host) = (self.state()?, Host::current()?);
        let job = JobName { beads: remains.beads.clone(), provider: Some(remains.provider.clone()) };
        let Some(run) = &remains.run else {
            if JournalWriter::try_lock(&remains.journal)?.is_none() {
                return Err(EngineError::StopDeadline);
            }
            remains.mend_claim(&state)?;
            return self.end(&job, action, kind, request);
        };
        let grace = grace_ms(request, &remains.known(&state, &host, run));
        let deadline = clock::monotonic_ms().saturating_add(grace).saturating_add(PATIENCE_MS);
        let (mut asked_at, mut ended) = (None, None);
        loop {
            let locked = match JournalWriter::try_lock(&remains.journal) {
                Ok(locked) => locked,
                // Its monitor, which knows what the journal said, has ended it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error.into()),
            };
            if let Some(_journal) = locked {
                if remains.close(&state, &host, run, Some(request), ended)?.is_some() {
                    break;
                }
            } else if let Some(at) = asked_at {
                let known = remains.known(&state, &host, run);
                let taken = known.sample.as_ref().is_some_and(|sample| sample.ending);
                let now = clock::monotonic_ms();
                if ended.is_none() && !taken && now.saturating_sub(at) > TAKEN_MS {
                    ended = Some(now);
                    end_by_identity(&state, &host, run, &known, grace);
                }
            } else {
                asked_at = Some(clock::monotonic_ms());
                let known = remains.known(&state, &host, run);
                if known.alive.elsewhere {
                    let host = remains.text("host");
                    return Err(EngineError::Elsewhere { beads: remains.beads.to_string(), host });
                }
                stop::ask(&state.run(run), kind, request)?;
                let monitor = known.sample.as_ref().and_then(|sample| sample.monitor.as_ref());
                stop::wake(&[known.exit.launcher.as_ref()], monitor);
            }
            if clock::monotonic_ms() > deadline {
                return Err(EngineError::StopDeadline);
            }
            std::thread::sleep(Duration::from_millis(GLANCE_MS));
        }
        match lookup::newest(&state, &job)? {
            Record::Foreign(foreign) => Ok(document(&state, action, &foreign, true)),
            // A newer run stands in its place.
            Record::Ours(found) => {
                Ok(crate::action::document(&state, action, &view::View::of(&state, &host, &found), true))
            }
        }
    }
}

/// Whether the record is of a run of ours of which only what was published of its end can be read.
pub(crate) fn was_ours(state: &StateDir, foreign: &Foreign) -> bool {
    let run = foreign.outcome.as_ref().and_then(|outcome| outcome.get("run_uuid")?.parse::<RunUuid>().ok());
    run.is_some_and(|run| state.run(&run).journal().exists())
}

/// Describes a run by what was published of its end.
pub(crate) fn document(state: &StateDir, action: &str, foreign: &Foreign, changed: bool) -> ActionDocument {
    let (shown, reason_code) = view::foreign_state(foreign.outcome.as_ref());
    let text = |key: &str| {
        let value = foreign.outcome.as_ref().and_then(|outcome| outcome.get(key));
        value.or_else(|| foreign.meta.get(key)).cloned().unwrap_or_else(|| "-".to_owned())
    };
    ActionDocument {
        schema: "dx-runner/action/1".to_owned(),
        action: action.to_owned(),
        beads: foreign.beads.to_string(),
        provider: foreign.provider.to_string(),
        run_instance: text("run_instance"),
        run_uuid: text("run_uuid"),
        pid: "-".to_owned(),
        state: shown,
        reason_code,
        log: state.view(&foreign.provider, &foreign.beads, "log").display().to_string(),
        worktree: text("worktree"),
        selected_model: text("selected_model"),
        changed,
        next_action: reason_code.advice(shown, foreign.beads.as_str()),
        warnings: Vec::new(),
        queued_ms: None,
    }
}
