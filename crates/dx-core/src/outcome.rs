//! How a run ended: a pure function of what the fold knows, so that settling twice gives the same bytes.

use crate::fold::{ProcessEnd, Run};
use crate::gates;
use dx_protocol::{
    Confinement, Ending, Exit, Finding, Grammar, HeadMove, Outcome, OutcomeState, ProcessVerdict,
    ProviderReport, ProviderVerdict, ReasonCode, Timestamp, Trouble, Usage, WorkReport,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Exit code that the outcome of a time limit carries (the number of `timeout`).
const TIMED_OUT: i32 = 124;
/// Exit code that the outcome of `stop` carries (128 + SIGKILL).
const STOPPED: i32 = 137;

/// State, reason, exit code text and detail: what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub state: OutcomeState,
    pub reason: ReasonCode,
    pub exit_code: String,
    pub detail: String,
}

/// The outcome of a run whose process has ended; `None` before that.
pub fn decide(run: &Run) -> Option<Outcome> {
    let end = run.end.as_ref()?;
    let provider = run.provider.clone().unwrap_or_else(|| nothing_told(run));
    let mut work = run.work.clone().unwrap_or_default();
    work.findings.extend(sandbox_denied(run, &provider.writes_refused));
    let mut agents = judge(run, end, &provider.verdict, &work);
    let trouble = trouble(run, &agents, &provider);
    if let Some(trouble) = trouble.as_ref().filter(|_| agents.detail.is_empty()) {
        agents.detail = trouble.to_string();
    }
    let gates = gates::of(run, agents.state == OutcomeState::Success);
    let ended = gates::judge(run, agents, &gates);
    let completed_at = end.exit.as_ref().map_or(end.at, |e| e.at);
    let started_at = run.created_at;
    let created = &run.created;
    Some(Outcome {
        ids: created.ids.clone(),
        state: ended.state,
        reason_code: ended.reason,
        detail: ended.detail,
        exit_code: ended.exit_code,
        exit: end.exit.as_ref().map(|e| e.exit),
        witness: end.exit.as_ref().map(|e| e.witness),
        started_at,
        completed_at: completed_at.max(started_at),
        duration_sec: Timestamp::since_ms(completed_at, started_at) / 1000,
        retries: created.retries,
        selected_model: created.contract.selected_model.clone(),
        fallback_reason: created.contract.fallback_reason.clone(),
        execution_mode: created.contract.execution_mode.clone(),
        host: created.starter.host.clone(),
        cwd: created.cwd.clone(),
        worktree: created.spec.worktree.clone(),
        provider_switch_from: created.provider_switch_from.clone(),
        process: process_verdict(run, end),
        provider_verdict: provider.verdict,
        trouble,
        work,
        gates,
        usage: provider.usage,
        tools: provider.tools,
        log_bytes: end.log_bytes,
        cpu_time_sec: end.cpu_ms / 1000,
        strays: end.strays.saturating_add(provider.strays),
        strays_left: provider.strays_left,
        unmasked: run.unmasked.clone(),
        blocked: run.blocked,
    })
}

/// What a person should know of an agent that failed for another reason, as one that was ended for its time.
fn trouble(run: &Run, agents: &Ended, provider: &ProviderReport) -> Option<Trouble> {
    let told = match &provider.verdict {
        ProviderVerdict::Failed { class, status, message } => {
            Some(Trouble { class: *class, status: *status, message: message.clone() })
        }
        _ => provider.trouble.clone(),
    };
    let own = |trouble: &Trouble| {
        ReasonCode::of_agent_error(run.created.ids.provider.as_str(), trouble.class) == agents.reason
    };
    told.filter(|trouble| agents.state != OutcomeState::Success && !own(trouble))
}

/// Refused writes are the sandbox's doing when there is one and they lie outside of it.
fn sandbox_denied(run: &Run, refused: &[String]) -> Option<Finding> {
    let sandbox = &run.created.contract.sandbox;
    let outside = |path: &&String| !sandbox.writable.iter().any(|tree| Path::new(path).starts_with(tree));
    let names: Vec<String> = refused.iter().filter(outside).cloned().collect();
    let denied = sandbox.mode == Confinement::Strict && !names.is_empty();
    denied.then_some(Finding { reason_code: ReasonCode::SandboxDenied, names })
}

fn nothing_told(run: &Run) -> ProviderReport {
    ProviderReport {
        strays: 0,
        strays_left: 0,
        // An agent that should have told a result and of which nothing is known has told none.
        verdict: match run.created.contract.grammar {
            Grammar::Text => ProviderVerdict::NotApplicable,
            Grammar::Opencode | Grammar::Claude | Grammar::Codex | Grammar::Gemini => {
                ProviderVerdict::NoResult
            }
        },
        usage: Usage::default(),
        tools: BTreeMap::new(),
        session: None,
        writes_refused: Vec::new(),
        trouble: None,
    }
}

/// Whether process and provider agree that the agent did well, whatever gates say.
pub(crate) fn agent_did_well(run: &Run) -> bool {
    let Some(end) = &run.end else { return false };
    let verdict = run.provider.clone().unwrap_or_else(|| nothing_told(run)).verdict;
    judge(run, end, &verdict, &run.work.clone().unwrap_or_default()).state == OutcomeState::Success
}

fn process_verdict(run: &Run, end: &ProcessEnd) -> ProcessVerdict {
    match (&run.spawn_error, end.exit.as_ref().map(|e| e.exit)) {
        (Some(_), _) => ProcessVerdict::NotStarted,
        (None, None) => ProcessVerdict::Unobserved,
        (None, Some(exit)) => exit.into(),
    }
}

fn judge(run: &Run, end: &ProcessEnd, provider: &ProviderVerdict, work: &WorkReport) -> Ended {
    let failed = |reason, exit_code: String, detail: String| Ended {
        state: OutcomeState::Failed,
        reason,
        exit_code,
        detail,
    };
    if let Some((errno, message)) = &run.spawn_error {
        return failed(ReasonCode::SpawnFailed, "-".to_owned(), format!("{message} (errno {errno})"));
    }
    // An agent that ended before we decided to end it ended by itself.
    let ended_by_us = run
        .ending
        .as_ref()
        .filter(|(_, decided)| end.exit.as_ref().is_none_or(|exit| exit.mono_ms >= *decided));
    if let Some((ending, _)) = ended_by_us {
        return ended_for(ending);
    }
    let Some(exit) = &end.exit else {
        // A file that the job itself can write proves nothing: it fails all the same.
        if let Some(code) = end.rc_file {
            return failed(ReasonCode::LateFinalizeFromRcFile, code.to_string(), String::new());
        }
        let reason = end.unseen.unwrap_or(ReasonCode::LateFinalizeNoRc);
        return failed(reason, "-".to_owned(), String::new());
    };
    let code = exit.exit.shell_code().to_string();
    let agent_error = |class, message: &String| {
        let reason = ReasonCode::of_agent_error(run.created.ids.provider.as_str(), class);
        failed(reason, code.clone(), message.clone())
    };
    match (exit.exit, provider) {
        (_, ProviderVerdict::Failed { class, message, .. }) => agent_error(*class, message),
        (Exit::Code(0), ProviderVerdict::Refused { what }) => {
            failed(ReasonCode::PermissionDeniedByAgent, code, what.clone())
        }
        (Exit::Code(0), ProviderVerdict::NoResult) => {
            failed(ReasonCode::ProviderNoResult, code, String::new())
        }
        (Exit::Code(0), ProviderVerdict::Ok | ProviderVerdict::NotApplicable) => Ended {
            state: OutcomeState::Success,
            reason: if work.known && work.mutations == 0 && work.head_move == HeadMove::Stay {
                ReasonCode::ExitZeroNoMutations
            } else {
                ReasonCode::ProcessExitWithRc
            },
            exit_code: code,
            detail: String::new(),
        },
        (exit, _) => {
            let detail = match exit {
                Exit::Signal(signal) => format!("ended by signal {signal}"),
                Exit::Code(code) => code_of(run.created.contract.grammar, code),
            };
            failed(ReasonCode::ProcessExitWithRc, code, detail)
        }
    }
}

/// What an exit code means that looks like a signal of a shell and is none: Gemini CLI exits with the HTTP status, of which
/// the kernel keeps the last byte.
fn code_of(grammar: Grammar, code: i32) -> String {
    const STATUSES: std::ops::Range<i32> = 400..600;
    let status = STATUSES.into_iter().find(|status| status % 256 == code);
    match status {
        Some(status) if grammar == Grammar::Gemini && code > 128 => {
            format!("exit code {code}: HTTP status {status} modulo 256")
        }
        _ => String::new(),
    }
}

/// The outcome of a run that we ended.
pub fn ended_for(ending: &Ending) -> Ended {
    let (state, default_code) = match ending.reason {
        ReasonCode::ManualStop => (OutcomeState::Killed, STOPPED),
        ReasonCode::NoHeartbeatNoMutation => (OutcomeState::NoOp, TIMED_OUT),
        ReasonCode::ForcedFinalization => (OutcomeState::Failed, 1),
        _ => (OutcomeState::Failed, TIMED_OUT),
    };
    Ended {
        state,
        reason: ending.reason,
        exit_code: ending.exit_code.unwrap_or(default_code).to_string(),
        detail: ending.note.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gemini_exits_with_http_statuses() {
        for (code, status) in [(144, 400), (145, 401), (173, 429), (244, 500), (247, 503)] {
            let told = format!("exit code {code}: HTTP status {status} modulo 256");
            assert_eq!(code_of(Grammar::Gemini, code), told);
            assert_eq!(code_of(Grammar::Claude, code), "");
        }
        for code in [1, 41, 55, 128, 130, 143] {
            assert_eq!(code_of(Grammar::Gemini, code), "", "{code}");
        }
    }
}
