//! What must hold before a run begins, and after it. Must never: start a job, or change anything.

use crate::error::BenchError;
use dx_engine::{Engine, PreflightRequest};
use dx_protocol::{BenchGate, BenchManifest, GateDocument, Level, PreflightDocument, ReasonCode};

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

/// Whether the caps of the providers let all jobs that are begun together run together.
pub(crate) fn streams(engine: &Engine, manifest: &BenchManifest) -> Result<BenchGate, BenchError> {
    let rows = engine.providers()?.providers;
    let cap = |system: &str| rows.iter().find(|row| row.name == system).and_then(|row| row.cap);
    let wanted = u64::from(manifest.parallel);
    let low = manifest
        .workflows
        .iter()
        .map(|w| &w.system)
        .find(|system| cap(system).is_some_and(|cap| cap < wanted));
    Ok(BenchGate {
        name: "preflight streams".to_owned(),
        passed: low.is_none(),
        reason_code: if low.is_none() {
            ReasonCode::BenchOk
        } else {
            ReasonCode::ProviderConcurrencyCapExceeded
        },
        details: low.map_or_else(String::new, |system| {
            format!(
                "{wanted} jobs are to run at once, and {system} has a cap of {}",
                cap(system).unwrap_or(0)
            )
        }),
        document: None,
    })
}
