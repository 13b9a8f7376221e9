//! `status`: live jobs from one small file each, ended ones from the index. Nothing is written, no tree is walked, no git
//! is asked, and the number of ended records makes no difference to the live part.

use crate::Engine;
use crate::action;
use crate::api::{JobName, StatusQuery};
use crate::error::EngineError;
use crate::lookup;
use crate::view::{self, View};
use dx_core::classify;
use dx_jobdir::claim::{self, Claim};
use dx_jobdir::{StateDir, ended, views};
use dx_monitor::process_of;
use dx_proc::{Host, Liveness, clock};
use dx_protocol::{
    Outcome, OutcomeState, ReasonCode, Sample, State, StatusDocument, StatusRow, Timestamp, elapsed_text,
};
use std::collections::HashSet;
use std::time::Duration;

/// How far back ended jobs are shown by default.
const DEFAULT_SINCE: Duration = Duration::from_hours(24);

impl Engine {
    pub fn status(&self, query: &StatusQuery) -> Result<StatusDocument, EngineError> {
        let now = Timestamp(clock::now_ms());
        let mut document = StatusDocument {
            schema: "dx-runner/status/1".to_owned(),
            generated_at: now.to_string(),
            jobs: Vec::new(),
        };
        let Some(state) = self.state_for_reading()? else {
            return match &query.beads {
                Some(beads) => Err(EngineError::NoJob { beads: beads.to_string(), near: Vec::new() }),
                None => Ok(document),
            };
        };
        let host = Host::current()?;
        let mut shown = HashSet::new();
        let mut rows = Vec::new();
        for claim in claim::claims(&state) {
            if query.beads.as_ref().is_some_and(|b| *b != claim.beads)
                || query.provider.as_ref().is_some_and(|p| *p != claim.provider)
            {
                continue;
            }
            if let Some(row) = live_row(&state, &host, &claim) {
                shown.insert((claim.provider.clone(), claim.beads.clone()));
                rows.push(row);
            }
        }
        if let Some(beads) = &query.beads {
            if rows.is_empty() {
                rows.push(named_row(self, &state, beads, query)?);
            }
        } else if !query.live_only {
            ended_rows(&state, query, now, &mut shown, &mut rows);
            if query.all {
                foreign_rows(self, &state, &mut shown, &mut rows);
            }
        }
        if query.attention {
            rows.retain(|row| {
                // What a person ended needs no person.
                let asked =
                    [ReasonCode::ManualStop, ReasonCode::ForcedFinalization].contains(&row.reason_code);
                matches!(row.state, State::Stalled | State::NoOp | State::ExitedErr | State::Blocked)
                    && !asked
            });
        }
        document.jobs = rows;
        Ok(document)
    }

    /// All jobs that have a claim.
    pub fn live_jobs(&self) -> Result<Vec<JobName>, EngineError> {
        let Some(state) = self.state_for_reading()? else { return Ok(Vec::new()) };
        let name = |c: Claim| JobName { beads: c.beads, provider: Some(c.provider) };
        Ok(claim::claims(&state).into_iter().map(name).collect())
    }
}

/// A live job: one read and one identity check when its monitor lives; its whole record otherwise. `None` when it ended
/// meanwhile (the index has it).
fn live_row(state: &StateDir, host: &Host, claim: &Claim) -> Option<StatusRow> {
    let sample = views::read_sample(&state.view(&claim.provider, &claim.beads, "obs"));
    if let Some(sample) = sample
        && let Some(monitor) = &sample.monitor
        && host.liveness(&process_of(monitor)) == Liveness::Alive
        && let Some(agent) = &sample.agent
        && host.liveness(&process_of(agent)) == Liveness::Alive
    {
        return Some(sampled_row(&sample));
    }
    let found = lookup::read_run(state, &claim.path, true).ok()?;
    Some(row_of(&View::of(state, host, &found)))
}

fn sampled_row(sample: &Sample) -> StatusRow {
    let observation = view::observe(sample, &sample.limits);
    let judgement = classify(&observation);
    let elapsed_ms = observation.elapsed_ms;
    let told = !sample.last_event.is_empty();
    StatusRow {
        beads: sample.ids.beads.to_string(),
        provider: sample.ids.provider.to_string(),
        pid: sample.agent.as_ref().map_or_else(|| "-".to_owned(), |a| a.pid.to_string()),
        state: judgement.state,
        reason_code: judgement.reason,
        elapsed: elapsed_text(elapsed_ms),
        log_bytes: sample.log_bytes,
        mutation_count: sample.mutations,
        retry_count: sample.retries,
        outcome: "-".to_owned(),
        run_instance: sample.ids.run_instance.clone(),
        host: sample.host.clone(),
        cwd: sample.cwd.clone(),
        worktree: sample.worktree.clone(),
        started_at: sample.started_at.to_string(),
        elapsed_sec: elapsed_ms / 1000,
        selected_model: sample.selected_model.clone(),
        sample_age_sec: clock::monotonic_ms().saturating_sub(sample.mono_ms) / 1000,
        ended: false,
        tokens_in: told.then_some(sample.usage.input_tokens + sample.usage.cached_tokens),
        tokens_out: told.then_some(sample.usage.output_tokens),
        cost_usd: sample.usage.cost_usd,
        verdicts: None,
    }
}

/// A run by its whole record.
fn row_of(view: &View) -> StatusRow {
    if let Some(outcome) = &view.outcome {
        return ended_row(outcome);
    }
    let created = &view.run.created;
    let elapsed_ms = Timestamp(clock::now_ms()).since_ms(view.run.created_at);
    let sample = view.sample.as_ref();
    StatusRow {
        beads: created.ids.beads.to_string(),
        provider: created.ids.provider.to_string(),
        pid: action::pid_text(view),
        state: view.judgement.state,
        reason_code: view.judgement.reason,
        elapsed: elapsed_text(elapsed_ms),
        log_bytes: sample.map_or(0, |s| s.log_bytes),
        mutation_count: sample.map_or(0, |s| s.mutations),
        retry_count: created.retries,
        outcome: "-".to_owned(),
        run_instance: created.ids.run_instance.clone(),
        host: created.starter.host.clone(),
        cwd: created.cwd.clone(),
        worktree: created.spec.worktree.clone(),
        started_at: view.run.created_at.to_string(),
        elapsed_sec: elapsed_ms / 1000,
        selected_model: created.contract.selected_model.clone(),
        sample_age_sec: sample.map_or(0, |s| clock::monotonic_ms().saturating_sub(s.mono_ms) / 1000),
        ended: false,
        tokens_in: None,
        tokens_out: None,
        cost_usd: None,
        verdicts: None,
    }
}

fn ended_row(outcome: &Outcome) -> StatusRow {
    let state = match (outcome.blocked, outcome.state) {
        (Some(_), _) => State::Blocked,
        (None, OutcomeState::Success) => State::ExitedOk,
        (None, _) => State::ExitedErr,
    };
    let told = outcome.usage != dx_protocol::Usage::default();
    StatusRow {
        beads: outcome.ids.beads.to_string(),
        provider: outcome.ids.provider.to_string(),
        pid: "-".to_owned(),
        state,
        reason_code: outcome.blocked.unwrap_or(outcome.reason_code),
        elapsed: elapsed_text(outcome.duration_sec * 1000),
        log_bytes: outcome.log_bytes,
        mutation_count: outcome.work.mutations,
        retry_count: outcome.retries,
        outcome: format!("{}:{} ({}s)", outcome.state, outcome.exit_code, outcome.duration_sec),
        run_instance: outcome.ids.run_instance.clone(),
        host: outcome.host.clone(),
        cwd: outcome.cwd.clone(),
        worktree: outcome.worktree.clone(),
        started_at: outcome.started_at.to_string(),
        elapsed_sec: outcome.duration_sec,
        selected_model: outcome.selected_model.clone(),
        sample_age_sec: 0,
        ended: true,
        tokens_in: told.then_some(outcome.usage.input_tokens + outcome.usage.cached_tokens),
        tokens_out: told.then_some(outcome.usage.output_tokens),
        cost_usd: outcome.usage.cost_usd,
        verdicts: Some(views::verdict_words(outcome)),
    }
}

type Shown = HashSet<(dx_protocol::ProviderName, dx_protocol::BeadsId)>;

/// Ended jobs from the index, newest first, each job once.
fn ended_rows(
    state: &StateDir,
    query: &StatusQuery,
    now: Timestamp,
    shown: &mut Shown,
    rows: &mut Vec<StatusRow>,
) {
    let most = query.recent.unwrap_or(usize::MAX);
    let since = match (query.since, query.recent, query.all) {
        (Some(since), _, _) => Some(now.minus_ms(since.as_millis() as i64)),
        (None, Some(_), _) | (None, None, true) => None,
        (None, None, false) => Some(now.minus_ms(DEFAULT_SINCE.as_millis() as i64)),
    };
    if most == 0 {
        return;
    }
    let mut taken = 0;
    ended::newest_first(state, since, &mut |outcome| {
        if query.provider.as_ref().is_some_and(|p| *p != outcome.ids.provider) {
            return true;
        }
        if shown.insert((outcome.ids.provider.clone(), outcome.ids.beads.clone())) {
            rows.push(ended_row(&outcome));
            taken += 1;
        }
        taken < most
    });
}

/// Records of other programs.
fn foreign_rows(engine: &Engine, state: &StateDir, shown: &mut Shown, rows: &mut Vec<StatusRow>) {
    for (provider, beads) in lookup::known(state) {
        if !shown.contains(&(provider.clone(), beads.clone()))
            && let Ok(check) = engine.check(&JobName { beads, provider: Some(provider) }, None, false)
        {
            rows.push(checked_row(&check));
        }
    }
}

/// One named job that has no claim.
fn named_row(
    engine: &Engine,
    state: &StateDir,
    beads: &dx_protocol::BeadsId,
    query: &StatusQuery,
) -> Result<StatusRow, EngineError> {
    let job = JobName { beads: beads.clone(), provider: query.provider.clone() };
    match lookup::newest(state, &job)? {
        lookup::Record::Ours(found) => Ok(row_of(&View::of(state, &Host::current()?, &found))),
        lookup::Record::Foreign(_) => Ok(checked_row(&engine.check(&job, None, false)?)),
    }
}

fn checked_row(check: &dx_protocol::CheckDocument) -> StatusRow {
    StatusRow {
        beads: check.beads.clone(),
        provider: check.provider.clone(),
        pid: "-".to_owned(),
        state: check.state,
        reason_code: check.reason_code,
        elapsed: elapsed_text(check.pid_age_sec * 1000),
        log_bytes: check.log_bytes,
        mutation_count: check.mutation_count,
        retry_count: 0,
        outcome: if check.ended { check.state.to_string() } else { "-".to_owned() },
        run_instance: check.run_instance.clone(),
        host: check.host.clone(),
        cwd: check.cwd.clone(),
        worktree: check.worktree.clone(),
        started_at: "-".to_owned(),
        elapsed_sec: check.pid_age_sec,
        selected_model: check.selected_model.clone(),
        sample_age_sec: 0,
        ended: check.ended,
        tokens_in: None,
        tokens_out: None,
        cost_usd: None,
        verdicts: None,
    }
}
