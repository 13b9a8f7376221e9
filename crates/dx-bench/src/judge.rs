//! Whether a phase of the progressive benchmark has passed, from what its run says. Must never: look at anything else.

use dx_protocol::{BenchDocument, BenchFault, BenchPhase, BenchPhaseState, ExitCode, ReasonCode};

/// What became of a phase, and what it makes the command end with.
pub(crate) fn judge(begun: BenchPhase, document: &BenchDocument) -> (BenchPhase, ExitCode) {
    let mut phase = begun;
    let summary = document.summary.as_ref();
    if let Some(summary) = summary {
        phase.succeeded = summary.workflows.iter().map(|figures| figures.success.count).sum();
        phase.of = summary.jobs + summary.missing;
    }
    let enough = phase.of > 0 && phase.succeeded as f64 >= phase.minimum * phase.of as f64;
    let gate = document.gates.iter().find(|gate| !gate.passed);
    let (reason, exit, details) = match gate {
        Some(gate) if gate.name.starts_with("preflight") => {
            (gate.reason_code, ExitCode::PreflightFailed, format!("{}: {}", gate.name, gate.details))
        }
        Some(gate) => (gate.reason_code, ExitCode::Error, format!("{}: {}", gate.name, gate.details)),
        None if enough => (ReasonCode::BenchOk, ExitCode::Ok, String::new()),
        None => {
            let reason = ReasonCode::BenchBelowMinimum;
            (reason, reason.exit_code(), format!("{} of {} jobs succeeded", phase.succeeded, phase.of))
        }
    };
    let of_gate = gate.map(|gate| match gate.name.as_str() {
        "baseline" => BenchFault::BaselineGateFailed,
        "integrity" => BenchFault::IntegrityGateFailed,
        _ if gate.reason_code.exit_code() == ExitCode::ModelUnavailable => BenchFault::ModelUnavailable,
        _ => BenchFault::PreflightFailed,
    });
    let failures = summary.iter().flat_map(|summary| &summary.failures);
    let of_jobs = failures.filter(|_| !enough).filter_map(|failure| fault_of(failure.reason_code));
    phase.faults = of_gate.into_iter().chain(of_jobs).collect();
    phase.faults.sort_unstable();
    phase.faults.dedup();
    phase.state = if exit == ExitCode::Ok { BenchPhaseState::Passed } else { BenchPhaseState::Failed };
    phase.reason_code = reason;
    phase.details = details;
    (phase, exit)
}

/// The kind of a job's failure, where it has a name.
fn fault_of(reason: ReasonCode) -> Option<BenchFault> {
    match (reason, reason.exit_code()) {
        (_, ExitCode::ModelUnavailable) => Some(BenchFault::ModelUnavailable),
        (_, ExitCode::Scope) => Some(BenchFault::ScopeDriftFailed),
        (ReasonCode::MaxRuntimeExceeded | ReasonCode::NoMutationTimeout | ReasonCode::ExtendedStall, _)
        | (_, ExitCode::Stalled | ExitCode::NoOp) => Some(BenchFault::StalledRun),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::progressive::{PHASES, blank};
    use dx_protocol::{
        BenchCategory, BenchDocument, BenchFailures, BenchFault, BenchGate, BenchPhaseState, BenchSummary,
        ExitCode, ReasonCode, Usage,
    };
    use serde_json::json;

    fn summary(succeeded: u64, of: u64, failed: &[ReasonCode]) -> BenchSummary {
        let share = json!({"count": succeeded, "of": of, "rate": 0.0, "low": 0.0, "high": 1.0});
        let figures = json!([{"name": "opencode_run_headless", "success": share, "retried": share, "usage": Usage::default()}]);
        let mut summary: BenchSummary = serde_json::from_value(json!({
            "schema": "-", "run_id": "-", "jobs": of, "missing": 0, "workflows": figures,
            "systems": [], "failures": [], "matrix": [], "comparisons": [],
        }))
        .unwrap();
        summary.failures = failed
            .iter()
            .map(|reason_code| BenchFailures {
                workflow: "opencode_run_headless".to_owned(),
                category: BenchCategory::Model,
                reason_code: *reason_code,
                count: 1,
            })
            .collect();
        summary
    }

    /// State, exit code and faults of the third phase.
    fn judged(
        gate: Option<(&str, ReasonCode)>,
        summary: Option<BenchSummary>,
    ) -> (BenchPhaseState, ExitCode, Vec<BenchFault>) {
        let gate = gate.map(|(name, reason_code)| BenchGate {
            name: name.to_owned(),
            passed: false,
            reason_code,
            details: String::new(),
            document: None,
        });
        let document = BenchDocument {
            schema: String::new(),
            run_id: String::new(),
            out: String::new(),
            passed: false,
            reason_code: ReasonCode::BenchOk,
            exit_code: 0,
            next_action: String::new(),
            gates: gate.into_iter().collect(),
            summary,
        };
        let (phase, code) = judge(blank(&PHASES[2], "-"), &document);
        (phase.state, code, phase.faults)
    }

    #[test]
    fn a_phase_is_judged_by_its_gates_and_its_minimum() {
        use BenchFault as F;
        use BenchPhaseState::{Failed, Passed};
        use ReasonCode as R;
        let of_jobs = |succeeded, failed: &[ReasonCode]| judged(None, Some(summary(succeeded, 10, failed)));
        assert_eq!(of_jobs(10, &[]), (Passed, ExitCode::Ok, vec![]));
        assert_eq!(of_jobs(9, &[R::MaxRuntimeExceeded]), (Passed, ExitCode::Ok, vec![]));
        let below = |faults| (Failed, ExitCode::Partial, faults);
        assert_eq!(of_jobs(8, &[R::CheckFailed]), below(vec![]));
        let all = [R::ScopeViolation, R::MaxRuntimeExceeded, R::OpencodeModelUnavailable, R::CheckFailed];
        assert_eq!(of_jobs(0, &all), below(vec![F::ModelUnavailable, F::StalledRun, F::ScopeDriftFailed]));
        // A run of nothing has not passed.
        assert_eq!(judged(None, Some(summary(0, 0, &[]))), below(vec![]));
        let of_gate = |name, reason| judged(Some((name, reason)), None);
        let preflight = |fault| (Failed, ExitCode::PreflightFailed, vec![fault]);
        assert_eq!(of_gate("preflight x", R::OpencodeBinaryMissing), preflight(F::PreflightFailed));
        assert_eq!(of_gate("preflight x", R::OpencodeModelUnavailable), preflight(F::ModelUnavailable));
        let gate = |fault| (Failed, ExitCode::Error, vec![fault]);
        assert_eq!(of_gate("baseline", R::BaselineNotMet), gate(F::BaselineGateFailed));
        // Integrity counts although all jobs succeeded.
        let ended = judged(Some(("integrity", R::ReportedNotAncestor)), Some(summary(10, 10, &[])));
        assert_eq!(ended, gate(F::IntegrityGateFailed));
    }
}
