//! What the records of a run add up to. Must never: put a job that did not succeed into a latency, or the warm-up into
//! anything.

use crate::stats;
use dx_protocol::{
    BenchCell, BenchComparison, BenchFailures, BenchFigures, BenchManifest, BenchRatio, BenchRecord,
    BenchSummary, Usage,
};

const SCHEMA: &str = "dx-runner/bench-summary/1";

/// The figures of a run.
pub(crate) fn summary(manifest: &BenchManifest, records: &[BenchRecord]) -> BenchSummary {
    let measured: Vec<&BenchRecord> = records.iter().filter(|record| record.round > 0).collect();
    let planned = manifest.jobs.iter().filter(|job| job.round > 0).count();
    let names: Vec<&str> = manifest.workflows.iter().map(|workflow| workflow.name.as_str()).collect();
    let mut systems: Vec<&str> = manifest.workflows.iter().map(|w| w.system.as_str()).collect();
    systems.sort_unstable();
    systems.dedup();
    let of = |name: &str, is: fn(&BenchRecord) -> &str| {
        let mine: Vec<&BenchRecord> = measured.iter().copied().filter(|record| is(record) == name).collect();
        figures(name, &mine)
    };
    let workflows: Vec<BenchFigures> = names.iter().map(|name| of(name, |r| &r.workflow)).collect();
    let pairs = names.iter().enumerate().flat_map(|(i, a)| names[i + 1..].iter().map(move |b| (*a, *b)));
    let comparisons = pairs.map(|(a, b)| {
        let success = |name: &str| workflows.iter().find(|figures| figures.name == name).map(|f| f.success);
        BenchComparison {
            a: a.to_owned(),
            b: b.to_owned(),
            completion: paired(&by_workflow(&measured, a), &by_workflow(&measured, b), |record| {
                record.completion_ms
            }),
            success_differs: success(a).zip(success(b)).is_some_and(|(a, b)| stats::shares_differ(&a, &b)),
        }
    });
    BenchSummary {
        schema: SCHEMA.to_owned(),
        run_id: manifest.run_id.clone(),
        jobs: measured.len() as u64,
        missing: (planned.saturating_sub(measured.len())) as u64,
        comparisons: comparisons.collect(),
        systems: systems.iter().map(|name| of(name, |r| &r.system)).collect(),
        failures: failures(&measured, &names),
        matrix: matrix(manifest, &measured),
        workflows,
        failed_gates: Vec::new(),
    }
}

/// That of a run which was refused: nothing but the gates.
pub(crate) fn of_refused(run_id: &str) -> BenchSummary {
    BenchSummary {
        schema: SCHEMA.to_owned(),
        run_id: run_id.to_owned(),
        jobs: 0,
        missing: 0,
        workflows: Vec::new(),
        systems: Vec::new(),
        failures: Vec::new(),
        matrix: Vec::new(),
        comparisons: Vec::new(),
        failed_gates: Vec::new(),
    }
}

pub(crate) fn by_workflow<'a>(records: &[&'a BenchRecord], name: &str) -> Vec<&'a BenchRecord> {
    records.iter().copied().filter(|record| record.workflow == name).collect()
}

/// The ratio of two sets of records over the prompts and rounds in which both succeeded.
pub(crate) fn paired(
    a: &[&BenchRecord],
    b: &[&BenchRecord],
    latency: fn(&BenchRecord) -> Option<u64>,
) -> Option<BenchRatio> {
    let pairs: Vec<(f64, f64)> = a
        .iter()
        .filter_map(|a| {
            let same = |b: &&&BenchRecord| (&b.prompt, b.round) == (&a.prompt, a.round);
            let b = b.iter().find(same)?;
            let both = a.success && b.success;
            both.then(|| Some((latency(a)? as f64, latency(b)? as f64))).flatten()
        })
        .collect();
    stats::ratio(&pairs)
}

/// The latencies of those that succeeded.
pub(crate) fn latencies(records: &[&BenchRecord], latency: fn(&BenchRecord) -> Option<u64>) -> Vec<f64> {
    records.iter().filter(|r| r.success).filter_map(|r| latency(r)).map(|ms| ms as f64).collect()
}

fn figures(name: &str, records: &[&BenchRecord]) -> BenchFigures {
    let count = |is: fn(&BenchRecord) -> bool| records.iter().filter(|record| is(record)).count() as u64;
    let of = records.len() as u64;
    let quantile = |latency, q| stats::quantile(&latencies(records, latency), q);
    let (found, hints) = records
        .iter()
        .fold((0, 0), |(found, all), r| (found + u64::from(r.hints_found), all + u64::from(r.hints_of)));
    BenchFigures {
        name: name.to_owned(),
        success: stats::share(count(|record| record.success), of),
        retried: stats::share(count(|record| record.retries > 0), of),
        startup_p50: quantile(|r| r.startup_ms, 0.5),
        first_output_p50: quantile(|r| r.first_output_ms, 0.5),
        first_output_p95: quantile(|r| r.first_output_ms, 0.95),
        completion_p50: quantile(|r| r.completion_ms, 0.5),
        completion_p95: quantile(|r| r.completion_ms, 0.95),
        usage: records.iter().fold(Usage::default(), |sum, record| sum.plus(record.usage)),
        memory_peak_kib: records.iter().filter_map(|record| record.memory_peak_kib).max(),
        memory_of: count(|record| record.memory_peak_kib.is_some()),
        hint_ratio: (hints > 0).then(|| found as f64 / hints as f64),
        fallbacks: count(|record| record.fallback_model),
    }
}

fn failures(records: &[&BenchRecord], workflows: &[&str]) -> Vec<BenchFailures> {
    let mut all: Vec<BenchFailures> = Vec::new();
    for workflow in workflows {
        let mut mine: Vec<BenchFailures> = Vec::new();
        for failure in by_workflow(records, workflow).iter().filter_map(|record| record.failure.as_ref()) {
            let key = (failure.category, failure.reason_code);
            match mine.iter_mut().find(|row| (row.category, row.reason_code) == key) {
                Some(row) => row.count += 1,
                None => mine.push(BenchFailures {
                    workflow: (*workflow).to_owned(),
                    category: failure.category,
                    reason_code: failure.reason_code,
                    count: 1,
                }),
            }
        }
        mine.sort_by_key(|row| (row.category, row.reason_code.as_str()));
        all.extend(mine);
    }
    all
}

fn matrix(manifest: &BenchManifest, records: &[&BenchRecord]) -> Vec<BenchCell> {
    let cells = manifest.prompts.iter().flat_map(|p| manifest.workflows.iter().map(move |w| (p, w)));
    cells
        .map(|(prompt, workflow)| {
            let mut mine = by_workflow(records, &workflow.name);
            mine.retain(|record| record.prompt == prompt.id);
            let succeeded = mine.iter().filter(|record| record.success).count() as u64;
            let completion = latencies(&mine, |r| r.completion_ms);
            BenchCell {
                prompt: prompt.id.clone(),
                workflow: workflow.name.clone(),
                success: stats::share(succeeded, mine.len() as u64),
                completion_p50_ms: stats::quantile(&completion, 0.5).map(|estimate| estimate.value),
            }
        })
        .collect()
}
