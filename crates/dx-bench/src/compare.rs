//! Two runs side by side: what changed beyond noise. Must never: compare what was not asked in both, or judge by a part of a run
//! that chance did not choose.

use crate::error::BenchError;
use crate::folder::Folder;
use crate::render::failed;
use crate::stats;
use crate::summary::{by_workflow, paired};
use dx_protocol::{
    BenchCompareDocument, BenchComparedWorkflow, BenchGate, BenchManifest, BenchPlanned, BenchRecord,
};

const SCHEMA: &str = "dx-runner/bench-compare/1";

/// Compares the second run with the first.
pub fn compare(a: &Folder, b: &Folder) -> Result<BenchCompareDocument, BenchError> {
    let load = |folder: &Folder| -> Result<(BenchManifest, Vec<BenchRecord>), BenchError> {
        let manifest = folder.manifest()?.ok_or_else(|| not_run(folder))?;
        let mut records = folder.records()?;
        records.retain(|record| record.round > 0);
        Ok((manifest, records))
    };
    let (failed_a, failed_b) = (failed_gates(a)?, failed_gates(b)?);
    let ((a, records_a), (b, records_b)) = (load(a)?, load(b)?);
    let asked = |manifest: &BenchManifest, id: &str| manifest.prompts.iter().any(|prompt| prompt.id == id);
    let (missing_a, missing_b) = (missing(&a, &records_a, |_| true), missing(&b, &records_b, |_| true));
    let (mut records_a, mut records_b) = (records_a, records_b);
    records_a.retain(|record| asked(&b, &record.prompt));
    records_b.retain(|record| asked(&a, &record.prompt));
    let has = |manifest: &BenchManifest, name: &str| manifest.workflows.iter().any(|w| w.name == name);
    let (all_a, all_b): (Vec<_>, Vec<_>) = (records_a.iter().collect(), records_b.iter().collect());
    let both = a.workflows.iter().filter(|workflow| has(&b, &workflow.name));
    let workflows = both.map(|workflow| {
        let (of_a, of_b) = (by_workflow(&all_a, &workflow.name), by_workflow(&all_b, &workflow.name));
        let success = |records: &[&BenchRecord]| {
            stats::share(records.iter().filter(|r| r.success).count() as u64, records.len() as u64)
        };
        let (success_a, success_b) = (success(&of_a), success(&of_b));
        let in_both = |job: &BenchPlanned| {
            job.workflow == workflow.name && asked(&a, &job.prompt) && asked(&b, &job.prompt)
        };
        let (missing_a, missing_b) = (missing(&a, &records_a, in_both), missing(&b, &records_b, in_both));
        let is_fair = missing_a == 0 && missing_b == 0;
        BenchComparedWorkflow {
            workflow: workflow.name.clone(),
            success_a,
            success_b,
            success_differs: is_fair && stats::shares_differ(&success_a, &success_b),
            success_could_differ: is_fair && stats::shares_could_differ(success_a.of, success_b.of),
            first_output: paired(&of_a, &of_b, |record| record.first_output_ms).filter(|_| is_fair),
            completion: paired(&of_a, &of_b, |record| record.completion_ms).filter(|_| is_fair),
            missing_a,
            missing_b,
            fallbacks_a: fallbacks(&of_a),
            fallbacks_b: fallbacks(&of_b),
        }
    });
    let alone = |one: &BenchManifest, other: &BenchManifest| {
        let names = one.workflows.iter().map(|w| w.name.clone());
        names.filter(|name| !has(other, name)).collect::<Vec<_>>()
    };
    Ok(BenchCompareDocument {
        schema: SCHEMA.to_owned(),
        a: a.run_id.clone(),
        b: b.run_id.clone(),
        workflows: workflows.collect(),
        only_in_one: [alone(&a, &b), alone(&b, &a)].concat(),
        same_prompts: a.prompts_sha256 == b.prompts_sha256,
        missing_a,
        missing_b,
        failed_gates_a: failed_a,
        failed_gates_b: failed_b,
    })
}

/// What a run that ended failed.
fn failed_gates(folder: &Folder) -> Result<Vec<BenchGate>, BenchError> {
    Ok(folder.ending()?.map(|ending| failed(&ending.gates)).unwrap_or_default())
}

fn fallbacks(records: &[&BenchRecord]) -> u64 {
    records.iter().filter(|record| record.fallback_model).count() as u64
}

/// How many of the jobs that are measured have no record.
fn missing(manifest: &BenchManifest, records: &[BenchRecord], of: impl Fn(&BenchPlanned) -> bool) -> u64 {
    let planned = manifest.jobs.iter().filter(|job| job.round > 0 && of(job));
    planned.filter(|job| !records.iter().any(|record| record.job == job.job)).count() as u64
}

/// Why a folder has no plan.
fn not_run(folder: &Folder) -> BenchError {
    let refused = folder.ending().map(|ending| {
        let ending = ending?;
        let gate = ending.gates.into_iter().find(|gate| !gate.passed)?.name;
        Some(BenchError::NotRun { run_id: ending.run_id, gate })
    });
    match refused {
        Ok(found) => found.unwrap_or_else(|| BenchError::NotFound(folder.path().to_owned())),
        Err(error) => error,
    }
}
