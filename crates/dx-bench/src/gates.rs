//! What must hold before a run begins, and after it. Must never: start a job, or change anything.

use crate::error::BenchError;
use dx_engine::{Engine, PreflightRequest, StatusQuery};
use dx_protocol::{
    BenchGate, BenchManifest, BenchRecord, GateDocument, Level, PreflightDocument, ReasonCode,
};

pub(crate) fn preflight(engine: &Engine, system: &str, model: &str) -> Result<PreflightDocument, BenchError> {
    let provider = system.parse().map_err(|_| BenchError::Argument(format!("`{system}` is no provider")))?;
    Ok(engine.preflight(&PreflightRequest {
        provider: Some(provider),
        model: Some(model.to_owned()).filter(|model| model != "-"),
        allow_model_override: false,
        // Jobs work in repositories of their own.
        worktree: None,
        profile: None,
        live: false,
        strict: false,
    })?)
}

pub(crate) fn preflight_gate(workflow: &str, document: &PreflightDocument) -> BenchGate {
    let failed = document.checks.iter().find(|row| row.level == Level::Error);
    BenchGate {
        name: format!("preflight {workflow}"),
        passed: document.passed,
        reason_code: failed.and_then(|row| row.code).unwrap_or(ReasonCode::BenchOk),
        details: failed.map_or_else(String::new, |row| format!("{}: {}", row.found, row.next_action)),
        document: None,
    }
}

pub(crate) fn gate(name: &str, document: GateDocument) -> BenchGate {
    BenchGate {
        name: name.to_owned(),
        passed: document.report.passed,
        reason_code: document.report.reason_code,
        details: document.report.details.clone(),
        document: Some(document),
    }
}

/// Refuses options whose value would be recorded.
pub(crate) fn without_secrets(options: &[(&str, Option<&str>)]) -> Result<(), BenchError> {
    match options.iter().find(|(_, value)| value.is_some_and(dx_engine::is_masked)) {
        Some((name, _)) => {
            Err(BenchError::Argument(format!("{name} holds a secret, which would be recorded")))
        }
        None => Ok(()),
    }
}

/// Whether the providers have places for all jobs that are begun together, beside the jobs that run now. Those that an earlier
/// call of this run left behind are its own.
pub(crate) fn streams(engine: &Engine, manifest: &BenchManifest) -> Result<BenchGate, BenchError> {
    let rows = engine.providers()?.providers;
    let live = engine.status(&StatusQuery { live_only: true, ..StatusQuery::default() })?.jobs;
    let own = format!("bench-{}-", manifest.run_id);
    let wanted = u64::from(manifest.parallel);
    let lacking = manifest.workflows.iter().find_map(|workflow| {
        let system = &workflow.system;
        let cap = rows.iter().find(|row| row.name == *system)?.cap?;
        let taken = live
            .iter()
            .filter(|job| job.provider == *system && !job.beads.starts_with(&own) && !job.state.is_ended())
            .count() as u64;
        (cap.saturating_sub(taken) < wanted).then(|| {
            format!("{wanted} jobs are to run at once, and {system} has a cap of {cap}, of which {taken} are taken")
        })
    });
    Ok(streams_gate("preflight streams", lacking))
}

/// Whether so many jobs as were to run at once really did, at some moment. Of each job the middle half of its time counts: at
/// its ends it has no place yet, or has given it to the next one while its own check is still run.
pub(crate) fn at_once(records: &[BenchRecord], wanted: u32) -> BenchGate {
    let measured = records.iter().filter(|record| record.round > 0);
    let spans: Vec<(u64, u64)> = measured
        .flat_map(|record| {
            let earlier = record.earlier.iter().map(|attempt| (attempt.began_ms, attempt.ended_ms));
            earlier.chain([(record.began_ms, record.ended_ms)]).filter(|(from, to)| from <= to)
        })
        .collect();
    let middle = |(from, to): (u64, u64)| (from + (to - from) / 4, to - (to - from) / 4);
    let spans: Vec<(u64, u64)> = spans.into_iter().map(middle).collect();
    // Most are on at a moment when one of them begins.
    let on = |moment: u64| spans.iter().filter(|(from, to)| (*from..*to).contains(&moment)).count();
    let most = spans.iter().map(|(from, _)| on(*from)).max().unwrap_or(0);
    let lacking = (most < wanted as usize)
        .then(|| format!("{wanted} jobs were to run at once, and never more than {most} did"));
    streams_gate("streams", lacking)
}

fn streams_gate(name: &str, lacking: Option<String>) -> BenchGate {
    BenchGate {
        name: name.to_owned(),
        passed: lacking.is_none(),
        reason_code: match lacking {
            None => ReasonCode::BenchOk,
            Some(_) => ReasonCode::ProviderConcurrencyCapExceeded,
        },
        details: lacking.unwrap_or_default(),
        document: None,
    }
}

#[cfg(test)]
mod tests {
    use super::at_once;
    use dx_protocol::{BenchRecord, Usage};
    use serde_json::json;

    fn record(began: u64, ended: u64) -> BenchRecord {
        serde_json::from_value(json!({
            "schema": "-", "run_id": "-", "job": "-", "workflow": "-", "system": "-", "prompt": "-", "category": "-",
            "round": 1, "beads": "-", "run_uuid": "-", "started_at": "-", "began_ms": began, "ended_ms": ended,
            "startup_ms": null, "first_output_ms": null, "completion_ms": null, "success": true, "retries": 0,
            "failure": null, "outcome_state": null, "usage": Usage::default(), "check_passed": null,
            "hints_found": 0, "hints_of": 0, "memory_peak_kib": null, "session": null, "model": "-",
            "fallback_model": false, "answer_chars": 0,
        }))
        .unwrap()
    }

    #[test]
    fn jobs_one_after_the_other_are_not_at_once() {
        let together = [record(0, 100), record(10, 90), record(20, 120)];
        assert!(at_once(&together, 3).passed);
        // As seen with one place: the next one begins while the one before is judged.
        let in_turn = [record(5325, 7516), record(7374, 9530), record(9391, 11604)];
        let gate = at_once(&in_turn, 3);
        assert!(!gate.passed && gate.details.ends_with("never more than 1 did"), "{gate:?}");
        assert!(!at_once(&[], 1).passed);
        // The warm-up counts for nothing.
        let warm = BenchRecord { round: 0, ..record(0, 100) };
        assert!(!at_once(&[warm, record(0, 100), record(0, 100)], 3).passed);
    }
}
