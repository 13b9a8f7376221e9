//! What the runner makes of a turn: what it changed against its role, how its job ended, its report.
//!
//! Called by `step`. Must never: take a report for the work, or an agent's permissions for its boundary.

use super::files::{TASKS, text};
use super::handoff;
use super::ignored;
use super::seen;
use super::step::Ground;
use crate::error::EngineError;
use dx_protocol::{CheckDocument, OutcomeState, ReasonCode, TaskStep};
use dx_workflow::task::{Report, ReportKind, report_findings};
use dx_workflow::{Effect, effect, hash, rules_of};

/// The project's facts, with the line that says whether `agy` may work.
pub(super) const CONTEXT: &str = ".ai/context.md";

/// What is wrong with a turn; `None`: nothing. `failing`: a test command failed before it.
pub(super) fn judge(
    ground: &Ground<'_>,
    step: &mut TaskStep,
    failing: bool,
    document: &CheckDocument,
) -> Result<Option<(ReasonCode, String)>, EngineError> {
    let uuid = step.run_uuid.clone().ok_or(EngineError::MonitorLost)?;
    let rules = rules_of(&step.agent);
    let outside = |path: &str| {
        let elsewhere = path.starts_with(TASKS) && !path.starts_with(&format!("{}/", ground.task.path("")));
        elsewhere || effect(&rules, "edit", path) != Effect::Allow
    };
    let seen = seen::of(ground, &uuid, &step.before, &outside)?;
    step.notes.extend(seen.is_part.then(part));
    step.changed_paths = seen.changed.into_iter().collect();
    step.violations = step.changed_paths.iter().filter(|path| outside(path)).cloned().collect();
    let mut why = "";
    if seen.moved {
        step.violations.push("HEAD".to_owned());
        why = "; HEAD is at another commit, or on another branch";
    }
    let now = handoff::flag(text(&ground.place.join(CONTEXT)).as_deref());
    let is_switched = step.agy.as_ref().is_some_and(|before| *before != now);
    let by_it = step.changed_paths.iter().any(|path| path == CONTEXT);
    if is_switched && by_it && !step.violations.iter().any(|path| path == CONTEXT) {
        step.violations.push(CONTEXT.to_owned());
        why = "; what it says of agy is the user's";
    }
    if !step.violations.is_empty() {
        let message = format!("it wrote what its role may not: {}{why}", step.violations.join(", "));
        return Ok(Some((ReasonCode::RoleScopeViolation, message)));
    }
    let outcome = document.outcome.as_ref();
    let reason = outcome.map_or(document.reason_code, |outcome| outcome.reason_code);
    let went_well = outcome.is_some_and(|outcome| outcome.state == OutcomeState::Success);
    // Its role refused it something, as it should, and it ended by itself: what it did all the same is judged like any other's.
    let refused = outcome.filter(|_| reason == ReasonCode::PermissionDeniedByAgent);
    if let Some(outcome) = refused {
        let all = format!("each refusal is in dx-runner logs --beads {}", step.job);
        step.notes.push(format!("its role refused it a tool: {}; {all}", outcome.detail));
        let delivered = match ReportKind::of_agent(&step.agent) {
            Some(kind) => step.changed_paths.contains(&ground.task.path(kind.file())),
            None => !step.changed_paths.is_empty(),
        };
        if !delivered {
            let message = format!(
                "its role refused it a tool ({}), and it ended without having done its part; dx-runner logs --beads {}",
                outcome.detail, step.job
            );
            return Ok(Some((reason, message)));
        }
    } else if !went_well {
        let next = format!("its job {} ended as {reason}; {}", step.job, document.next_action);
        return Ok(Some((reason, next)));
    }
    Ok(report(ground, step, failing))
}

/// Of a project with so many files that git ignores.
fn part() -> String {
    format!("of the files that git ignores only the first {} were compared", ignored::MOST)
}

/// What is wrong with a turn's report; `failing`: a test command failed before it.
fn report(ground: &Ground<'_>, step: &mut TaskStep, failing: bool) -> Option<(ReasonCode, String)> {
    let kind = ReportKind::of_agent(&step.agent)?;
    let path = ground.task.path(kind.file());
    let written = text(&ground.folder().folder.join(kind.file()));
    // One that was there before is not this turn's.
    let Some(text) = written.filter(|_| step.changed_paths.contains(&path)) else {
        let message = format!("it ended well, and did not write {path}");
        return Some((ReasonCode::ReportMissing, message));
    };
    step.report = Some(path.clone());
    let parsed = Report::parse(&text);
    step.claims_pass = parsed.passed;
    if parsed.is_blocked() {
        let message = format!("it is blocked, see {path}");
        return Some((ReasonCode::AgentBlocked, message));
    }
    if parsed.passed == Some(false) && !failing && parsed.names_no_issue() {
        let message = format!("{path} says FAIL and names no issue, and all test commands passed");
        return Some((ReasonCode::ReportInvalid, message));
    }
    let found = report_findings(&path, kind, &text, &hash(ground.spec.as_bytes()));
    found
        .first()
        .map(|first| (ReasonCode::ReportInvalid, format!("{}:{}: {}", first.file, first.line, first.message)))
}
