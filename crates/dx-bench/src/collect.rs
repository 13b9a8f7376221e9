//! A job's record, from what was seen of it and what its own journal says. Must never: call a job a success that dx-runner
//! does not, or that said nothing.

use crate::error::BenchError;
use crate::job::{Ground, Task};
use dx_engine::{Engine, EngineError, JobName, mask_text};
use dx_proc::clock;
use dx_protocol::{
    AgentEvent, BenchAttempt, BenchCategory, BenchFailure, BenchRecord, ErrorClass, Event, ExitCode,
    GATE_CHECK, GateReport, Outcome, OutcomeState, ProviderVerdict, ReasonCode, Record, Timestamp, Usage,
};

pub(crate) const RECORD_SCHEMA: &str = "dx-runner/bench-record/1";

/// What was seen of an attempt from outside. Moments are of CLOCK_MONOTONIC, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) retries: u32,
    /// Since the run's begin.
    pub(crate) began_ms: u64,
    pub(crate) ended_ms: u64,
    /// `None` when an earlier process of the benchmark started it.
    pub(crate) called: Option<u64>,
    pub(crate) first: Option<u64>,
    pub(crate) gone: Option<u64>,
    pub(crate) memory_kib: u64,
}

fn blank(ground: &Ground<'_>, task: &Task<'_>, seen: &Seen) -> BenchRecord {
    BenchRecord {
        schema: RECORD_SCHEMA.to_owned(),
        run_id: ground.run_id.to_owned(),
        job: task.planned.job.clone(),
        workflow: task.workflow.name.clone(),
        system: task.workflow.system.clone(),
        prompt: task.prompt.id.clone(),
        category: task.prompt.category.clone(),
        round: task.planned.round,
        beads: "-".to_owned(),
        run_uuid: "-".to_owned(),
        started_at: Timestamp(clock::now_ms()).to_string(),
        began_ms: seen.began_ms,
        ended_ms: seen.ended_ms.max(seen.began_ms),
        startup_ms: None,
        first_output_ms: None,
        completion_ms: None,
        success: false,
        retries: seen.retries,
        failure: None,
        outcome_state: None,
        usage: Usage::default(),
        earlier: Vec::new(),
        check_passed: None,
        hints_found: 0,
        hints_of: task.prompt.success_hints.len() as u32,
        memory_peak_kib: None,
        session: None,
        model: task.workflow.model.clone(),
        fallback_model: false,
        agent: seen.called.and_then(|_| ground.agents.get(&task.workflow.system).cloned()),
        answer_chars: 0,
    }
}

/// Whether an earlier call of the benchmark, which was killed, began the job: then it is that job which counts. One that was
/// ended because its benchmark was interrupted is begun again.
pub(crate) fn is_taken_up(engine: &Engine, name: &JobName) -> Result<bool, BenchError> {
    let Ok((path, _, _)) = engine.journal_file(name) else { return Ok(false) };
    let records = dx_jobdir::read_journal(&path).map_err(EngineError::from)?.records;
    Ok(!records.iter().any(|record| {
        matches!(&record.event, Event::Ended(outcome) if outcome.reason_code == ReasonCode::ManualStop)
    }))
}

/// A job that was not started.
pub(crate) fn refused(ground: &Ground<'_>, task: &Task<'_>, seen: &Seen, error: &EngineError) -> BenchRecord {
    let category = match error.exit_code() {
        ExitCode::ModelUnavailable => BenchCategory::Model,
        ExitCode::PreflightFailed
        | ExitCode::AuthFailed
        | ExitCode::TokenFile
        | ExitCode::LaneUnavailable
        | ExitCode::ProviderNotFound => BenchCategory::Env,
        _ => BenchCategory::Harness,
    };
    let detail = mask_text(&error.to_string()).into_owned();
    let failure = Some(BenchFailure { category, reason_code: error.reason(), detail });
    BenchRecord { failure, ..blank(ground, task, seen) }
}

/// A job that has ended.
pub(crate) fn record(
    ground: &Ground<'_>,
    task: &Task<'_>,
    name: &JobName,
    seen: &Seen,
    answer: &str,
) -> Result<BenchRecord, BenchError> {
    let (path, ids, _) = ground.engine.journal_file(name)?;
    let journal = dx_jobdir::read_journal(&path).map_err(EngineError::from)?;
    let records = &journal.records;
    let outcome = records.iter().rev().find_map(|record| match &record.event {
        Event::Ended(outcome) => Some(outcome.as_ref()),
        _ => None,
    });
    let moment = |wanted: fn(&Event) -> bool| records.iter().find(|r| wanted(&r.event)).map(|r| r.mono_ms);
    let called = seen.called.or_else(|| moment(|event| matches!(event, Event::Created(_))));
    let since = |moment: Option<u64>| Some(moment?.saturating_sub(called?));
    let gone = seen.gone.or_else(|| moment(|event| matches!(event, Event::ProcessEnded { .. })));
    let told = answer.to_lowercase();
    let found = task.prompt.success_hints.iter().filter(|hint| told.contains(&hint.to_lowercase())).count();
    let failure = failure(outcome, task, answer, records);
    let model = outcome.map(|o| o.selected_model.clone()).filter(|model| !model.is_empty() && model != "-");
    let asked = &task.workflow.model;
    let mut record = BenchRecord {
        beads: ids.beads.to_string(),
        run_uuid: ids.run_uuid.to_string(),
        startup_ms: since(moment(|event| matches!(event, Event::AgentStarted { .. }))),
        first_output_ms: since(seen.first),
        completion_ms: since(gone),
        success: failure.is_none(),
        failure,
        check_passed: outcome.and_then(check),
        hints_found: found as u32,
        memory_peak_kib: Some(seen.memory_kib).filter(|kib| *kib > 0),
        session: session(records),
        fallback_model: outcome
            .is_some_and(|outcome| is_fallback(&outcome.selected_model, &outcome.fallback_reason, asked)),
        answer_chars: answer.trim().chars().count() as u64,
        ..blank(ground, task, seen)
    };
    if let Some(outcome) = outcome {
        record.started_at = outcome.started_at.to_string();
        record.outcome_state = Some(outcome.state);
        record.usage = outcome.usage;
    }
    if seen.called.is_none() {
        // Taken up: it began, and may have ended, before this process looked at it.
        let at = |wanted: fn(&Event) -> bool| {
            records.iter().find(|r| wanted(&r.event)).map(|r| ground.clock.at(r.at))
        };
        record.began_ms = at(|event| matches!(event, Event::Created(_))).unwrap_or(record.began_ms);
        record.ended_ms = at(|event| matches!(event, Event::Ended(_))).unwrap_or(record.ended_ms);
        record.ended_ms = record.ended_ms.max(record.began_ms);
    }
    if let Some(model) = model {
        record.model = model;
    }
    Ok(record)
}

/// The job with the attempts before it: what they took belongs to what the job took.
pub(crate) fn with_earlier(mut record: BenchRecord, earlier: Vec<BenchAttempt>) -> BenchRecord {
    record.usage = earlier.iter().fold(record.usage, |sum, attempt| sum.plus(attempt.usage));
    record.earlier = earlier;
    record
}

/// Whether it ran on another model than the one asked for, or, as the engine says, than the provider's preferred one.
fn is_fallback(ran_on: &str, reason: &str, asked: &str) -> bool {
    let another = asked != "-" && !["", "-", asked].contains(&ran_on);
    another || !["", "-", "none"].contains(&reason)
}

/// The verdict of the prompt's check. A program that its shell does not find or may not run (126, 127) is as a rule the answer,
/// or one that the answer calls: nobody can tell it from one that this machine lacks, so that it is no excuse.
fn check_report(outcome: &Outcome) -> Option<(ReasonCode, &GateReport)> {
    let report = &outcome.gates.iter().find(|gate| gate.name == GATE_CHECK)?.report;
    let not_found = report.reason_code == ReasonCode::CheckInfra && report.check_exit.is_some();
    Some((if not_found { ReasonCode::CheckFailed } else { report.reason_code }, report))
}

fn check(outcome: &Outcome) -> Option<bool> {
    let (reason, report) = check_report(outcome)?;
    let said_nothing = [ReasonCode::CheckNotRun, ReasonCode::CheckInfra].contains(&reason);
    (!said_nothing).then_some(report.passed)
}

fn session(records: &[Record]) -> Option<String> {
    records.iter().find_map(|record| match &record.event {
        Event::Agent { event: AgentEvent::Started { session, .. }, .. } => session.clone(),
        _ => None,
    })
}

/// Why a job is no success; `None` when it is one.
fn failure(
    outcome: Option<&Outcome>,
    task: &Task<'_>,
    answer: &str,
    records: &[Record],
) -> Option<BenchFailure> {
    let told = |category, reason_code, detail: &str| {
        Some(BenchFailure { category, reason_code, detail: mask_text(detail).into_owned() })
    };
    let Some(outcome) = outcome else {
        return told(BenchCategory::Harness, ReasonCode::RecordUnreadable, "the job has no outcome");
    };
    let worked = records.iter().any(|record| {
        matches!(record.event, Event::Agent { event: AgentEvent::ToolFinished { ok: true, .. }, .. })
    });
    if outcome.state == OutcomeState::Success {
        // A prompt with a check is answered by what was done; any other by what was said.
        let silent = answer.trim().is_empty() && !(worked && task.prompt.check.is_some());
        return if silent { told(BenchCategory::Model, ReasonCode::EmptyAnswer, "") } else { None };
    }
    if outcome.reason_code == ReasonCode::CheckInfra
        && let Some((reason @ ReasonCode::CheckFailed, report)) = check_report(outcome)
    {
        return told(BenchCategory::Model, reason, &report.details);
    }
    told(category(outcome), outcome.reason_code, &outcome.detail)
}

fn category(outcome: &Outcome) -> BenchCategory {
    match &outcome.provider_verdict {
        ProviderVerdict::Failed { class, .. } => match class {
            ErrorClass::Auth
            | ErrorClass::AuthMissing
            | ErrorClass::AgentMissing
            | ErrorClass::UntrustedDirectory
            | ErrorClass::Network => return BenchCategory::Env,
            ErrorClass::Aborted => {}
            _ => return BenchCategory::Model,
        },
        ProviderVerdict::Refused { .. } => return BenchCategory::Model,
        _ => {}
    }
    match outcome.reason_code {
        ReasonCode::ManualStop
        | ReasonCode::ForcedFinalization
        | ReasonCode::CheckInterrupted
        | ReasonCode::GateUnanswered => BenchCategory::Harness,
        ReasonCode::HostRebooted | ReasonCode::SpawnFailed | ReasonCode::CheckInfra => BenchCategory::Env,
        // Nobody saw its end.
        _ if outcome.exit.is_none() => BenchCategory::Harness,
        // Output without end, as limits of time, says something of who wrote it.
        ReasonCode::OutputFlood | ReasonCode::ExtendedStall | ReasonCode::NoMutationTimeout => {
            BenchCategory::Model
        }
        // Limits of time, and checks that failed.
        _ if outcome.exit_code == "0" || outcome.exit_code == "124" => BenchCategory::Model,
        // The agent's program failed without a word of its model.
        _ => BenchCategory::Env,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_fallback, with_earlier};
    use dx_protocol::{BenchAttempt, BenchRecord, Usage};
    use serde_json::json;

    #[test]
    fn another_model_is_told_whether_or_not_one_was_asked_for() {
        let unlisted = "preferred a/1 is not listed on this host";
        assert!(is_fallback("b/1", unlisted, "-"), "nobody named one");
        assert!(is_fallback("b/1", unlisted, "a/1") && is_fallback("b/1", "none", "a/1"));
        assert!(!is_fallback("a/1", "none", "a/1") && !is_fallback("a/1", "none", "-"));
        assert!(!is_fallback("-", "-", "a/1") && !is_fallback("", "", "-"));
    }

    #[test]
    fn what_failed_attempts_took_is_in_the_job() {
        let usage = Usage { input_tokens: 3, output_tokens: 10, cached_tokens: 0, cost_usd: Some(0.01) };
        let last: BenchRecord = serde_json::from_value(json!({
            "schema": "-", "run_id": "-", "job": "-", "workflow": "-", "system": "-", "prompt": "-", "category": "-",
            "round": 1, "beads": "-", "run_uuid": "-", "started_at": "-", "began_ms": 20, "ended_ms": 30,
            "startup_ms": null, "first_output_ms": null, "completion_ms": 10, "success": true, "retries": 2,
            "failure": null, "outcome_state": null, "usage": usage, "check_passed": null,
            "hints_found": 0, "hints_of": 0, "memory_peak_kib": null, "session": null, "model": "-",
            "fallback_model": false, "answer_chars": 0,
        }))
        .unwrap();
        let failed = |began_ms| BenchAttempt { began_ms, ended_ms: began_ms + 9, usage, failure: None };
        let record = with_earlier(last, vec![failed(0), failed(10)]);
        assert_eq!((record.usage.output_tokens, record.usage.input_tokens), (30, 9));
        assert!((record.usage.cost_usd.unwrap() - 0.03).abs() < 1e-9);
        assert_eq!((record.earlier.len(), record.began_ms, record.completion_ms), (2, 20, Some(10)));
    }
}
