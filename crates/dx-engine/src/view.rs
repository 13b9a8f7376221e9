//! What a run looks like to a reader: the fold, the newest observation and the liveness of its processes, judged. Reading
//! only: nothing is written, signalled or waited for.

use crate::lookup::Found;
use crate::secrets::Masking;
use crate::steps;
use dx_core::{Judgement, Observation, Run, WaitKind, classify};
use dx_jobdir::{StateDir, views};
use dx_monitor::{Access, process_of};
use dx_proc::{Host, Liveness, clock};
use dx_protocol::{Event, Identity, Limits, Outcome, ReasonCode, Sample, State, Timestamp, Wait};
use std::collections::BTreeMap;

/// Which processes of a run are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alive {
    /// Monitor, launcher, guard, or the starter of a run that has no monitor yet.
    pub(crate) ours: bool,
    pub(crate) agent: bool,
    /// The record is of another host or pid namespace: nothing can be said.
    pub(crate) elsewhere: bool,
    pub(crate) rebooted: bool,
}

pub(crate) fn alive(host: &Host, found: &Found) -> Alive {
    let run = &found.run;
    let starter = (run.monitor.is_none() || run.agent.is_none()).then_some(&run.created.starter);
    let ours = [run.monitor.as_ref(), run.guard.as_ref(), found.exit.launcher.as_ref(), starter];
    look(host, &ours, run.agent.as_ref().or(found.exit.agent.as_ref()))
}

/// Which of these processes are there.
pub(crate) fn look(host: &Host, ours: &[Option<&Identity>], agent: Option<&Identity>) -> Alive {
    let name = dx_proc::hostname();
    let mut alive = Alive { ours: false, agent: false, elsewhere: false, rebooted: false };
    let mut look = |identity: &Identity| {
        // Within one boot the boot id and namespace tell; the host name may change under a running job.
        match host.liveness(&process_of(identity)) {
            Liveness::Alive => true,
            Liveness::Elsewhere => {
                alive.elsewhere = true;
                false
            }
            Liveness::Rebooted => {
                alive.rebooted |= identity.host == name;
                alive.elsewhere |= identity.host != name;
                false
            }
            Liveness::Zombie | Liveness::Gone => false,
        }
    };
    let ours: Vec<bool> = ours.iter().copied().flatten().map(&mut look).collect();
    let agent = agent.is_some_and(&mut look);
    alive.ours = ours.contains(&true);
    alive.agent = agent;
    alive
}

/// Whether a monitor, launcher or guard of this run lives (the starter does not count).
pub(crate) fn alive_ours(found: &Found) -> bool {
    let Ok(host) = Host::current() else { return true };
    [found.run.monitor.as_ref(), found.run.guard.as_ref(), found.exit.launcher.as_ref()]
        .into_iter()
        .flatten()
        .any(|identity| host.liveness(&process_of(identity)) == Liveness::Alive)
}

/// A judged run.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) run: Run,
    pub(crate) alive: Alive,
    pub(crate) sample: Option<Sample>,
    pub(crate) observation: Observation,
    pub(crate) judgement: Judgement,
    /// The outcome, written or, for a run that nobody settles, as settling would write it.
    pub(crate) outcome: Option<Outcome>,
    /// The outcome is on disk.
    pub(crate) settled: bool,
}

impl View {
    pub(crate) fn of(state: &StateDir, host: &Host, found: &Found) -> Self {
        let mut run = found.run.clone();
        // The launcher's word comes before the monitor's record of it: `start` has told this pid already.
        if run.agent.is_none() && found.exit.exec.as_ref().is_some_and(|exec| exec.errno == 0) {
            run.agent.clone_from(&found.exit.agent);
        }
        let ids = &run.created.ids;
        let sample = views::read_sample(&state.view(&ids.provider, &ids.beads, "obs"))
            .filter(|s| s.ids.run_uuid == ids.run_uuid);
        let alive = if run.outcome.is_some() {
            Alive { ours: false, agent: false, elsewhere: false, rebooted: false }
        } else {
            alive(host, found)
        };
        let settled = run.outcome.is_some();
        let abandoned = !settled && !alive.ours && !alive.agent && !alive.elsewhere;
        let outcome = if abandoned {
            preview(&run, found, sample.as_ref(), alive.rebooted)
        } else {
            run.outcome.clone()
        };
        let limits = &run.created.spec.limits;
        let mut observation = match &sample {
            // Without a monitor nobody says when time stood still.
            Some(sample) if !alive.ours => {
                observe_at(sample, limits, clock::monotonic_ms().saturating_sub(sample.paused_ms))
            }
            Some(sample) => observe(sample, limits),
            None => bare(&run, alive.ours),
        };
        observation.blocked = run.blocked;
        observation.outcome = outcome.as_ref().map(|o| (o.state, o.reason_code));
        observation.process_ended = run.end.is_some()
            || found.exit.exit().is_some()
            || (alive.ours && run.agent.is_some() && !alive.agent);
        observation.ending = run.ending.is_some();
        let mut judgement = classify(&observation);
        if alive.elsewhere && outcome.is_none() {
            judgement.reason = ReasonCode::Elsewhere;
        }
        Self { run, alive, sample, observation, judgement, outcome, settled }
    }

    /// What to do next; a run that ended without anybody to settle it says so first.
    pub(crate) fn advice(&self) -> String {
        let id = self.run.created.ids.beads.as_str();
        if self.ended() && !self.settled {
            return format!("dx-runner prune --beads {id} to settle the record");
        }
        let advice = self.judgement.reason.advice(self.judgement.state, id);
        let Some(trouble) = self.outcome.as_ref().and_then(|outcome| outcome.trouble.as_ref()) else {
            return advice;
        };
        let provider = self.run.created.ids.provider.as_str();
        let of_trouble = ReasonCode::of_agent_error(provider, trouble.class).advice(self.judgement.state, id);
        format!("{trouble}: {of_trouble}; {advice}")
    }

    pub(crate) fn ended(&self) -> bool {
        self.outcome.is_some()
    }
}

/// What settling would write, without writing it: git is not asked, nothing is recorded, and the log is parsed only when
/// the end depends on it; otherwise the newest observation tells the usage.
fn preview(run: &Run, found: &Found, sample: Option<&Sample>, rebooted: bool) -> Option<Outcome> {
    let mut run = run.clone();
    let now = Timestamp(clock::now_ms());
    let masking = Masking::again(&run.created, Access::Read);
    for event in closing_events(&run, found, rebooted, &masking, None) {
        let record = dx_protocol::Record {
            at: now,
            mono_ms: clock::monotonic_ms(),
            by: dx_protocol::Writer::Settler,
            event,
        };
        let _applied = run.apply(&record);
    }
    let mut outcome = dx_core::decide(&run)?;
    if let (None, Some(sample)) = (&run.provider, sample) {
        outcome.usage = sample.usage;
    }
    Some(outcome)
}

/// The records that settling an abandoned run adds before its outcome. For a caller that only reads (`writing` is `None`)
/// git is not asked, and the log of a run whose exit nobody saw is not parsed: what the provider says does not count then.
pub(crate) fn closing_events(
    run: &Run,
    found: &Found,
    rebooted: bool,
    masking: &Masking,
    writing: Option<&StateDir>,
) -> Vec<Event> {
    let mut events = Vec::new();
    if run.end.is_none() {
        events.push(process_end(found, rebooted));
    }
    let seen = run.end.as_ref().map_or(found.exit.exit().is_some(), |end| end.exit.is_some());
    let ran = !matches!(events.first(), Some(Event::SpawnFailed { .. })) && run.spawn_error.is_none();
    match writing {
        None if ran && seen && run.provider.is_none() => {
            events.push(Event::Settled(steps::provider(run, found, masking).0));
        }
        Some(state) if ran => {
            steps::run(state, run, found, masking, None, &mut |fact| {
                events.push(Event::Settled(fact));
                true
            });
        }
        _ => {}
    }
    events
}

fn process_end(found: &Found, rebooted: bool) -> Event {
    let exit = found.exit.exit().cloned();
    let failed = found.exit.exec.as_ref().filter(|e| e.errno != 0);
    if let Some(exec) = failed {
        return Event::SpawnFailed { errno: exec.errno, message: exec.why() };
    }
    let ran = found.run.agent.is_some() || found.exit.agent.is_some();
    // After a power cut nobody can say: the records of a running agent are not durable.
    if !ran && exit.is_none() && !rebooted {
        let message = "the start was cut off before the agent ran".to_owned();
        return Event::SpawnFailed { errno: 0, message };
    }
    let unseen = match (&exit, rebooted) {
        (Some(_), _) => None,
        (None, true) => Some(ReasonCode::HostRebooted),
        (None, false) => Some(ReasonCode::LateFinalizeNoRc),
    };
    let rc_file = unseen
        .filter(|reason| *reason == ReasonCode::LateFinalizeNoRc)
        .and_then(|_| dx_monitor::rc_of(&found.rc_file));
    let log_bytes = std::fs::metadata(found.paths.log()).map_or(0, |m| m.len());
    let cpu_ms = exit.as_ref().map_or(0, |e| e.cpu_ms);
    Event::ProcessEnded { exit, unseen, strays: 0, log_bytes, cpu_ms, rc_file }
}

/// An observation for the classification, as of now.
pub(crate) fn observe(sample: &Sample, limits: &Limits) -> Observation {
    observe_at(sample, limits, sample.now(clock::monotonic_ms()))
}

fn observe_at(sample: &Sample, limits: &Limits, now: u64) -> Observation {
    let age = |at: u64| (at != 0).then(|| now.saturating_sub(at));
    let wait = sample.wait.as_ref().map(|wait| match wait {
        Wait::Tool { since_mono_ms, .. } => WaitKind::Tool { for_ms: now.saturating_sub(*since_mono_ms) },
        Wait::Retry { until_mono_ms } => {
            WaitKind::Retry { left_ms: until_mono_ms.map(|until| until.cast_signed() - now.cast_signed()) }
        }
        Wait::RateLimit { until, until_mono_ms } => {
            WaitKind::RateLimit { left_ms: until.map(|until| limit_left(until, *until_mono_ms, now)) }
        }
        Wait::Input { read_since_mono_ms, .. } => {
            WaitKind::Input { read_ms: read_since_mono_ms.map(|since| now.saturating_sub(since)) }
        }
    });
    Observation {
        ending: sample.ending,
        elapsed_ms: now.saturating_sub(sample.started_mono_ms),
        event_age_ms: age(sample.last_event_mono_ms),
        only_started: sample.last_event == "started",
        log_bytes: sample.log_bytes,
        log_age_ms: age(sample.log_mono_ms),
        cpu_ms: sample.cpu_ms,
        cpu_age_ms: age(sample.cpu_grew_mono_ms),
        written_bytes: sample.written_bytes,
        write_age_ms: age(sample.write_grew_mono_ms),
        mutations: sample.mutations,
        mutation_age_ms: age(sample.mutation_mono_ms),
        wait,
        limits: limits.clone(),
        // The outcome and what is seen of processes is not in the sample.
        ..Observation::default()
    }
}

/// What is left of a wait for a limit, negative when it is over. On a machine that slept meanwhile the limit is over, and the
/// agent, which slept as well, waits on: it is over for the agent when it has waited.
fn limit_left(until: Timestamp, until_mono_ms: Option<u64>, now: u64) -> i64 {
    let left = until.0.saturating_sub(clock::now_ms());
    let waited = until_mono_ms.map_or(left, |until| until.cast_signed() - now.cast_signed());
    left.max(waited.min(0))
}

/// Before the first observation. While a monitor lives that could not make one yet, no time has been seen to pass.
fn bare(run: &Run, is_watched: bool) -> Observation {
    let since = clock::monotonic_ms().saturating_sub(run.created_mono_ms);
    Observation {
        elapsed_ms: if is_watched { 0 } else { since },
        limits: run.created.spec.limits.clone(),
        ..Observation::default()
    }
}

/// A state for a foreign record.
pub(crate) fn foreign_state(outcome: Option<&BTreeMap<String, String>>) -> (State, ReasonCode) {
    let Some(outcome) = outcome else { return (State::Missing, ReasonCode::NoMeta) };
    let ok = outcome.get("exit_code").is_some_and(|c| c.trim() == "0")
        && outcome.get("state").is_none_or(|s| s == "success");
    let told = outcome.get("reason_code").and_then(|r| r.parse().ok());
    match (ok, told) {
        (true, told) => (State::ExitedOk, told.unwrap_or(ReasonCode::OutcomeExit0)),
        (false, told) => (State::ExitedErr, told.unwrap_or(ReasonCode::OutcomeExitNonzero)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_passed_while_the_machine_slept_is_over_when_the_agent_has_waited() {
        let hours = |hours: i64| Timestamp(clock::now_ms() + hours * 3_600_000);
        // Not over by the clock on the wall, which all others go by.
        assert!(limit_left(hours(1), Some(5_000), 9_000) > 3_590_000);
        // Slept through: the agent's own timer has 4 s to go, then it is just over.
        assert_eq!(limit_left(hours(-8), Some(9_000), 5_000), 0);
        assert_eq!(limit_left(hours(-8), Some(9_000), 10_000), -1_000);
        assert!(limit_left(hours(-8), None, 10_000) < -3_600_000);
    }
}
