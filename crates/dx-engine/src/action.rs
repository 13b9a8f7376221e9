//! The document that mutating commands answer with.

use crate::view::View;
use dx_jobdir::StateDir;
use dx_protocol::{ActionDocument, State};

/// Describes a run after an action.
pub(crate) fn document(state: &StateDir, action: &str, view: &View, changed: bool) -> ActionDocument {
    let created = &view.run.created;
    let ids = &created.ids;
    ActionDocument {
        schema: "dx-runner/action/1".to_owned(),
        action: action.to_owned(),
        beads: ids.beads.to_string(),
        provider: ids.provider.to_string(),
        run_instance: ids.run_instance.clone(),
        run_uuid: ids.run_uuid.to_string(),
        pid: pid_text(view),
        state: view.judgement.state,
        reason_code: view.judgement.reason,
        log: state.view(&ids.provider, &ids.beads, "log").display().to_string(),
        worktree: created.spec.worktree.clone(),
        selected_model: created.contract.selected_model.clone(),
        changed,
        next_action: view.advice(),
        warnings: left(view).into_iter().collect(),
        queued_ms: created.queued_ms,
    }
}

/// What an end did not reach.
fn left(view: &View) -> Option<String> {
    let left = view.outcome.as_ref()?.strays_left;
    let processes = if left == 1 { "process of a tool goes" } else { "processes of tools go" };
    let what = "on in the OpenCode server; `dx-runner server stop` ends it with all of them";
    (left > 0).then(|| format!("{left} {processes} {what}"))
}

/// The agent's pid while it lives, else `-`.
pub(crate) fn pid_text(view: &View) -> String {
    match &view.run.agent {
        Some(agent)
            if view.alive.agent && !matches!(view.judgement.state, State::ExitedOk | State::ExitedErr) =>
        {
            agent.pid.to_string()
        }
        _ => "-".to_owned(),
    }
}
