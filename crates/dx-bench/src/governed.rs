//! A governed run: preflight and baseline, then the jobs, then figures and reports whatever became of the jobs, then
//! integrity. Must never: start a job when a gate before it failed, or end without a report once it has begun.

use crate::error::BenchError;
use crate::folder::Folder;
use crate::jobs::{self, Begun};
use crate::prompts::{Prompt, Prompts};
use crate::render::{failed, render};
use crate::servers::Servers;
use crate::{changed, gates, plan, progressive, servers, workflow};
use dx_engine::{Cancel, Engine, mask_text};
use dx_proc::clock;
use dx_protocol::{
    BenchDocument, BenchGate, BenchManifest, BenchPlanned, BenchRecord, BenchSummary, ExitCode, ReasonCode,
    Timestamp,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const MANIFEST_SCHEMA: &str = "dx-runner/bench-manifest/1";
const DOCUMENT_SCHEMA: &str = "dx-runner/bench/1";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    pub workflows: Vec<String>,
    /// `MODEL` for all, `WORKFLOW=MODEL` for one.
    pub models: Vec<String>,
    /// The built-in prompts when `None`.
    pub prompts: Option<PathBuf>,
    /// Only these of them; all when empty.
    pub only: &'static [&'static str],
    pub parallel: u32,
    /// Refuse to run when a provider's cap would keep jobs from running at once.
    pub all_at_once: bool,
    pub rounds: u32,
    pub max_retries: u32,
    pub timeout: Duration,
    /// Commit that HEAD of `repo` must contain.
    pub required_baseline: Option<String>,
    /// Commit that must be on `branch`, HEAD when `None`, when all is done.
    pub reported_commit: Option<String>,
    pub branch: Option<String>,
    /// Where the benchmark was called.
    pub repo: PathBuf,
    pub run_id: Option<String>,
    /// The folder of all runs.
    pub out: PathBuf,
}

/// What happens, for who looks on.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A phase of the progressive benchmark begins.
    Phase(&'a str),
    /// So many jobs are to be run; so many were done by an earlier call.
    Begun {
        run_id: &'a str,
        jobs: usize,
        done: usize,
    },
    Started(&'a BenchPlanned),
    Ended(&'a BenchRecord),
}

struct Prepared {
    manifest: BenchManifest,
    prompts: Vec<Prompt>,
}

/// The plan, without versions of programs: starts nothing, writes nothing, and is the same each time. A run without a name
/// gets its own, the time, only when it begins.
pub fn dry_run(request: &Request) -> Result<BenchManifest, BenchError> {
    let run_id = Some(request.run_id.clone().unwrap_or_else(|| "-".to_owned()));
    Ok(prepare(&Request { run_id, ..request.clone() })?.manifest)
}

/// Runs what is not done yet.
pub fn run(
    engine: &Engine,
    request: &Request,
    cancel: &Cancel,
    told: &(dyn Fn(News<'_>) + Sync),
) -> Result<BenchDocument, BenchError> {
    let Prepared { mut manifest, prompts } = prepare(request)?;
    let run_id = manifest.run_id.clone();
    let folder = Folder::take(request.out.join(&run_id), &run_id)?;
    let mut told_gates = Vec::new();
    for workflow in &manifest.workflows {
        let document = gates::preflight(engine, &workflow.system, &workflow.model)?;
        if let Some(row) = document.checks.iter().find(|row| row.check == "version") {
            manifest.agents.insert(workflow.system.clone(), mask_text(&row.found).into_owned());
        }
        told_gates.push(gates::preflight_gate(&workflow.name, &document));
    }
    // A run that is only rendered again needs no place and no server.
    let records = folder.records()?;
    let is_due = |job: &BenchPlanned| !records.iter().any(|record| record.job == job.job);
    let goes_on = manifest.jobs.iter().any(is_due);
    if request.all_at_once && goes_on {
        told_gates.push(gates::streams(engine, &manifest)?);
    }
    if let Some(required) = &request.required_baseline {
        let document = engine.baseline_gate(&request.repo, required)?;
        told_gates.push(gates::gate("baseline", document));
    }
    if let Some(failed) = told_gates.iter().find(|gate| !gate.passed) {
        let reason = failed.reason_code;
        let exit =
            if failed.name.starts_with("preflight") { ExitCode::PreflightFailed } else { reason.exit_code() };
        return end(&folder, &run_id, told_gates, None, reason, exit);
    }
    let due = |name: &str| manifest.jobs.iter().any(|job| job.workflow == name && is_due(job));
    let needing = manifest.workflows.iter().filter(|workflow| due(&workflow.name));
    let servers = Servers::start(engine, &run_id, needing, &mut told_gates)?;
    if let Some(failed) = told_gates.iter().find(|gate| !gate.passed) {
        let reason = failed.reason_code;
        return end(&folder, &run_id, told_gates, None, reason, ExitCode::PreflightFailed);
    }
    let agents = manifest.agents.clone();
    if let Some(begun) = folder.manifest()? {
        let changes = changed::between(&begun, &manifest);
        if !changes.is_empty() {
            return Err(BenchError::Changed { run_id, changes });
        }
        let now = std::mem::replace(&mut manifest, begun);
        if take_over(&mut manifest, now, goes_on) {
            folder.begin(&manifest)?;
        }
    } else {
        manifest.began_at = Some(Timestamp(clock::now_ms()));
        folder.begin(&manifest)?;
    }
    if goes_on || !is_finished(&folder) {
        folder.go_on()?;
    }
    let begun = Begun {
        engine,
        request,
        manifest: &manifest,
        agents: &agents,
        folder: &folder,
        servers: &servers,
        cancel,
        told,
    };
    let ran = jobs::run(&begun, &prompts);
    drop(servers);
    let summary = render(&folder)?;
    if let Err(error) = ran {
        // One that was interrupted has not ended.
        if !matches!(error, BenchError::Interrupted) {
            end(&folder, &run_id, told_gates, Some(summary), error.reason(), error.exit_code())?;
        }
        return Err(error);
    }
    if let Some(reported) = &request.reported_commit {
        let document = engine.integrity_gate(&request.repo, reported, request.branch.as_deref())?;
        told_gates.push(gates::gate("integrity", document));
    }
    if request.all_at_once {
        told_gates.push(gates::at_once(&folder.records()?, request.parallel));
    }
    let succeeded = summary.workflows.iter().map(|figures| figures.success.count).sum::<u64>();
    let (reason, exit) = match told_gates.iter().find(|gate| !gate.passed) {
        Some(failed) => (failed.reason_code, failed.reason_code.exit_code()),
        None if summary.missing == 0 && succeeded == summary.jobs => (ReasonCode::BenchOk, ExitCode::Ok),
        None if succeeded > 0 => (ReasonCode::BenchPartial, ExitCode::Partial),
        None => (ReasonCode::BenchFailed, ExitCode::Error),
    };
    end(&folder, &run_id, told_gates, Some(summary), reason, exit)
}

/// What a call may add to the run as it was begun: gates, and versions of agents that were updated since. Whether it added
/// anything.
fn take_over(begun: &mut BenchManifest, now: BenchManifest, goes_on: bool) -> bool {
    let before = begun.clone();
    begun.required_baseline = now.required_baseline;
    begun.reported_commit = now.reported_commit;
    begun.branch = now.branch;
    for (system, version) in now.agents.into_iter().filter(|_| goes_on) {
        let first = begun.agents.entry(system.clone()).or_insert_with(|| version.clone());
        if *first == version && !begun.later_agents.contains_key(&system) {
            continue;
        }
        let later = begun.later_agents.entry(system).or_default();
        if later.last() != Some(&version) {
            later.push(version);
        }
    }
    *begun != before
}

fn end(
    folder: &Folder,
    run_id: &str,
    gates: Vec<BenchGate>,
    summary: Option<BenchSummary>,
    reason: ReasonCode,
    exit: ExitCode,
) -> Result<BenchDocument, BenchError> {
    let failed_gates = failed(&gates);
    let summary = summary.map(|summary| BenchSummary { failed_gates, ..summary });
    let document = BenchDocument {
        schema: DOCUMENT_SCHEMA.to_owned(),
        run_id: run_id.to_owned(),
        out: folder.path().display().to_string(),
        passed: exit == ExitCode::Ok,
        reason_code: reason,
        exit_code: exit.code().into(),
        next_action: reason.next_action().to_owned(),
        gates,
        summary,
    };
    // A call that runs nothing takes nothing back of what the run ended with.
    if document.summary.is_some() || !is_finished(folder) {
        folder.end(&document)?;
        render(folder)?;
    }
    Ok(document)
}

/// Whether an earlier call ended with figures. A report that cannot be read is written anew.
fn is_finished(folder: &Folder) -> bool {
    folder.ending().is_ok_and(|document| document.is_some_and(|document| document.summary.is_some()))
}

fn prepare(request: &Request) -> Result<Prepared, BenchError> {
    let wrong = |what: &str| Err(BenchError::Argument(what.to_owned()));
    if request.rounds == 0 || request.parallel == 0 || request.timeout.is_zero() {
        return wrong("--rounds, --parallel and --timeout are at least 1");
    }
    let workflows = workflow::chosen(&request.workflows, &request.models)?;
    if workflows.is_empty() {
        return wrong("--workflows names none");
    }
    let run_id = match &request.run_id {
        Some(id) => id.clone(),
        None => Timestamp(clock::now_ms()).compact(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let reserved = run_id == progressive::FOLDER;
    if run_id.is_empty() || reserved || run_id.len() > 40 || !run_id.chars().all(plain) {
        return wrong("--run-id has up to 40 of letters, digits, - and _, and is not `progressive`");
    }
    gates::without_secrets(&[
        ("--run-id", Some(&run_id)),
        ("--required-baseline", request.required_baseline.as_deref()),
        ("--reported-commit", request.reported_commit.as_deref()),
        ("--branch", request.branch.as_deref()),
    ])?;
    let (mut prompts, text) = Prompts::load(request.prompts.as_deref())?;
    prompts.prompts.retain(|prompt| request.only.is_empty() || request.only.contains(&prompt.id.as_str()));
    let rows: Vec<_> = prompts.prompts.iter().map(Prompt::row).collect();
    let kernel = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    let manifest = BenchManifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        run_id,
        began_at: None,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        agents: BTreeMap::new(),
        host: kernel("hostname"),
        os: format!("{} {}", kernel("ostype"), kernel("osrelease")),
        cores: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        commit: dx_engine::head_of(&request.repo).unwrap_or_else(|| "-".to_owned()),
        prompts_version: prompts.version,
        prompts_sha256: dx_engine::sha256_hex(text.as_bytes()),
        opencode_url: servers::given_host(&workflows),
        jobs: plan::jobs(&workflows, &rows, request.rounds),
        workflows,
        prompts: rows,
        rounds: request.rounds,
        parallel: request.parallel,
        max_retries: request.max_retries,
        timeout_sec: request.timeout.as_secs(),
        required_baseline: request.required_baseline.clone(),
        reported_commit: request.reported_commit.clone(),
        branch: request.branch.clone(),
        later_agents: BTreeMap::new(),
    };
    Ok(Prepared { manifest, prompts: prompts.prompts })
}

#[cfg(test)]
mod tests {
    use super::{end, take_over};
    use crate::folder::Folder;
    use dx_protocol::{BenchManifest, BenchSummary, ExitCode, ReasonCode};
    use serde_json::json;

    #[test]
    fn a_refused_call_leaves_the_report_of_a_finished_run() {
        let out = tempfile::tempdir().unwrap();
        let folder = Folder::take(out.path().join("r"), "r").unwrap();
        let report = || std::fs::read_to_string(folder.file("governance_report.json")).unwrap();
        let refused = |reason: ReasonCode| {
            let told = end(&folder, "r", Vec::new(), None, reason, reason.exit_code()).unwrap();
            assert_eq!((told.passed, told.reason_code), (false, reason), "the call itself is told of");
        };
        // Before it has run, the last refusal is what there is to tell.
        refused(ReasonCode::RequiredCommitMissing);
        refused(ReasonCode::BaselineNotMet);
        assert!(report().contains("baseline_not_met"));
        let summary: BenchSummary = serde_json::from_value(json!({
            "schema": "-", "run_id": "r", "jobs": 0, "missing": 0, "workflows": [],
            "systems": [], "failures": [], "matrix": [], "comparisons": [],
        }))
        .unwrap();
        end(&folder, "r", Vec::new(), Some(summary), ReasonCode::BenchOk, ExitCode::Ok).unwrap();
        let finished = report();
        assert!(finished.contains("bench_ok"));
        refused(ReasonCode::BaselineNotMet);
        assert_eq!(report(), finished);
    }
    #[test]
    fn every_version_that_a_run_went_on_with_is_named() {
        let of = |version: &str| -> BenchManifest {
            serde_json::from_value(json!({
                "schema": "-", "run_id": "r", "program": "1", "agents": {"codex": version}, "host": "h", "os": "o",
                "cores": 1, "commit": "-", "prompts_version": 1, "prompts_sha256": "0", "workflows": [], "prompts": [],
                "rounds": 1, "parallel": 1, "max_retries": 0, "timeout_sec": 1, "jobs": [],
            }))
            .unwrap()
        };
        let mut begun = of("1");
        assert!(!take_over(&mut begun, of("1"), true));
        assert!(!take_over(&mut begun, of("2"), false), "nothing ran on it");
        for version in ["2", "2", "1"] {
            take_over(&mut begun, of(version), true);
        }
        assert_eq!((&*begun.agents["codex"], &*begun.later_agents["codex"].join(" ")), ("1", "2 1"));
    }
}
