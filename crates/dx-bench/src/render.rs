//! The files of a run that are made from others: `results.json`, `summary.json`, `summary.md`, `report.html`. Must never: need
//! anything but the run's folder, or leave a gate that failed unsaid.

use crate::error::BenchError;
use crate::folder::Folder;
use crate::{html, markdown, summary};
use dx_protocol::{BenchGate, BenchRecord, BenchSummary};
use serde_json::json;

/// Makes everything that is made from plan, records and the gates that failed; of a run that was refused, from these alone.
pub fn render(folder: &Folder) -> Result<BenchSummary, BenchError> {
    let ending = folder.ending()?;
    let failed_gates = ending.as_ref().map_or_else(Vec::new, |document| failed(&document.gates));
    let Some(manifest) = folder.manifest()? else {
        let refused = ending.ok_or_else(|| BenchError::NotFound(folder.path().to_owned()))?;
        let summary = BenchSummary { failed_gates, ..summary::of_refused(&refused.run_id) };
        folder.write_json("summary.json", &summary)?;
        folder.write("summary.md", &markdown::refused(&summary))?;
        folder.write("report.html", &html::refused(&summary))?;
        return Ok(summary);
    };
    let mut records = folder.records()?;
    // In the order of the plan, in whatever order they ended.
    let place = |record: &BenchRecord| manifest.jobs.iter().position(|job| job.job == record.job);
    records.retain(|record| place(record).is_some());
    records.sort_by_key(place);
    let summary = BenchSummary { failed_gates, ..summary::summary(&manifest, &records) };
    folder.write_json("results.json", &json!({"schema": "dx-runner/bench-results/1", "records": records}))?;
    folder.write_json("summary.json", &summary)?;
    folder.write("summary.md", &markdown::page(&manifest, &summary))?;
    folder.write("report.html", &html::page(&manifest, &summary, &records))?;
    Ok(summary)
}

/// Those that did not pass. Their facts are in the governance report.
pub(crate) fn failed(gates: &[BenchGate]) -> Vec<BenchGate> {
    let failed = gates.iter().filter(|gate| !gate.passed);
    failed.map(|gate| BenchGate { document: None, ..gate.clone() }).collect()
}
