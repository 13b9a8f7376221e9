//! `check`: one job, judged, with what it was judged from.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Foreign, Record};
use crate::tell;
use crate::view::{self, View};
use dx_core::WaitKind;
use dx_jobdir::views;
use dx_proc::{Host, clock};
use dx_protocol::{CheckDocument, Explanation, Sandbox, Timestamp, VerdictWords, Wait};
use std::time::Duration;

pub(crate) const CHECK_SCHEMA: &str = "dx-runner/check/1";

impl Engine {
    /// Judges a job. `stall` replaces the recorded stall threshold for this look.
    pub fn check(
        &self,
        job: &JobName,
        stall: Option<Duration>,
        explain: bool,
    ) -> Result<CheckDocument, EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        match lookup::newest(&state, job)? {
            Record::Foreign(foreign) => Ok(foreign_document(&foreign)),
            Record::Ours(mut found) => {
                if let Some(stall) = stall {
                    found.run.created.spec.limits.stall_sec = stall.as_secs();
                }
                let view = View::of(&state, &Host::current()?, &found);
                Ok(CheckDocument { notify_failure: tell::failure(&found.paths), ..document(&view, explain) })
            }
        }
    }
}

/// The document of one of our runs.
pub(crate) fn document(view: &View, explain: bool) -> CheckDocument {
    let created = &view.run.created;
    let outcome = view.outcome.as_ref();
    let sample = view.sample.as_ref();
    let told = outcome.map(|o| &o.usage).or_else(|| sample.map(|s| &s.usage));
    let tokens = |f: fn(&dx_protocol::Usage) -> u64| {
        told.map(f).filter(|_| created.contract.grammar != dx_protocol::Grammar::Text)
    };
    CheckDocument {
        schema: CHECK_SCHEMA.to_owned(),
        beads: created.ids.beads.to_string(),
        provider: created.ids.provider.to_string(),
        state: view.judgement.state,
        reason_code: view.judgement.reason,
        next_action: view.advice(),
        host: created.starter.host.clone(),
        cwd: created.cwd.clone(),
        worktree: created.spec.worktree.clone(),
        run_instance: created.ids.run_instance.clone(),
        selected_model: created.contract.selected_model.clone(),
        fallback_reason: created.contract.fallback_reason.clone(),
        mutation_count: outcome.map_or_else(|| sample.map_or(0, |s| s.mutations), |o| o.work.mutations),
        log_bytes: outcome.map_or_else(|| sample.map_or(0, |s| s.log_bytes), |o| o.log_bytes),
        cpu_time_sec: outcome.map_or_else(|| sample.map_or(0, |s| s.cpu_ms / 1000), |o| o.cpu_time_sec),
        pid_age_sec: outcome.map_or_else(
            || Timestamp(clock::now_ms()).since_ms(view.run.created_at) / 1000,
            |o| o.duration_sec,
        ),
        log_age_sec: view.observation.log_age_ms.filter(|_| !view.ended()).map_or(0, |ms| ms / 1000),
        verdicts: outcome.map_or_else(pending, views::verdict_words),
        sandbox: created.contract.sandbox.clone(),
        ended: view.ended(),
        tokens_in: tokens(|u| u.input_tokens + u.cached_tokens),
        tokens_out: tokens(|u| u.output_tokens),
        cost_usd: told.and_then(|u| u.cost_usd),
        tools: outcome.map(|o| o.tools.clone()).unwrap_or_default(),
        outcome: outcome.cloned(),
        queued_ms: created.queued_ms,
        notify_failure: None,
        explain: explain.then(|| explanation(view)),
    }
}

fn pending() -> VerdictWords {
    let word = || "pending".to_owned();
    VerdictWords { process: word(), provider: word(), work: word(), gates: word(), check: word() }
}

pub(crate) fn explanation(view: &View) -> Explanation {
    let o = &view.observation;
    let sample = view.sample.as_ref();
    let age = |name: &str, ms: Option<u64>| {
        format!(
            "{name}={}",
            ms.map_or_else(|| "never".to_owned(), |ms| format!("{:.1}s", ms as f64 / 1000.0))
        )
    };
    let mut observation = vec![
        format!("settled={}", view.settled),
        format!("ours_alive={}", view.alive.ours),
        format!("agent_alive={}", view.alive.agent),
        format!("process_ended={}", o.process_ended),
        format!("ending={}", o.ending),
        age("elapsed", Some(o.elapsed_ms)),
        age("event_age", o.event_age_ms),
        format!("log_bytes={}", o.log_bytes),
        age("log_age", o.log_age_ms),
        format!("cpu={:.1}s", o.cpu_ms as f64 / 1000.0),
        age("cpu_growth_age", o.cpu_age_ms),
        format!("written_bytes={}", o.written_bytes),
        age("write_growth_age", o.write_age_ms),
        format!("mutations={}", o.mutations),
        age("mutation_age", o.mutation_age_ms),
        format!("wait={}", wait_words(o.wait, sample.and_then(|s| s.wait.as_ref()))),
        format!("startup_grace_sec={}", o.limits.startup_grace_sec),
        format!("no_op_sec={}", o.limits.no_op_sec),
        format!("stall_sec={}", o.limits.stall_sec),
        age("paused", Some(sample.map_or(0, |s| s.paused_ms))),
        age("sample_age", sample.map(|s| clock::monotonic_ms().saturating_sub(s.mono_ms))),
    ];
    if let Some(words) = view.outcome.as_ref().map(views::verdict_words) {
        let VerdictWords { process, provider, work, gates, check } = words;
        observation.push(format!(
            "verdicts=process:{process} provider:{provider} work:{work} gates:{gates} check:{check}"
        ));
    }
    let gates = view.outcome.as_ref().map_or(&view.run.gates, |outcome| &outcome.gates);
    for gate in gates {
        let passed = if gate.report.passed { "passed" } else { "failed" };
        observation.push(format!("gate_{}={passed} {}", gate.name, gate.report.reason_code));
    }
    if view.outcome.is_none() && view.run.created.spec.gates.check.is_some() {
        observation.push(format!("check_due={}", dx_core::check_is_due(&view.run)));
    }
    Explanation { rule: view.judgement.rule.to_owned(), observation }
}

/// What the agent is known to wait for, and how long.
fn wait_words(kind: Option<WaitKind>, told: Option<&Wait>) -> String {
    let seconds = |ms: u64| format!("{:.1}s", ms as f64 / 1000.0);
    let left = |left: Option<i64>| match left {
        Some(left) if left > 0 => format!("{} left", seconds(left.unsigned_abs())),
        Some(left) => format!("over for {}", seconds(left.unsigned_abs())),
        None => "no time told".to_owned(),
    };
    match (kind, told) {
        (None, _) => "none".to_owned(),
        (Some(WaitKind::Tool { for_ms }), Some(Wait::Tool { name, .. })) => {
            format!("tool {name} for {}", seconds(for_ms))
        }
        (Some(WaitKind::Tool { for_ms }), _) => format!("tool for {}", seconds(for_ms)),
        (Some(WaitKind::Retry { left_ms }), _) => format!("retry, {}", left(left_ms)),
        (Some(WaitKind::RateLimit { left_ms }), _) => format!("rate_limit, {}", left(left_ms)),
        (Some(WaitKind::Input { read_ms }), told) => {
            let what = if let Some(Wait::Input { what, .. }) = told { what } else { "a question" };
            format!("input: {what}{}", read_ms.map(|ms| format!(" for {}", seconds(ms))).unwrap_or_default())
        }
    }
}

/// The document of another program's record, with what it tells.
pub(crate) fn foreign_document(foreign: &Foreign) -> CheckDocument {
    let (state, reason_code) = view::foreign_state(foreign.outcome.as_ref());
    let text = |key: &str| {
        let value = foreign.outcome.as_ref().and_then(|o| o.get(key)).or_else(|| foreign.meta.get(key));
        value.cloned().unwrap_or_else(|| "-".to_owned())
    };
    let number = |key: &str| text(key).parse().unwrap_or(0);
    let unknown = || "unknown".to_owned();
    CheckDocument {
        schema: CHECK_SCHEMA.to_owned(),
        beads: foreign.beads.to_string(),
        provider: foreign.provider.to_string(),
        state,
        reason_code,
        next_action: reason_code.advice(state, foreign.beads.as_str()),
        host: text("host"),
        cwd: text("cwd"),
        worktree: text("worktree"),
        run_instance: text("run_instance"),
        selected_model: text("selected_model"),
        fallback_reason: text("fallback_reason"),
        mutation_count: number("mutations"),
        log_bytes: number("log_bytes"),
        cpu_time_sec: number("cpu_time_sec"),
        pid_age_sec: number("duration_sec"),
        log_age_sec: 0,
        verdicts: VerdictWords {
            process: unknown(),
            provider: unknown(),
            work: unknown(),
            gates: unknown(),
            check: unknown(),
        },
        sandbox: Sandbox::default(),
        ended: foreign.outcome.is_some(),
        tokens_in: None,
        tokens_out: None,
        cost_usd: None,
        tools: std::collections::BTreeMap::new(),
        outcome: None,
        queued_ms: None,
        notify_failure: None,
        explain: None,
    }
}
