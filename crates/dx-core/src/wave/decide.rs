//! What is to be done next in a wave. Pure: the same wave at the same time gives the same steps, so that a coordinator that
//! takes over goes on where the last one was.

use super::fold::{Item, Phase, Wave};
use dx_protocol::{AttemptVerdict, ItemState, ProviderName, ReasonCode, ReviewVerdict, Timestamp};

/// A review whose verdict nobody can read is asked for once more.
const REVIEW_ROUNDS: u32 = 2;

/// One thing to do; items by position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Attempt { item: usize, number: u32, provider: ProviderName },
    Review { item: usize, round: u32 },
    Close { item: usize, state: ItemState, reason: ReasonCode, message: String },
}

/// What can be done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Next {
    pub steps: Vec<Step>,
    /// Something waits for this time: every provider it could use is parked.
    pub wait_until: Option<Timestamp>,
    /// All items are closed.
    pub finished: bool,
}

/// The steps that can be taken now, closings first: one of them may allow more, so that the caller asks again.
pub fn next_steps(wave: &Wave, now: Timestamp) -> Next {
    let mut next = Next::default();
    let mut wanting = Vec::new();
    for (at, item) in wave.items.iter().enumerate() {
        match want(wave, item, now) {
            Want::Nothing => {}
            Want::Wait(until) => {
                next.wait_until = Some(next.wait_until.map_or(until, |known| known.min(until)));
            }
            Want::Close(state, reason, message) => {
                next.steps.push(Step::Close { item: at, state, reason, message });
            }
            Want::Review(round) => wanting.push((0, at, Step::Review { item: at, round })),
            Want::Attempt(provider) => {
                let number = item.attempts.len() as u32 + 1;
                wanting.push((
                    1 + usize::from(number == 1),
                    at,
                    Step::Attempt { item: at, number, provider },
                ));
            }
        }
    }
    next.finished = wave.items.iter().all(|item| matches!(item.phase, Phase::Closed(_)));
    if !next.steps.is_empty() {
        return next;
    }
    // What is begun is brought to an end before anything new.
    wanting.sort_by_key(|(rank, at, _)| (*rank, *at));
    let free = (wave.created.plan.max_parallel as usize).saturating_sub(wave.in_flight());
    next.steps = wanting.into_iter().take(free).map(|(_, _, step)| step).collect();
    next
}

/// An item's state as it is published; that a job's check is at work only a look at the job can tell. A revision is one that
/// follows: not when the item is about to be closed.
pub fn state_of(wave: &Wave, item: &Item) -> ItemState {
    let follows = || matches!(want(wave, item, Timestamp(0)), Want::Attempt(_) | Want::Wait(_));
    let is_given_up = || matches!(want(wave, item, Timestamp(0)), Want::Close(ItemState::Cancelled, ..));
    match item.phase {
        Phase::Closed(state) => state,
        Phase::Attempt => ItemState::Running,
        Phase::Waiting => ItemState::Pending,
        Phase::Judged(_) | Phase::Reviewed(_) if item.attempts.is_empty() => ItemState::Pending,
        // All that can be waited for with nothing to mend is who reviews it.
        Phase::Judged(AttemptVerdict::Passed) | Phase::Reviewed(None) if follows() => ItemState::Reviewing,
        Phase::Judged(_) | Phase::Reviewed(_) if follows() => ItemState::Revision,
        Phase::Judged(_) | Phase::Reviewed(_) if is_given_up() => ItemState::Cancelled,
        Phase::Judged(_) => ItemState::Checking,
        Phase::Review | Phase::Reviewed(_) => ItemState::Reviewing,
    }
}

enum Want {
    Nothing,
    Wait(Timestamp),
    Attempt(ProviderName),
    Review(u32),
    Close(ItemState, ReasonCode, String),
}

fn want(wave: &Wave, item: &Item, now: Timestamp) -> Want {
    let cancelled = || Want::Close(ItemState::Cancelled, ReasonCode::ManualStop, String::new());
    let last = || item.reason.unwrap_or(ReasonCode::Internal);
    match item.phase {
        Phase::Closed(_) | Phase::Attempt | Phase::Review => Want::Nothing,
        Phase::Judged(AttemptVerdict::Cancelled) => cancelled(),
        Phase::Judged(AttemptVerdict::Passed) if item.plan.review.is_none() => {
            Want::Close(ItemState::Done, last(), String::new())
        }
        Phase::Reviewed(Some(ReviewVerdict::Approved)) => {
            Want::Close(ItemState::Done, ReasonCode::ReviewApproved, String::new())
        }
        _ if wave.cancelling => cancelled(),
        Phase::Judged(AttemptVerdict::Passed) => review(wave, item, now),
        Phase::Judged(AttemptVerdict::Failed) => {
            Want::Close(ItemState::Blocked, last(), item.message.clone())
        }
        Phase::Reviewed(Some(ReviewVerdict::Blocked)) => {
            Want::Close(ItemState::Blocked, ReasonCode::ReviewBlocked, item.findings.join("; "))
        }
        Phase::Reviewed(None) if item.review_round - item.reviews_parked < REVIEW_ROUNDS => {
            review(wave, item, now)
        }
        Phase::Reviewed(None) => Want::Close(
            ItemState::Blocked,
            ReasonCode::ReviewUnreadable,
            match item.findings.as_slice() {
                [] => "no verdict could be read from the review".to_owned(),
                findings => findings.join("; "),
            },
        ),
        Phase::Reviewed(Some(ReviewVerdict::RevisionRequired)) => {
            again(wave, item, now, ReasonCode::ReviewRevisionRequired)
        }
        Phase::Judged(AttemptVerdict::Revise | AttemptVerdict::Fallback) => again(wave, item, now, last()),
        Phase::Waiting => begin(wave, item, now),
    }
}

/// The next round of the review, when its provider takes something.
fn review(wave: &Wave, item: &Item, now: Timestamp) -> Want {
    let parked = item.review_pool().and_then(|pool| wave.parked.get(&pool));
    match parked.map(|parked| parked.until).filter(|time| *time > now) {
        Some(until) => Want::Wait(until),
        None => Want::Review(item.review_round + 1),
    }
}

/// Another attempt, when there may be one.
fn again(wave: &Wave, item: &Item, now: Timestamp, reason: ReasonCode) -> Want {
    if item.counted() >= item.plan.max_attempts {
        let message = format!("{} attempts are used up", item.plan.max_attempts);
        return Want::Close(ItemState::Failed, reason, message);
    }
    provider(wave, item, now)
}

/// The first attempt, when everything that it needs is done.
fn begin(wave: &Wave, item: &Item, now: Timestamp) -> Want {
    let skipped = |reason, message| Want::Close(ItemState::Skipped, reason, message);
    let failed = |other: &&Item| match other.phase {
        Phase::Closed(state) => state != ItemState::Done,
        _ => false,
    };
    let mut all_done = true;
    for need in &item.plan.needs {
        let Some(need) = wave.position(need).map(|at| &wave.items[at]) else { continue };
        if let (true, Phase::Closed(state)) = (failed(&need), need.phase) {
            return skipped(ReasonCode::NeedNotDone, format!("{} is {state}", need.plan.id));
        }
        all_done &= need.is_done();
    }
    if let (true, Some(other)) = (wave.created.plan.fail_fast, wave.items.iter().find(failed)) {
        return skipped(ReasonCode::WaveFailFast, format!("{} did not get done", other.plan.id));
    }
    if all_done { provider(wave, item, now) } else { Want::Nothing }
}

/// The first provider of the chain that takes something now.
fn provider(wave: &Wave, item: &Item, now: Timestamp) -> Want {
    if let Some(time) = item.rests_until.filter(|time| *time > now) {
        return Want::Wait(time);
    }
    let mut until: Option<Timestamp> = None;
    for name in item.plan.providers.iter().filter(|name| wave.is_usable(item, name)) {
        match wave.parked.get(&item.pool(name)).map(|parked| parked.until).filter(|time| *time > now) {
            None => return Want::Attempt(name.clone()),
            Some(time) => until = Some(until.map_or(time, |known| known.min(time))),
        }
    }
    if let Some(until) = until {
        return Want::Wait(until);
    }
    let reason = item.reason.unwrap_or(ReasonCode::NoProviderLeft);
    let message = if item.message.is_empty() {
        "no provider of its chain is left".to_owned()
    } else {
        item.message.clone()
    };
    Want::Close(ItemState::Blocked, reason, message)
}
