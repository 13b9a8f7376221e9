//! Waiting for the job of an attempt: on a pidfd of its monitor, and a look each second. Settles it when none of its
//! processes is left, ends it when the wave is cancelled or its provider refuses for long.
//!
//! Called by the threads of a coordinator. Must never wait for the dead.

use super::attempt::Ground;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup;
use crate::settle::attend_dead;
use crate::view::View;
use dx_core::WaitKind;
use dx_jobdir::pools::{self, Pool};
use dx_monitor::process_of;
use dx_proc::{Host, PidFd, clock};
use dx_protocol::{ErrorClass, Outcome, ReasonCode, RunIds, Timestamp};
use std::os::fd::AsFd;

/// Without any event the record is looked at this often.
const TICK_MS: u64 = 1_000;
/// After the outcome its views follow within moments.
const PUBLISH_TICK_MS: u64 = 10;
const PUBLISH_PATIENCE_MS: u64 = 2_000;
/// A refusal that passes sooner is waited for.
const LONG_WAIT_MS: i64 = 60_000;
/// A provider that refuses for longer, and whose agent does not say for how long, is asked again after this.
const UNTOLD_MS: i64 = 10 * 60_000;

/// How a job ended.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) outcome: Outcome,
    /// We ended it, because its provider takes nothing before then.
    pub(super) until: Option<Timestamp>,
}

impl Watched {
    /// Why it ended. What we ended nobody stopped by hand.
    pub(super) fn reason(&self) -> ReasonCode {
        let Outcome { reason_code, ids, .. } = &self.outcome;
        match (self.until, reason_code) {
            (Some(_), ReasonCode::ManualStop) => {
                ReasonCode::of_agent_error(ids.provider.as_str(), ErrorClass::RateLimit)
            }
            _ => *reason_code,
        }
    }
}

/// Waits for the end of one run; ends it when its provider takes nothing for long and it `parks`.
pub(super) fn watch(ground: &Ground, ids: &RunIds, parks: bool) -> Result<Watched, EngineError> {
    let host = Host::current()?;
    let journal = ground.state.run(&ids.run_uuid).journal();
    let job = JobName { beads: ids.beads.clone(), provider: Some(ids.provider.clone()) };
    let mut until = None;
    let mut published_by = None;
    loop {
        let claim = ground.state.live(&ids.provider, &ids.beads);
        let claimed = claim.exists();
        // After a power cut only the claim may still name the journal.
        let name = if claimed && !journal.exists() { &claim } else { &journal };
        let found = lookup::read_run(&ground.state, name, claimed)?;
        if found.run.created.ids.run_uuid != ids.run_uuid {
            return Err(dx_jobdir::JournalError::Missing(journal).into());
        }
        let view = View::of(&ground.state, &host, &found);
        if let (Some(outcome), true) = (&view.outcome, view.settled) {
            let now = clock::monotonic_ms();
            let by = *published_by.get_or_insert(now + PUBLISH_PATIENCE_MS);
            if !claimed || now >= by {
                return Ok(Watched { outcome: outcome.clone(), until });
            }
            std::thread::sleep(std::time::Duration::from_millis(PUBLISH_TICK_MS));
            continue;
        }
        if view.ended() {
            // None of its processes is left: nobody else will write its end.
            attend_dead(&ground.state, &host, found)?;
            continue;
        }
        if until.is_none() {
            until = long_wait(&view).filter(|_| parks);
            if let Some(until) = until {
                // Whoever starts next finds it out himself when this cannot be written.
                let pool = Pool::of(&found.run.created);
                let _known = pools::park(&ground.state, &pool, until, Timestamp(clock::now_ms()));
            }
        }
        if ground.is_cancelling() || until.is_some() {
            let _asked = ground.engine.stop(&job, None);
        }
        let monitor = found.run.monitor.as_ref();
        let alive = monitor.and_then(|m| PidFd::open_verified_on(&host, &process_of(m)).ok().flatten());
        let fds: Vec<_> =
            alive.iter().filter(|fd| !fd.is_exited().unwrap_or(true)).map(AsFd::as_fd).collect();
        let _woken = dx_proc::poll::poll(&fds, Some(TICK_MS))?;
    }
}

/// The time before which the provider is asked nothing more, when that is long. From structured errors only: parsers know no
/// other.
fn long_wait(view: &View) -> Option<Timestamp> {
    let left = refused_for(view.observation.wait, view.observation.event_age_ms)?;
    Some(Timestamp(clock::now_ms() + left))
}

/// How long a provider that refuses is left alone; `None`: it is waited for.
fn refused_for(wait: Option<WaitKind>, silent_ms: Option<u64>) -> Option<i64> {
    match wait? {
        WaitKind::RateLimit { left_ms: Some(left) } | WaitKind::Retry { left_ms: Some(left) } => {
            (left >= LONG_WAIT_MS).then_some(left)
        }
        // The agent was told when to come back, and keeps it for itself.
        WaitKind::RateLimit { left_ms: None } => {
            silent_ms.is_some_and(|age| age >= LONG_WAIT_MS.unsigned_abs()).then_some(UNTOLD_MS)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_refusals_are_not_waited_for_and_short_ones_are() {
        let limit = |left_ms| Some(WaitKind::RateLimit { left_ms });
        let retry = |left_ms| Some(WaitKind::Retry { left_ms });
        for (wait, silent_ms, expected) in [
            (limit(Some(60_000)), Some(0), Some(60_000)),
            (limit(Some(59_999)), Some(90_000), None),
            (retry(Some(3_600_000)), Some(5), Some(3_600_000)),
            (limit(None), Some(59_999), None),
            (limit(None), Some(60_000), Some(UNTOLD_MS)),
            (limit(None), None, None),
            (retry(None), Some(90_000), None),
            (Some(WaitKind::Tool { for_ms: 90_000 }), Some(90_000), None),
            (None, Some(90_000), None),
        ] {
            assert_eq!(refused_for(wait, silent_ms), expected, "{wait:?} {silent_ms:?}");
        }
    }
}
