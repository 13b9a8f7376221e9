//! Whole runs without an agent: records with the latencies and failures that a scripted model of known truth would make,
//! through the same summary and reports as real ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_bench::{Folder, compare, render};
use dx_protocol::{BenchFigures, BenchSummary};
use dx_scripted_model::{Scenario, Step};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Half a second, and on the average 0.8 s more; one of ten fails.
const MODEL: &str = "sleep:0.5+0.8,chance:0.1:500,text:DONE";
const SUCCESS: f64 = 0.9;
const RUNS: u64 = 200;
/// Of 200 at 95 %, fewer than this cover in one of 100,000: 190 less four and a half deviations of 3.1.
const LEAST: u64 = 176;

fn truth(quantile: f64) -> f64 {
    500.0 - 800.0 * (1.0 - quantile).ln()
}

/// Latency of one job in milliseconds, and whether it succeeded.
fn draw(scenario: &Scenario, number: u64) -> (f64, bool) {
    let drawn = scenario.draw(number);
    let [Step::Sleep(pause), end] = drawn.steps() else { panic!("{drawn}") };
    (pause.as_secs_f64() * 1e3, matches!(end, Step::Text(_)))
}

/// The folder of a run of two lanes, of which the second takes `times` as long.
fn run(folder: &Path, seed: u64, rounds: u32, times: f64) -> BenchSummary {
    let lanes = ["opencode_run_headless", "claude_code_headless"];
    let lane = |name: &str| json!({"name": name, "system": "s", "lane": "run", "model": "-"});
    let (mut jobs, mut records) = (Vec::new(), String::new());
    for (which, name) in lanes.iter().enumerate() {
        let scenario: Scenario = format!("seed:{},{MODEL}", seed * 2 + which as u64).parse().unwrap();
        for round in 0..=rounds {
            let job = format!("r{round}-p-{name}");
            jobs.push(json!({"job": job, "workflow": name, "prompt": "p", "round": round}));
            let (latency, success) = draw(&scenario, round.into());
            let latency = (latency * if which == 1 { times } else { 1.0 }).round() as u64;
            let failure =
                json!({"category": "model", "reason_code": "provider_reported_error", "detail": ""});
            let record = json!({
                "schema": "dx-runner/bench-record/1", "run_id": "simulated", "job": job, "workflow": name,
                "system": "s", "prompt": "p", "category": "latency", "round": round, "beads": "b", "run_uuid": "u",
                "started_at": "2026-01-01T00:00:00Z", "began_ms": 0, "ended_ms": latency, "startup_ms": 1,
                "first_output_ms": latency, "completion_ms": latency, "success": success, "retries": 0,
                "failure": if success { Value::Null } else { failure }, "outcome_state": null,
                "usage": dx_protocol::Usage::default(), "check_passed": null, "hints_found": 0, "hints_of": 0,
                "memory_peak_kib": null, "session": null, "model": "-", "fallback_model": false, "answer_chars": 4,
            });
            let _written = writeln!(records, "{record}");
        }
    }
    let manifest = json!({
        "schema": "dx-runner/bench-manifest/1", "run_id": "simulated", "program": "0", "agents": {}, "host": "h",
        "os": "o", "cores": 1, "commit": "-", "prompts_version": 1, "prompts_sha256": "0",
        "workflows": lanes.map(lane), "prompts": [{"id": "p", "category": "latency", "title": "p", "checked": false}],
        "rounds": rounds, "parallel": 1, "max_retries": 0, "timeout_sec": 1, "jobs": jobs,
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(folder.join("records.ndjson"), records).unwrap();
    render(&Folder::find(folder, folder.parent().unwrap()).unwrap()).unwrap()
}

/// In memory where that is possible: thousands of synced files.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn a_part_of_a_run_is_no_ground_for_a_verdict() {
    let (a, b) = (folder(), folder());
    run(a.path(), 1, 20, 1.0);
    run(b.path(), 1, 20, 2.0);
    let compared = || {
        let find = |folder: &Path| Folder::find(folder, folder).unwrap();
        compare(&find(a.path()), &find(b.path())).unwrap()
    };
    let whole = compared();
    assert_eq!((whole.missing_a, whole.missing_b), (0, 0));
    let differs = |number: usize| {
        let document = compared();
        document.workflows[number].completion.map(|ratio| ratio.differs)
    };
    assert_eq!([differs(0), differs(1)], [Some(false), Some(true)]);
    // The last of the slower lane are still running.
    let file = b.path().join("records.ndjson");
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().collect();
    std::fs::write(&file, kept[..kept.len() - 3].join("\n")).unwrap();
    let part = compared();
    assert_eq!((part.missing_a, part.missing_b), (0, 3));
    assert_eq!((part.workflows[1].missing_a, part.workflows[1].missing_b), (0, 3));
    assert_eq!([differs(0), differs(1)], [Some(false), None], "the lane that is whole is judged");
}

fn covers(low: Option<f64>, high: Option<f64>, truth: f64) -> bool {
    low.is_none_or(|low| low <= truth) && high.is_none_or(|high| high >= truth)
}

#[test]
fn intervals_of_whole_runs_cover_the_truth_at_their_level() {
    let folder = folder();
    let (mut covered, mut of) = ([0_u64; 4], 0);
    for seed in 0..RUNS {
        let summary = run(folder.path(), seed, 40, 1.0);
        for figures in &summary.workflows {
            let BenchFigures { success, completion_p50, completion_p95, first_output_p50, .. } = figures;
            let quantile = |estimate: &Option<dx_protocol::BenchEstimate>, q: f64| {
                estimate.is_some_and(|estimate| covers(estimate.low, estimate.high, truth(q)))
            };
            let told = [
                covers(Some(success.low), Some(success.high), SUCCESS),
                quantile(completion_p50, 0.5),
                quantile(completion_p95, 0.95),
                quantile(first_output_p50, 0.5),
            ];
            for (covered, told) in covered.iter_mut().zip(told) {
                *covered += u64::from(told);
            }
        }
        of += summary.workflows.len() as u64;
    }
    assert_eq!(of, 2 * RUNS);
    assert!(covered.iter().all(|covered| *covered >= 2 * LEAST), "{covered:?} of {of}");
}

#[test]
fn runs_tell_equal_lanes_from_a_slower_one() {
    let folder = folder();
    let differ = |times: f64, rounds: u32| {
        let told = (0..100).filter(|seed| {
            let summary = run(folder.path(), 1_000 + seed, rounds, times);
            summary.comparisons[0].completion.is_some_and(|ratio| ratio.differs)
        });
        told.count()
    };
    // 5 are expected; four deviations of 2.2 more are not.
    let equal = differ(1.0, 20);
    assert!(equal <= 14, "{equal} of 100 equal lanes are told apart");
    // The latencies of this model differ by a half among themselves, which takes more jobs than a steady one does.
    let slower = differ(1.2, 400);
    assert!(slower >= 95, "a slower lane is found in {slower} of 100");
}

#[test]
fn pages_say_that_success_differs() {
    let folder = folder();
    run(folder.path(), 1, 30, 1.0);
    let records = folder.path().join("records.ndjson");
    let text = std::fs::read_to_string(&records).unwrap();
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let told = "claude_code_headless succeed differently often";
    assert!(!page("report.html").contains(told) && !page("summary.md").contains(told));
    let fewer = text.lines().enumerate().map(|(number, line)| {
        let fails = line.contains("claude_code_headless") && number % 3 != 0;
        let line =
            if fails { line.replace("\"success\":true", "\"success\":false") } else { line.to_owned() };
        line + "\n"
    });
    std::fs::write(&records, fewer.collect::<String>()).unwrap();
    render(&Folder::find(folder.path(), folder.path()).unwrap()).unwrap();
    assert!(page("report.html").contains(told) && page("summary.md").contains(told));
}
