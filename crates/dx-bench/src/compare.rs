//! Two runs side by side: what changed beyond noise. Must never: compare what was not asked in both.

use crate::error::BenchError;
use crate::folder::Folder;
use crate::stats;
use crate::summary::{by_workflow, paired};
use dx_protocol::{BenchCompareDocument, BenchComparedWorkflow, BenchManifest, BenchRecord};

const SCHEMA: &str = "dx-runner/bench-compare/1";

/// Compares the second run with the first.
pub fn compare(a: &Folder, b: &Folder) -> Result<BenchCompareDocument, BenchError> {
    let load = |folder: &Folder| -> Result<(BenchManifest, Vec<BenchRecord>), BenchError> {
        let manifest = folder.manifest()?.ok_or_else(|| BenchError::NotFound(folder.path().to_owned()))?;
        let mut records = folder.records()?;
        records.retain(|record| record.round > 0);
        Ok((manifest, records))
    };
    let ((a, records_a), (b, records_b)) = (load(a)?, load(b)?);
    let asked = |manifest: &BenchManifest, id: &str| manifest.prompts.iter().any(|prompt| prompt.id == id);
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
        BenchComparedWorkflow {
            workflow: workflow.name.clone(),
            success_a,
            success_b,
            success_differs: stats::shares_differ(&success_a, &success_b),
            first_output: paired(&of_a, &of_b, |record| record.first_output_ms),
            completion: paired(&of_a, &of_b, |record| record.completion_ms),
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
    })
}
