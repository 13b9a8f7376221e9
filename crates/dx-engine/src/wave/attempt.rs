//! One attempt of an item: its worktree, its job, and what is to be said of it when it has ended.
//!
//! Called by the coordinator, in a thread for each item under way. Everything is repeatable: a start has a key, a worktree
//! is taken up where it was left. Must never write the wave's journal.

use super::merge;
use super::prompt;
use super::unit;
use super::watch::{Watched, watch};
use crate::Engine;
use crate::GiveUp;
use crate::api::{PromptSource, StartRequest, Started, WorktreeChoice};
use crate::apply::Work;
use crate::error::{EngineError, told};
use crate::gates::touched;
use crate::git::{Repository, despite_kills};
use crate::halt::Halt;
use crate::lookup::{self, Found};
use crate::worktree::{self, Wish};
use dx_core::commit_gate;
use dx_jobdir::{StateDir, WavePaths, pools};
use dx_proc::clock;
use dx_protocol::{
    AttemptVerdict, BeadsId, ErrorClass, GATE_CHECK, GATE_COMMIT, GATE_SCOPE, GateReport, GateVerdict, Gates,
    Outcome, OutcomeState, ProviderName, ProviderVerdict, QuotaPool, ReasonCode, RunUuid, Timestamp,
    TreeStart, WaveEvent, WaveItem,
};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The commit of the item descends from what it began with.
const GATE_INTEGRITY: &str = "integrity";
/// What all threads of a wave know.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) engine: Engine,
    pub(super) state: StateDir,
    pub(super) paths: WavePaths,
    pub(super) wave_id: String,
    pub(super) repo: PathBuf,
    pub(super) cancelling: Arc<AtomicBool>,
    /// Closed on its other side when the wave is cancelled: whoever stands in a queue leaves it.
    pub(super) cancelled: Arc<PipeReader>,
}

impl Ground {
    pub(super) fn is_cancelling(&self) -> bool {
        self.cancelling.load(Ordering::Relaxed)
    }

    /// Makes the worktree and starts the job in it; waits while the provider has no place. What a predecessor has started is
    /// taken up, also when the wave is cancelled, so that it is ended and not forgotten; then nothing new is begun.
    pub(super) fn start(&self, base: &str, request: &StartRequest) -> Result<Started, EngineError> {
        let beads = request.beads.as_ref().ok_or(EngineError::MonitorLost)?;
        if let Some(started) = self.engine.started_before(request)? {
            return Ok(started);
        }
        let place = self.place(beads, base)?;
        // Its set-up may have taken long.
        if self.is_cancelling() {
            return Err(self.halt().error());
        }
        let request = StartRequest { worktree: WorktreeChoice::Path(place), ..request.clone() };
        self.engine.start_queued(&request, GiveUp::When(self.halt().fd()))
    }

    pub(super) fn halt(&self) -> Halt<'_> {
        Halt { wave: &self.wave_id, flag: &self.cancelling, pipe: &self.cancelled }
    }

    /// Makes the worktree, or takes it up; when the wave is cancelled, one that was not made yet is taken away.
    pub(super) fn place(&self, beads: &BeadsId, base: &str) -> Result<PathBuf, EngineError> {
        let ready = worktree::create(&Wish {
            beads,
            repo: &self.repo,
            base: Some(base),
            branch: None,
            places: &self.engine.places()?,
            sandbox: &self.engine.sandbox_in(&self.repo)?,
            progress: &|_| {},
            halt: Some(self.halt()),
        })?;
        Ok(ready.path())
    }
}

/// An attempt that is decided.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) item: WaveItem,
    pub(super) number: u32,
    /// The same without those that a provider refused.
    pub(super) counted: u32,
    pub(super) provider: ProviderName,
    pub(super) base: String,
    /// What the attempt before left to be done.
    pub(super) findings: Vec<String>,
    /// The run of the item's first attempt; `None` when this is it.
    pub(super) first_run: Option<RunUuid>,
    /// Providers that could take the next attempt.
    pub(super) others: usize,
}

/// Runs it to its end; tells each step.
pub(super) fn run(ground: &Ground, attempt: &Attempt, tell: &mut dyn FnMut(WaveEvent)) {
    if let Some(unit) = &attempt.item.unit {
        return unit::run(ground, attempt, unit, tell);
    }
    let item = attempt.item.id.clone();
    let refused = |error: &EngineError| WaveEvent::Refused {
        item: item.clone(),
        attempt: attempt.number,
        provider: attempt.provider.clone(),
        reason: error.reason(),
        message: told(error),
        until: match error {
            EngineError::QuotaParked { until, .. } => Some(*until),
            _ => None,
        },
        pool: match error {
            EngineError::QuotaParked { pool, .. } => Some(pool.clone()),
            _ => None,
        },
    };
    let started =
        ground.request(attempt).and_then(|request| despite_kills(|| ground.start(&attempt.base, &request)));
    let started = match started {
        Ok(started) => started,
        Err(error) => return tell(refused(&error)),
    };
    tell(WaveEvent::Started {
        item: item.clone(),
        attempt: attempt.number,
        run: started.ids.run_uuid.clone(),
        worktree: started.worktree.clone(),
        model: started.selected_model.clone(),
    });
    let judged = watch(ground, &started.ids, attempt.others > 0)
        .and_then(|watched| despite_kills(|| judge(ground, attempt, &started.ids.run_uuid, &watched)));
    match judged {
        Ok(event) => tell(event),
        Err(error) => tell(WaveEvent::Judged {
            item,
            attempt: attempt.number,
            verdict: AttemptVerdict::Failed,
            reason: error.reason(),
            exit_code: "-".to_owned(),
            findings: vec![told(&error)],
            commit: None,
            gates: Vec::new(),
            notes: Vec::new(),
            until: None,
            pool: None,
        }),
    }
}

impl Ground {
    fn request(&self, attempt: &Attempt) -> Result<StartRequest, EngineError> {
        let item = &attempt.item;
        let bytes = prompt::read(&self.paths.prompt(&item.id))?;
        let prompt = prompt::of_attempt(bytes, attempt.counted, &attempt.findings);
        let is_first = item.providers.first() == Some(&attempt.provider);
        Ok(StartRequest {
            beads: Some(item.id.clone()),
            provider: attempt.provider.clone(),
            prompt: (!prompt.is_empty()).then_some(PromptSource::Text(prompt)),
            worktree: WorktreeChoice::Auto,
            repo: Some(self.repo.display().to_string()),
            model: item.model.clone().filter(|_| is_first),
            command: item.command.clone(),
            idempotency_key: Some(key(&self.wave_id, &item.id, attempt.number)),
            // Commit and scope are looked at over all attempts, not over each.
            gates: Gates { check: item.check.clone(), ..Gates::default() },
            sandbox: item.sandbox,
            profile: item.profile.clone(),
            ..StartRequest::new(&attempt.provider)
        })
    }
}

/// Names an attempt for ever: a start with it never starts a second one.
fn key(wave_id: &str, item: &BeadsId, attempt: u32) -> String {
    format!("wave:{wave_id}:{item}:{attempt}")
}

/// What an ended job means for its item.
fn judge(
    ground: &Ground,
    attempt: &Attempt,
    run: &RunUuid,
    watched: &Watched,
) -> Result<WaveEvent, EngineError> {
    let outcome = &watched.outcome;
    let found = lookup::read_run(&ground.state, &ground.state.run(run).journal(), false)?;
    let looked = look(ground, attempt, run)?;
    let until = watched.until.or_else(|| told_until(&found, outcome));
    let (mut verdict, mut findings) = verdict_of(outcome, until, attempt, &found);
    if verdict == AttemptVerdict::Passed {
        for gate in looked.gates.iter().filter(|gate| !gate.report.passed) {
            verdict = AttemptVerdict::Revise;
            findings.push(format!("{}: {}", gate.name, gate.report.details));
        }
    }
    let failed_gate = looked.gates.iter().find(|gate| !gate.report.passed);
    let reason = match failed_gate.filter(|_| outcome.state == OutcomeState::Success) {
        Some(gate) => gate.report.reason_code,
        None => watched.reason(),
    };
    Ok(WaveEvent::Judged {
        item: attempt.item.id.clone(),
        attempt: attempt.number,
        verdict,
        reason,
        exit_code: outcome.exit_code.clone(),
        findings,
        commit: looked.commit,
        gates: looked.gates,
        notes: [strange(outcome), looked.left_behind].concat(),
        until,
        pool: until.and_then(|_| in_ledger(ground, &found)),
    })
}

/// What the run used, when the ledger has it: where it could not be written, the time alone counts.
pub(super) fn in_ledger(ground: &Ground, found: &Found) -> Option<QuotaPool> {
    let pool = QuotaPool::of(&found.run.created);
    let known = pools::parked(&ground.state, Timestamp(clock::now_ms()));
    known.iter().any(|line| line.pool == pool).then_some(pool)
}

/// What the job's own look around the repository found.
fn strange(outcome: &Outcome) -> Vec<String> {
    let findings = outcome.work.findings.iter();
    findings.map(|finding| format!("{}: {}", finding.reason_code, finding.names.join(", "))).collect()
}

/// The item's work so far.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) commit: Option<String>,
    pub(super) gates: Vec<GateVerdict>,
    /// What no commit can hold.
    pub(super) left_behind: Vec<String>,
}

/// Everything since the item's first start: as a commit that is kept, and what the gates say of it.
pub(super) fn look(ground: &Ground, attempt: &Attempt, run: &RunUuid) -> Result<Looked, EngineError> {
    let first = attempt.first_run.as_ref().unwrap_or(run);
    let found = lookup::read_run(&ground.state, &ground.state.run(first).journal(), false)?;
    let Some(tree) = &found.run.created.tree else { return Ok(Looked::default()) };
    let place = Path::new(&tree.work_tree);
    // What was in no commit went with it: the rest would be taken for the whole.
    if place.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(EngineError::WorktreeMissing(place.to_owned()));
    }
    let main = worktree::repository(&ground.repo)?;
    let mut work = Work::of(&found, tree)?;
    if attempt.item.unit.is_some() {
        // A task's papers are brought home as they are; in a commit they would be in the way of those there.
        work.changes.uncommitted.retain(|path| !path.starts_with(b".ai/"));
    }
    let commit = work.commit(&main, &found)?;
    merge::keep(&main, &ground.wave_id, &attempt.item.id, &commit)?;
    let gates = item_gates(attempt, &main, &work, (&found, tree), &commit)?;
    Ok(Looked { commit: Some(commit), gates, left_behind: work.left_behind() })
}

fn item_gates(
    attempt: &Attempt,
    main: &Repository,
    work: &Work,
    (first, tree): (&Found, &TreeStart),
    commit: &str,
) -> Result<Vec<GateVerdict>, EngineError> {
    let item = &attempt.item;
    let gate = |name: &str, report: GateReport| GateVerdict { name: name.to_owned(), report };
    let mut gates = Vec::new();
    // Somebody else's history is not what the others shall build on.
    let holds = main.git_says(&["merge-base", "--is-ancestor", &attempt.base, commit])?;
    gates.push(gate(
        GATE_INTEGRITY,
        if holds {
            GateReport::new(true, ReasonCode::IntegrityOk, format!("{commit} contains {}", attempt.base))
        } else {
            let details = format!("{commit} does not contain {}, which the item began with", attempt.base);
            GateReport::new(false, ReasonCode::ReportedNotAncestor, details)
        },
    ));
    if item.require_commit {
        gates.push(gate(GATE_COMMIT, commit_gate(tree.head.as_deref(), &work.changes.report)));
    }
    if !item.scope.is_empty() {
        let patterns = (std::slice::from_ref(&item.scope), &[][..]);
        let report = touched::scope(tree, &work.changes, first.run.created_at, patterns, None);
        gates.push(gate(GATE_SCOPE, report));
    }
    Ok(gates)
}

/// The time before which the provider takes nothing, when the job ended for that and its structured error names one.
pub(super) fn told_until(found: &Found, outcome: &Outcome) -> Option<Timestamp> {
    let limited =
        matches!(&outcome.provider_verdict, ProviderVerdict::Failed { class, .. } if class.is_limit());
    let until = found.run.limited_until.filter(|_| limited)?;
    (until.0 > clock::now_ms()).then_some(until)
}

fn verdict_of(
    outcome: &Outcome,
    until: Option<Timestamp>,
    attempt: &Attempt,
    found: &Found,
) -> (AttemptVerdict, Vec<String>) {
    if until.is_some() {
        return (AttemptVerdict::Fallback, Vec::new());
    }
    let ended = |how: String| {
        let detail = if outcome.detail.is_empty() { String::new() } else { format!(": {}", outcome.detail) };
        vec![format!("{how}{detail}")]
    };
    match outcome.state {
        OutcomeState::Success => return (AttemptVerdict::Passed, Vec::new()),
        OutcomeState::Killed
            if matches!(outcome.reason_code, ReasonCode::ManualStop | ReasonCode::ForcedFinalization) =>
        {
            return (AttemptVerdict::Cancelled, Vec::new());
        }
        _ => {}
    }
    let check = outcome.gates.iter().find(|gate| gate.name == GATE_CHECK && !gate.report.passed);
    if let Some(check) = check.filter(|check| check.report.reason_code != ReasonCode::CheckNotRun) {
        let mut findings = vec![format!("the check failed: {}", check.report.details)];
        findings.extend(prompt::tail(&found.paths.check_log()));
        return (AttemptVerdict::Revise, findings);
    }
    let findings =
        ended(format!("the agent ended with exit code {} ({})", outcome.exit_code, outcome.reason_code));
    let ProviderVerdict::Failed { class, .. } = &outcome.provider_verdict else {
        return (AttemptVerdict::Revise, findings);
    };
    let verdict = match class {
        ErrorClass::Auth | ErrorClass::ModelUnavailable | ErrorClass::AgentMissing => {
            AttemptVerdict::Fallback
        }
        ErrorClass::RateLimit
        | ErrorClass::Quota
        | ErrorClass::Capacity
        | ErrorClass::Server
        | ErrorClass::Network
            if attempt.others > 0 =>
        {
            AttemptVerdict::Fallback
        }
        _ => AttemptVerdict::Revise,
    };
    (verdict, findings)
}
