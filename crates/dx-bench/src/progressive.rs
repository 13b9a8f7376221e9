//! The progressive benchmark: phases that ask more and more, each run only after the one before has passed on the same
//! commit. A phase is a governed run; what it must reach, and what became of it, is in `progressive/state.json`.
//!
//! Must never: run a phase that is blocked, or take a phase for passed whose run was on another commit.

use crate::error::BenchError;
use crate::folder;
use crate::gates;
use crate::governed::{self, News, Request};
use crate::judge::judge;
use dx_engine::{Cancel, Engine};
use dx_proc::clock;
use dx_protocol::{
    BenchDocument, BenchPhase, BenchPhaseState, BenchProgress, BenchProgressiveDocument, ExitCode,
    ReasonCode, Timestamp,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of the state, beside those of the runs.
pub(crate) const FOLDER: &str = "progressive";
const STATE: &str = "state.json";
const STATE_SCHEMA: &str = "dx-runner/bench-progress/1";
const DOCUMENT_SCHEMA: &str = "dx-runner/bench-progressive/1";
/// Attempts beyond the first, in every phase.
const MAX_RETRIES: u32 = 1;

/// What a phase runs, and what it must reach.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    pub name: &'static str,
    workflows: &'static [&'static str],
    prompts: &'static [&'static str],
    rounds: u32,
    parallel: u32,
    /// All jobs must really run at once.
    all_at_once: bool,
    timeout: Duration,
    minimum: f64,
}

/// The phases, in their order.
pub const PHASES: [Phase; 3] = [
    Phase {
        name: "phase1_smoke",
        workflows: &["opencode_run_headless"],
        prompts: &["latency"],
        rounds: 1,
        parallel: 1,
        all_at_once: false,
        timeout: Duration::from_mins(5),
        minimum: 1.0,
    },
    Phase {
        name: "phase2_6stream",
        workflows: &["opencode_run_headless"],
        prompts: &["latency", "coding-slug", "partial-context"],
        rounds: 2,
        parallel: 6,
        all_at_once: true,
        timeout: Duration::from_mins(5),
        minimum: 1.0,
    },
    Phase {
        name: "phase3_real_coding_gate",
        workflows: &["opencode_run_headless", "opencode_server_http"],
        prompts: &["coding-slug", "coding-repair", "partial-context", "orchestration"],
        rounds: 1,
        parallel: 6,
        all_at_once: false,
        timeout: Duration::from_mins(7),
        minimum: 0.9,
    },
];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct ProgressiveRequest {
    /// `None`: all, in their order.
    pub phase: Option<String>,
    /// Run a phase although the one before has not passed.
    pub force: bool,
    pub required_baseline: Option<String>,
    pub reported_commit: Option<String>,
    pub branch: Option<String>,
    /// Where the benchmark was called.
    pub repo: PathBuf,
    /// The folder of all runs.
    pub out: PathBuf,
}

/// Runs the phases that are asked for, up to the first that does not pass.
pub fn progressive(
    engine: &Engine,
    request: &ProgressiveRequest,
    cancel: &Cancel,
    told: &(dyn Fn(News<'_>) + Sync),
) -> Result<BenchProgressiveDocument, BenchError> {
    let chosen = chosen(request.phase.as_deref())?;
    gates::without_secrets(&[
        ("--required-baseline", request.required_baseline.as_deref()),
        ("--reported-commit", request.reported_commit.as_deref()),
        ("--branch", request.branch.as_deref()),
    ])?;
    let mut ledger = Ledger::take(&request.out)?;
    let baseline = baseline(engine, request)?;
    let mut phases = Vec::new();
    let mut exit = ExitCode::Ok;
    let from = if request.phase.is_none() { ledger.goes_on_at(&baseline, request.force) } else { 0 };
    for (number, phase) in chosen.iter().enumerate().skip(from) {
        if !request.force {
            ledger.admit(phase, &baseline)?;
        }
        told(News::Phase(phase.name));
        let document = ledger.run(engine, request, phase, &baseline, cancel, told)?;
        let (ended, code) = judge(ledger.begun(phase, &baseline), &document);
        let passed = ended.state == BenchPhaseState::Passed;
        // The next one is begun in the same write, so that a call that is killed in between is known to be none of its own.
        let next = chosen.get(number + 1).filter(|_| passed || request.force);
        ledger.put(ended.clone(), next.map(|next| blank(next, &baseline)))?;
        phases.push(ended);
        if exit == ExitCode::Ok {
            exit = code;
        }
        if next.is_none() {
            break;
        }
    }
    let failed = phases.iter().find(|phase| phase.state == BenchPhaseState::Failed);
    let reason = failed.map_or(ReasonCode::BenchOk, |phase| phase.reason_code);
    Ok(BenchProgressiveDocument {
        schema: DOCUMENT_SCHEMA.to_owned(),
        out: request.out.display().to_string(),
        baseline,
        passed: failed.is_none(),
        reason_code: reason,
        exit_code: exit.code().into(),
        next_action: reason.next_action().to_owned(),
        phases,
    })
}

fn chosen(name: Option<&str>) -> Result<&'static [Phase], BenchError> {
    let Some(name) = name else { return Ok(&PHASES) };
    let unknown = || {
        let all = PHASES.each_ref().map(|phase| phase.name).join(", ");
        BenchError::Argument(format!("there is no phase `{name}`; there are {all}"))
    };
    let at = PHASES.iter().position(|phase| phase.name == name).ok_or_else(unknown)?;
    Ok(&PHASES[at..=at])
}

/// The commit that the phases are about, as a full id where it exists.
fn baseline(engine: &Engine, request: &ProgressiveRequest) -> Result<String, BenchError> {
    let Some(required) = &request.required_baseline else {
        return Ok(dx_engine::head_of(&request.repo).unwrap_or_else(|| "-".to_owned()));
    };
    let known = engine.baseline_gate(&request.repo, required)?.facts.required;
    Ok(known.unwrap_or_else(|| required.clone()))
}

/// A phase that begins now.
pub(crate) fn blank(phase: &Phase, baseline: &str) -> BenchPhase {
    BenchPhase {
        phase: phase.name.to_owned(),
        baseline: baseline.to_owned(),
        run_id: format!("{}-{}", Timestamp(clock::now_ms()).compact(), phase.name),
        state: BenchPhaseState::Begun,
        minimum: phase.minimum,
        succeeded: 0,
        of: 0,
        reason_code: ReasonCode::Interrupted,
        faults: Vec::new(),
        details: String::new(),
    }
}

/// `state.json`, held by one process at a time.
struct Ledger {
    path: PathBuf,
    phases: Vec<BenchPhase>,
    _lock: File,
}

impl Ledger {
    fn take(out: &Path) -> Result<Self, BenchError> {
        let folder = out.join(FOLDER);
        folder::make(&folder)?;
        let lock = folder::lock(&folder, FOLDER)?;
        let path = folder.join(STATE);
        let state: Option<BenchProgress> = path.exists().then(|| folder::read(&path)).transpose()?;
        Ok(Self { path, phases: state.map(|state| state.phases).unwrap_or_default(), _lock: lock })
    }

    fn find(&self, phase: &Phase, baseline: &str) -> Option<&BenchPhase> {
        self.phases.iter().find(|known| known.phase == phase.name && known.baseline == baseline)
    }

    fn has(&self, phase: &Phase, baseline: &str, state: BenchPhaseState) -> bool {
        self.find(phase, baseline).is_some_and(|known| known.state == state)
    }

    /// The phase as it was begun, by this call or by one that was killed.
    fn begun(&self, phase: &Phase, baseline: &str) -> BenchPhase {
        let begun = self.find(phase, baseline).filter(|known| known.state == BenchPhaseState::Begun);
        begun.cloned().unwrap_or_else(|| blank(phase, baseline))
    }

    /// Where a call of all phases goes on that was killed or interrupted on this commit; 0 for a new one.
    fn goes_on_at(&self, baseline: &str, force: bool) -> usize {
        let at = PHASES.iter().position(|phase| self.has(phase, baseline, BenchPhaseState::Begun));
        let passed = |phase: &Phase| force || self.has(phase, baseline, BenchPhaseState::Passed);
        at.filter(|at| PHASES[..*at].iter().all(passed)).unwrap_or(0)
    }

    /// Whether the phase before has passed on the same commit.
    fn admit(&self, phase: &Phase, baseline: &str) -> Result<(), BenchError> {
        let at = PHASES.iter().position(|known| known.name == phase.name).unwrap_or(0);
        let Some(before) = at.checked_sub(1).map(|at| &PHASES[at]) else { return Ok(()) };
        if self.has(before, baseline, BenchPhaseState::Passed) {
            return Ok(());
        }
        let (phase, before, baseline) = (phase.name, before.name, baseline.to_owned());
        Err(BenchError::Blocked { phase, before, baseline })
    }

    fn run(
        &mut self,
        engine: &Engine,
        request: &ProgressiveRequest,
        phase: &Phase,
        baseline: &str,
        cancel: &Cancel,
        told: &(dyn Fn(News<'_>) + Sync),
    ) -> Result<BenchDocument, BenchError> {
        let begun = self.begun(phase, baseline);
        self.put(begun.clone(), None)?;
        match governed::run(engine, &governed(request, phase, &begun.run_id), cancel, told) {
            // What was begun by another version of the program is not gone on with.
            Err(BenchError::Changed { .. }) => {
                let begun = blank(phase, baseline);
                self.put(begun.clone(), None)?;
                governed::run(engine, &governed(request, phase, &begun.run_id), cancel, told)
            }
            // Its jobs were stopped, and those that are left would not be at once with those that have ended.
            Err(BenchError::Interrupted) if phase.all_at_once => {
                self.put(blank(phase, baseline), None)?;
                Err(BenchError::Interrupted)
            }
            other => other,
        }
    }

    fn put(&mut self, phase: BenchPhase, next: Option<BenchPhase>) -> Result<(), BenchError> {
        for phase in [Some(phase), next].into_iter().flatten() {
            // What it came to on another commit stays, so that one may go back to that.
            let same =
                |other: &BenchPhase| (&other.phase, &other.baseline) == (&phase.phase, &phase.baseline);
            self.phases.retain(|other| !same(other));
            self.phases.push(phase);
        }
        self.phases.sort_by(|a, b| a.phase.cmp(&b.phase));
        let state = BenchProgress { schema: STATE_SCHEMA.to_owned(), phases: self.phases.clone() };
        folder::replace_json(&self.path, &state)
    }
}

/// A phase as a governed run.
fn governed(request: &ProgressiveRequest, phase: &Phase, run_id: &str) -> Request {
    Request {
        workflows: phase.workflows.iter().map(ToString::to_string).collect(),
        models: Vec::new(),
        prompts: None,
        only: phase.prompts,
        parallel: phase.parallel,
        all_at_once: phase.all_at_once,
        rounds: phase.rounds,
        max_retries: MAX_RETRIES,
        timeout: phase.timeout,
        required_baseline: request.required_baseline.clone(),
        reported_commit: request.reported_commit.clone(),
        branch: request.branch.clone(),
        repo: request.repo.clone(),
        run_id: Some(run_id.to_owned()),
        out: request.out.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Ledger, PHASES, blank};
    use dx_protocol::{BenchPhase, BenchPhaseState};

    #[test]
    fn a_pass_stays_when_the_phase_is_tried_on_another_commit() {
        let out = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::take(out.path()).unwrap();
        let of = |baseline, state| BenchPhase { state, ..blank(&PHASES[0], baseline) };
        ledger.put(of("a", BenchPhaseState::Passed), None).unwrap();
        ledger.put(of("b", BenchPhaseState::Begun), None).unwrap();
        ledger.put(of("b", BenchPhaseState::Failed), None).unwrap();
        drop(ledger);
        let mut ledger = Ledger::take(out.path()).unwrap();
        assert_eq!(ledger.phases.len(), 2, "one of each commit: {:#?}", ledger.phases);
        ledger.admit(&PHASES[1], "a").unwrap();
        ledger.admit(&PHASES[1], "b").unwrap_err();
        // On the same commit the last one counts.
        ledger.put(of("a", BenchPhaseState::Failed), None).unwrap();
        ledger.admit(&PHASES[1], "a").unwrap_err();
    }
}
