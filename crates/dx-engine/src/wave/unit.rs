//! An item that is a unit of a task's plan: its agents and tests, and what they made.
//!
//! Called by `attempt`, in the item's thread. Everything is repeatable: the unit's own record says how far it came. Must never
//! write the wave's journal, or judge a step; that is the task's.

use super::attempt::{Attempt, Ground, Looked, look};
use crate::error::{EngineError, told};
use crate::task::{UnitTurn, unit_recorded};
use dx_protocol::{AttemptVerdict, ReasonCode, TaskStatus, WaveEvent, WaveUnit};

/// What became of the unit.
struct Ended {
    verdict: AttemptVerdict,
    reason: ReasonCode,
    finding: Option<String>,
    looked: Looked,
}

/// Carries it out to its end.
pub(super) fn run(ground: &Ground, attempt: &Attempt, unit: &WaveUnit, tell: &mut dyn FnMut(WaveEvent)) {
    let ended = carry_out(ground, attempt, unit).unwrap_or_else(|error| Ended {
        verdict: AttemptVerdict::Failed,
        reason: error.reason(),
        finding: Some(told(&error)),
        looked: Looked::default(),
    });
    let Ended { verdict, reason, finding, looked } = ended;
    let is_cancelled = verdict == AttemptVerdict::Failed && ground.is_cancelling();
    tell(WaveEvent::Judged {
        item: attempt.item.id.clone(),
        attempt: attempt.number,
        verdict: if is_cancelled { AttemptVerdict::Cancelled } else { verdict },
        reason,
        exit_code: "-".to_owned(),
        findings: finding.into_iter().collect(),
        commit: looked.commit,
        gates: looked.gates,
        notes: looked.left_behind,
        until: None,
        pool: None,
    });
}

fn carry_out(ground: &Ground, attempt: &Attempt, unit: &WaveUnit) -> Result<Ended, EngineError> {
    let passed = |looked| Ended {
        verdict: AttemptVerdict::Passed,
        reason: ReasonCode::TaskUnitDone,
        finding: None,
        looked,
    };
    if let Some(commit) = &unit.commit {
        return Ok(passed(Looked { commit: Some(commit.clone()), ..Looked::default() }));
    }
    let place = ground.place(&attempt.item.id, &attempt.base)?;
    let state = ground.engine.unit_run(&UnitTurn {
        repo: &ground.repo,
        unit,
        provider: &attempt.provider,
        model: attempt.item.model.as_deref(),
        place: &place,
        halt: ground.halt(),
    })?;
    let first = state.steps.first().and_then(|step| step.run_uuid.clone());
    match (state.status, first) {
        (TaskStatus::Done, Some(first)) => {
            let looked = look(ground, attempt, &first)?;
            if let Some(commit) = &looked.commit {
                unit_recorded(&ground.repo, unit, state, commit)?;
            }
            Ok(passed(looked))
        }
        (_, _) => Ok(Ended {
            verdict: AttemptVerdict::Failed,
            reason: state.reason_code.unwrap_or(ReasonCode::TaskEnded),
            finding: Some(state.message),
            looked: Looked::default(),
        }),
    }
}
