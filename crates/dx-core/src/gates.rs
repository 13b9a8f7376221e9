//! What gates and checks make of an end. They can turn a success into a failure, never a failure into anything.
//!
//! Called by `outcome`, and by whoever runs the steps of an end to learn which are still missing. Must never ask git or
//! run a command: what they found is data here.

use crate::fold::{Phase, Run};
use crate::outcome::{Ended, agent_did_well, ended_for};
use dx_protocol::{
    GATE_CHECK, GATE_COMMIT, GATE_FEATURE_KEY, GATE_READ_ONLY, GATE_REPOSITORY, GATE_SCOPE, GateReport,
    GateVerdict, HeadMove, OutcomeState, ReasonCode, WorkReport,
};

/// The order of the steps, which is the order in which the first failure is told.
const ORDER: [&str; 6] =
    [GATE_REPOSITORY, GATE_READ_ONLY, GATE_COMMIT, GATE_SCOPE, GATE_FEATURE_KEY, GATE_CHECK];
/// Exit code that the outcome carries when a required commit is missing.
const NO_COMMIT: &str = "44";

/// Gates that were asked for, the check apart, and have not answered.
pub fn gates_due(run: &Run) -> Vec<&'static str> {
    let asked = &run.created.spec.gates;
    let wanted = [
        (GATE_READ_ONLY, asked.read_only),
        (GATE_COMMIT, asked.require_commit),
        (GATE_SCOPE, asked.judges_paths()),
        (GATE_FEATURE_KEY, !asked.feature_keys.is_empty()),
    ];
    wanted
        .into_iter()
        .filter(|(name, asked)| *asked && answer(run, name).is_none())
        .map(|(name, _)| name)
        .collect()
}

/// Whether the command of `--check` is the next step: it was asked for, has no verdict, and everything before it is well.
pub fn check_is_due(run: &Run) -> bool {
    run.phase == Phase::ProcessEnded
        && run.created.spec.gates.check.is_some()
        && answer(run, GATE_CHECK).is_none()
        && gates_due(run).is_empty()
        && run.gates.iter().all(|gate| gate.report.passed)
        && agent_did_well(run)
}

fn answer<'r>(run: &'r Run, name: &str) -> Option<&'r GateReport> {
    run.gates.iter().find(|gate| gate.name == name).map(|gate| &gate.report)
}

/// All reports, those that were asked for and are missing included.
pub(crate) fn of(run: &Run, did_well: bool) -> Vec<GateVerdict> {
    let mut gates = run.gates.clone();
    let missing = |name: &str, reason, why: &str| GateVerdict {
        name: name.to_owned(),
        report: GateReport::new(false, reason, why),
    };
    let error = run.settle_error.as_deref().unwrap_or("it was not asked");
    for name in gates_due(run) {
        gates.push(missing(name, ReasonCode::GateUnanswered, error));
    }
    if run.created.spec.gates.check.is_some() && answer(run, GATE_CHECK).is_none() {
        let reason = if did_well && gates.iter().all(|gate| gate.report.passed) {
            ReasonCode::GateUnanswered
        } else {
            ReasonCode::CheckNotRun
        };
        gates.push(missing(GATE_CHECK, reason, if reason == ReasonCode::CheckNotRun { "" } else { error }));
    }
    gates.sort_by_key(|gate| ORDER.iter().position(|name| *name == gate.name).unwrap_or(ORDER.len()));
    gates
}

/// The first gate that failed decides about an end that would have been a success. The exit code stays what was seen,
/// but for a missing commit, which has one of its own.
pub(crate) fn judge(run: &Run, ended: Ended, gates: &[GateVerdict]) -> Ended {
    if ended.state != OutcomeState::Success {
        return ended;
    }
    let Some(failed) = gates.iter().find(|gate| !gate.report.passed) else { return ended };
    if let (ReasonCode::CheckInterrupted, Some((ending, _))) = (failed.report.reason_code, &run.ending) {
        return ended_for(ending);
    }
    let reason = failed.report.reason_code;
    Ended {
        state: OutcomeState::Failed,
        reason,
        exit_code: if reason == ReasonCode::NoCommitArtifact {
            NO_COMMIT.to_owned()
        } else {
            ended.exit_code
        },
        detail: failed.report.details.clone(),
    }
}

/// A verdict names no more paths than this.
const MAX_NAMED: usize = 5;

/// `--read-only`: nothing in the worktree changed, and HEAD is where it was.
pub fn read_only_gate(work: &WorkReport) -> GateReport {
    if !work.known {
        return GateReport::new(false, ReasonCode::GateUnanswered, "git could not tell what changed");
    }
    if work.mutations == 0 && work.head_move == HeadMove::Stay {
        return GateReport::new(true, ReasonCode::ReadOnlyOk, "nothing changed");
    }
    let named = work.files_changed.iter().take(MAX_NAMED).map(|path| path.escape_debug().to_string());
    let named: Vec<String> = named.collect();
    let what =
        if named.is_empty() { "HEAD moved".to_owned() } else { format!("changed: {}", named.join(", ")) };
    GateReport::new(false, ReasonCode::ReadOnlyViolation, what)
}

/// `--require-commit`: HEAD differs from the start and descends from it.
pub fn commit_gate(start: Option<&str>, work: &WorkReport) -> GateReport {
    let start = start.unwrap_or("no commit");
    let Some(head) = work.head.as_deref().filter(|_| work.known) else {
        let why = if work.known { "there is no commit" } else { "git could not tell where HEAD is" };
        let reason = if work.known { ReasonCode::NoCommitArtifact } else { ReasonCode::GateUnanswered };
        return GateReport::new(false, reason, why);
    };
    let missing = |why: String| GateReport::new(false, ReasonCode::NoCommitArtifact, why);
    match work.head_move {
        HeadMove::Forward => GateReport::new(true, ReasonCode::CommitOk, format!("{start} to {head}")),
        HeadMove::Stay => missing(format!("HEAD is still {head}")),
        HeadMove::Back => missing(format!("HEAD went back from {start} to {head}")),
        HeadMove::Aside => missing(format!("HEAD is {head}, which does not descend from {start}")),
    }
}
