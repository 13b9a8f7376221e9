//! `report`: everything about one run of a job. Nothing is written; git is asked, as `diff` asks it, what the worktree
//! looks like now.
//!
//! A run is told from its journal; from its line of the history when its files are gone; from the plain files of another
//! program as they are.

mod diff_stat;
mod timeline;

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Foreign, Found, Record};
use crate::view::View;
use crate::{check, history, secrets};
use dx_jobdir::{StateDir, read_journal, views};
use dx_proc::{Host, clock};
use dx_protocol::{
    CheckDocument, HistoryLine, OutcomeState, ReasonCode, ReportAttempt, ReportDocument, ReportFile,
    ReportRecord, RunUuid, State, Timestamp, Usage, VerdictWords,
};
use std::collections::BTreeMap;

const SCHEMA: &str = "dx-runner/report/1";
/// What nobody knows or nothing is to be said of.
const NONE: &str = "-";

/// Where a run is told.
enum Told {
    /// Its line, when it has ended.
    Line(Box<HistoryLine>),
    Live(Box<ReportAttempt>),
}

impl Engine {
    /// Reports the newest run of a job, or run `number`, counted from 1, the oldest.
    pub fn report(&self, job: &JobName, number: Option<u32>) -> Result<ReportDocument, EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let host = Host::current()?;
        let mut runs: Vec<HistoryLine> = history::runs_of(&state, &job.beads);
        runs.retain(|line| job.provider.as_ref().is_none_or(|p| p.as_str() == line.provider));
        let newest = match lookup::newest(&state, job) {
            Ok(Record::Ours(found)) => Some(*found),
            // Published files of ours whose run is gone: the history knows it better.
            Ok(Record::Foreign(foreign)) if runs.iter().any(|line| foreign.is_run(&line.run_uuid)) => None,
            Ok(Record::Foreign(foreign)) => return foreign_report(&state, &foreign, number),
            // Its files are gone; the history has it.
            Err(EngineError::NoJob { .. }) if !runs.is_empty() => None,
            Err(error) => return Err(error),
        };
        let view = newest.as_ref().map(|found| View::of(&state, &host, found));
        let mut told: Vec<Told> = runs.into_iter().map(|line| Told::Line(Box::new(line))).collect();
        if let Some(view) = &view {
            let uuid = view.run.created.ids.run_uuid.as_str();
            told.retain(|told| told.uuid() != uuid);
            told.push(match &view.outcome {
                Some(outcome) => Told::Line(Box::new(dx_jobdir::history::line_of(outcome))),
                None => Told::Live(Box::new(live_attempt(view))),
            });
            // UUIDv7: by start.
            told.sort_by(|a, b| a.uuid().cmp(b.uuid()));
        }
        let attempts: Vec<ReportAttempt> =
            told.iter().enumerate().map(|(at, told)| told.attempt(at as u64 + 1)).collect();
        let wanted = match number {
            None => told.len(),
            Some(number) => usize::try_from(number).unwrap_or(usize::MAX),
        };
        let Some(chosen) = wanted.checked_sub(1).and_then(|at| told.get(at)) else {
            return Err(no_run(job, wanted, told.len()));
        };
        let uuid = chosen.uuid();
        let mut document = match (&newest, view) {
            (Some(found), Some(view)) if view.run.created.ids.run_uuid.as_str() == uuid => {
                of_run(&view, found, Some(&host))
            }
            _ => earlier(&state, &host, uuid, chosen)?,
        };
        document.run = wanted as u64;
        document.attempts = attempts;
        Ok(document)
    }
}

/// A run that is not the newest, or whose job has no other record.
fn earlier(state: &StateDir, host: &Host, uuid: &str, told: &Told) -> Result<ReportDocument, EngineError> {
    if let Ok(uuid) = uuid.parse::<RunUuid>()
        && let Ok(found) = lookup::read_run(state, &state.run(&uuid).journal(), false)
    {
        return Ok(of_run(&View::of(state, host, &found), &found, None));
    }
    match told {
        Told::Line(line) => Ok(of_line(line)),
        Told::Live(attempt) => {
            Err(EngineError::NoJob { beads: attempt.run_instance.clone(), near: Vec::new() })
        }
    }
}

fn no_run(job: &JobName, run: usize, count: usize) -> EngineError {
    EngineError::NoRun { beads: job.beads.to_string(), run: u32::try_from(run).unwrap_or(u32::MAX), count }
}

impl Foreign {
    fn is_run(&self, uuid: &str) -> bool {
        let told =
            self.outcome.as_ref().and_then(|o| o.get("run_uuid")).or_else(|| self.meta.get("run_uuid"));
        told.is_some_and(|told| told == uuid)
    }
}

impl Told {
    fn uuid(&self) -> &str {
        match self {
            Self::Line(line) => &line.run_uuid,
            Self::Live(attempt) => &attempt.run_uuid,
        }
    }

    fn attempt(&self, run: u64) -> ReportAttempt {
        match self {
            Self::Live(attempt) => ReportAttempt { run, ..(**attempt).clone() },
            Self::Line(line) => ReportAttempt {
                run,
                run_instance: line.run_instance.clone(),
                run_uuid: line.run_uuid.clone(),
                provider: line.provider.clone(),
                state: line.state.clone(),
                reason_code: line.reason_code.clone(),
                exit_code: line.exit_code.clone(),
                selected_model: line.selected_model.clone(),
                started_at: line.started_at.to_string(),
                completed_at: line.completed_at.to_string(),
                duration_sec: line.duration_sec,
                retries: u64::from(line.retries),
            },
        }
    }
}

fn live_attempt(view: &View) -> ReportAttempt {
    let created = &view.run.created;
    ReportAttempt {
        run: 0,
        run_instance: created.ids.run_instance.clone(),
        run_uuid: created.ids.run_uuid.to_string(),
        provider: created.ids.provider.to_string(),
        state: view.judgement.state.to_string(),
        reason_code: view.judgement.reason.to_string(),
        exit_code: NONE.to_owned(),
        selected_model: created.contract.selected_model.clone(),
        started_at: view.run.created_at.to_string(),
        completed_at: NONE.to_owned(),
        duration_sec: Timestamp(clock::now_ms()).since_ms(view.run.created_at) / 1000,
        retries: u64::from(created.retries),
    }
}

/// Lines per file in the worktree as it is now, and how many files the record does not name.
fn stat(view: &View, found: &Found, host: &Host) -> Option<(Vec<ReportFile>, u64)> {
    let created = &view.run.created;
    let tree = created.tree.as_ref()?;
    if let Some(outcome) = &view.outcome {
        return diff_stat::of(tree, found)
            .map(|files| diff_stat::by_record(files, &outcome.work.files_changed));
    }
    // No names are recorded before the end. While the agent lives, its secrets are known from itself; when they cannot be, no
    // name is told.
    let values = secrets::of_agent(host, found);
    if values.is_empty() && !created.spec.env_names.is_empty() {
        return None;
    }
    secrets::also(&values);
    let mut files = diff_stat::of(tree, found)?;
    for file in &mut files {
        file.path = secrets::mask_text(&file.path).into_owned();
    }
    Some((files, 0))
}

/// One of our runs whose journal is there. The worktree is of the newest run only; `host` is given for that one.
fn of_run(view: &View, found: &Found, host: Option<&Host>) -> ReportDocument {
    let stat = host.and_then(|host| stat(view, found, host));
    let (diff_stat, diff_stat_left_out) = stat.map_or((None, 0), |(files, left_out)| (Some(files), left_out));
    let check = check::document(view, false);
    let (run, outcome) = (&view.run, view.outcome.as_ref());
    let created = &run.created;
    let text = |value: Option<String>| value.filter(|v| !v.is_empty()).unwrap_or_else(|| NONE.to_owned());
    let journal = read_journal(&found.journal).ok();
    let usage = outcome.map(|o| o.usage).or_else(|| view.sample.as_ref().map(|s| s.usage));
    ReportDocument {
        started_at: run.created_at.to_string(),
        duration_sec: check.pid_age_sec.to_string(),
        retries: u64::from(created.retries),
        exit_code: text(outcome.map(|o| o.exit_code.clone())),
        outcome_state: text(outcome.map(|o| o.state.to_string())),
        execution_mode: created.contract.execution_mode.clone(),
        provider_switch_from: created.provider_switch_from.clone(),
        completed_at: text(outcome.map(|o| o.completed_at.to_string())),
        commits: outcome.map(|o| o.work.commits.clone()).unwrap_or_default(),
        files_changed: outcome.map(|o| o.work.files_changed.clone()).unwrap_or_default(),
        usage: usage.unwrap_or_default(),
        run_uuid: created.ids.run_uuid.to_string(),
        detail: text(outcome.map(|o| o.detail.clone())),
        strays: outcome.map_or(0, |o| u64::from(o.strays)),
        strays_left: outcome.map_or(0, |o| u64::from(o.strays_left)),
        work: outcome.map(|o| o.work.clone()).filter(|work| work.known),
        gates: outcome.map(|o| o.gates.clone()).unwrap_or_default(),
        diff_stat,
        diff_stat_left_out,
        timeline: journal.as_ref().map(|j| timeline::of(&j.records)).unwrap_or_default(),
        record: ReportRecord {
            source: "journal".to_owned(),
            monitors: u64::from(run.monitors),
            illegal_records: run.illegal as u64,
            skipped_lines: journal.as_ref().map_or(0, |j| j.skipped as u64),
            lost_log_bytes: run.lost_log_bytes,
            settle_error: text(run.settle_error.clone()),
        },
        ..of_check(check)
    }
}

/// A run of which the history alone is left. What it only counts is not told as lists.
fn of_line(line: &HistoryLine) -> ReportDocument {
    let reason = line.reason_code.parse().unwrap_or(ReasonCode::ProcessExit);
    let ok = line.state == OutcomeState::Success.as_str();
    let state = if ok { State::ExitedOk } else { State::ExitedErr };
    ReportDocument {
        schema: SCHEMA.to_owned(),
        generated_at: Timestamp(clock::now_ms()).to_string(),
        beads: line.beads.clone(),
        provider: line.provider.clone(),
        state,
        reason_code: reason,
        started_at: line.started_at.to_string(),
        duration_sec: line.duration_sec.to_string(),
        retries: u64::from(line.retries),
        exit_code: line.exit_code.clone(),
        outcome_state: line.state.clone(),
        selected_model: line.selected_model.clone(),
        fallback_reason: line.fallback_reason.clone(),
        execution_mode: line.execution_mode.clone(),
        host: line.host.clone(),
        cwd: line.cwd.clone(),
        run_instance: line.run_instance.clone(),
        worktree: line.worktree.clone(),
        provider_switch_from: line.provider_switch_from.clone(),
        mutations: line.mutations,
        log_bytes: line.log_bytes,
        cpu_time_sec: line.cpu_time_sec,
        pid_age_sec: line.duration_sec,
        completed_at: line.completed_at.to_string(),
        commits: Vec::new(),
        files_changed: Vec::new(),
        usage: Usage {
            input_tokens: line.input_tokens,
            output_tokens: line.output_tokens,
            cached_tokens: line.cached_tokens,
            cost_usd: line.cost_usd,
        },
        tools: BTreeMap::new(),
        verdicts: VerdictWords {
            process: line.verdict_process.clone(),
            provider: line.verdict_provider.clone(),
            work: line.verdict_work.clone(),
            gates: line.verdict_gates.clone(),
            check: line.verdict_check.clone(),
        },
        attempts: Vec::new(),
        // Its log is gone.
        next_action: NONE.to_owned(),
        run: 0,
        run_uuid: line.run_uuid.clone(),
        ended: true,
        detail: if line.detail.is_empty() { NONE.to_owned() } else { line.detail.clone() },
        strays: u64::from(line.strays),
        strays_left: 0,
        work: None,
        gates: Vec::new(),
        diff_stat: None,
        diff_stat_left_out: 0,
        timeline: Vec::new(),
        record: ReportRecord {
            source: "history".to_owned(),
            settle_error: NONE.to_owned(),
            ..ReportRecord::default()
        },
    }
}

/// Another program's job: `.outcome.<n>` are its earlier runs, `.meta` and `.outcome` the newest.
fn foreign_report(
    state: &StateDir,
    foreign: &Foreign,
    number: Option<u32>,
) -> Result<ReportDocument, EngineError> {
    let earlier = (1u32..)
        .map(|n| views::read(&state.view(&foreign.provider, &foreign.beads, &format!("outcome.{n}"))))
        .map_while(|pairs| pairs.filter(|pairs| !pairs.is_empty()));
    let mut runs: Vec<Foreign> = earlier
        .map(|pairs| Foreign { meta: BTreeMap::new(), outcome: Some(pairs), ..foreign.clone() })
        .collect();
    runs.push(foreign.clone());
    let wanted = number.map_or(runs.len(), |n| n as usize);
    let Some(chosen) = wanted.checked_sub(1).and_then(|at| runs.get(at)) else {
        let job = JobName { beads: foreign.beads.clone(), provider: Some(foreign.provider.clone()) };
        return Err(no_run(&job, wanted, runs.len()));
    };
    let documents: Vec<ReportDocument> = runs.iter().map(of_foreign).collect();
    let attempts = documents.iter().zip(1..).map(|(document, run)| ReportAttempt {
        run,
        run_instance: document.run_instance.clone(),
        run_uuid: NONE.to_owned(),
        provider: document.provider.clone(),
        state: if document.ended { document.outcome_state.clone() } else { document.state.to_string() },
        reason_code: document.reason_code.to_string(),
        exit_code: document.exit_code.clone(),
        selected_model: document.selected_model.clone(),
        started_at: document.started_at.clone(),
        completed_at: document.completed_at.clone(),
        duration_sec: document.pid_age_sec,
        retries: document.retries,
    });
    Ok(ReportDocument { run: wanted as u64, attempts: attempts.collect(), ..of_foreign(chosen) })
}

fn of_foreign(foreign: &Foreign) -> ReportDocument {
    let check = check::foreign_document(foreign);
    let text = |key: &str| {
        let value = foreign.outcome.as_ref().and_then(|o| o.get(key)).or_else(|| foreign.meta.get(key));
        value.filter(|v| !v.is_empty()).cloned().unwrap_or_else(|| NONE.to_owned())
    };
    let number = |key: &str| text(key).parse().unwrap_or(0);
    let outcome = |key: &str| if check.ended { text(key) } else { NONE.to_owned() };
    ReportDocument {
        started_at: text("started_at"),
        duration_sec: outcome("duration_sec"),
        retries: number("retries"),
        exit_code: outcome("exit_code"),
        outcome_state: outcome("state"),
        execution_mode: text("execution_mode"),
        provider_switch_from: text("provider_switch_from"),
        completed_at: outcome("completed_at"),
        usage: Usage {
            input_tokens: number("tokens_in"),
            output_tokens: number("tokens_out"),
            cached_tokens: 0,
            cost_usd: text("cost_usd").parse().ok(),
        },
        detail: outcome("detail"),
        strays: number("strays"),
        ..of_check(check)
    }
}

/// What a check tells of a job; everything else is unknown or empty.
fn of_check(check: CheckDocument) -> ReportDocument {
    let none = || NONE.to_owned();
    ReportDocument {
        schema: SCHEMA.to_owned(),
        generated_at: Timestamp(clock::now_ms()).to_string(),
        started_at: none(),
        duration_sec: none(),
        retries: 0,
        exit_code: none(),
        outcome_state: none(),
        execution_mode: none(),
        provider_switch_from: none(),
        completed_at: none(),
        commits: Vec::new(),
        files_changed: Vec::new(),
        usage: Usage::default(),
        attempts: Vec::new(),
        run: 0,
        run_uuid: none(),
        ended: check.ended,
        detail: none(),
        strays: 0,
        strays_left: 0,
        work: None,
        gates: Vec::new(),
        diff_stat: None,
        diff_stat_left_out: 0,
        timeline: Vec::new(),
        record: ReportRecord {
            source: "foreign".to_owned(),
            settle_error: none(),
            ..ReportRecord::default()
        },
        beads: check.beads,
        provider: check.provider,
        state: check.state,
        reason_code: check.reason_code,
        selected_model: check.selected_model,
        fallback_reason: check.fallback_reason,
        host: check.host,
        cwd: check.cwd,
        run_instance: check.run_instance,
        worktree: check.worktree,
        mutations: check.mutation_count,
        log_bytes: check.log_bytes,
        cpu_time_sec: check.cpu_time_sec,
        pid_age_sec: check.pid_age_sec,
        tools: check.tools,
        verdicts: check.verdicts,
        next_action: check.next_action,
    }
}
