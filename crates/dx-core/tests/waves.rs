//! Waves of any shape with any luck: an item never begins before everything it needs is done, no more are in flight than
//! allowed, no attempt is one too many, and every wave ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_core::wave::{Notices, Phase, Step, Wave, next_steps, state_of};
use dx_protocol::{
    AttemptVerdict, ItemState, QuotaPool, ReasonCode, ReviewVerdict, Timestamp, WaveChange, WaveCreated,
    WaveEvent, WaveItem, WaveNotice, WavePlan, WaveRecord, WaveReview,
};
use proptest::prelude::*;

fn item(at: usize, needs: &[usize], review: bool, max_attempts: u32) -> WaveItem {
    WaveItem {
        id: format!("i{at}").parse().unwrap(),
        needs: needs.iter().map(|need| format!("i{need}").parse().unwrap()).collect(),
        providers: vec!["one".parse().unwrap(), "two".parse().unwrap()],
        model: None,
        profile: None,
        command: Vec::new(),
        sandbox: None,
        scope: Vec::new(),
        check: None,
        require_commit: false,
        review: review.then(|| WaveReview {
            provider: "one".parse().unwrap(),
            model: None,
            profile: None,
            command: Vec::new(),
            prompt_file: "-".to_owned(),
        }),
        max_attempts,
        prompt_file: "-".to_owned(),
        prompt_bytes: 1,
        unit: None,
    }
}

fn wave(items: Vec<WaveItem>, max_parallel: u32, fail_fast: bool) -> Wave {
    let plan = WavePlan {
        name: "w".to_owned(),
        repo: "/r".to_owned(),
        base: "b".to_owned(),
        max_parallel,
        fail_fast,
        merge_into: None,
        items,
    };
    let created = WaveCreated {
        schema: String::new(),
        version: 1,
        program: String::new(),
        wave_id: "w-1".to_owned(),
        file: "-".to_owned(),
        cwd: "/".to_owned(),
        notify: None,
        write_back: false,
        exit_when_parked: false,
        plan,
    };
    Wave::new(created, Timestamp(0))
}

/// What chance does to a step that is under way.
fn outcome(wave: &Wave, at: usize, luck: u8, now: i64) -> WaveEvent {
    let item = &wave.items[at];
    let (id, attempt) = (item.plan.id.clone(), item.attempts.len() as u32);
    if item.phase == Phase::Review {
        let verdict = match luck % 8 {
            0 => None,
            1 => Some(ReviewVerdict::Blocked),
            2 | 3 => Some(ReviewVerdict::RevisionRequired),
            _ => Some(ReviewVerdict::Approved),
        };
        let findings = vec!["f".to_owned()];
        let until = (luck % 16 == 8).then_some(Timestamp(now + 5));
        let (round, pool) = (item.review_round, None);
        return WaveEvent::Reviewed { item: id, attempt, round, verdict, findings, until, pool };
    }
    let provider = item.attempt().unwrap().provider.clone();
    let until = luck.is_multiple_of(3).then_some(Timestamp(now + 5));
    if luck % 16 == 1 {
        let reason = if luck > 100 { ReasonCode::OpencodeBinaryMissing } else { ReasonCode::WorktreeExists };
        return WaveEvent::Refused {
            item: id,
            attempt,
            provider,
            reason,
            message: "m".to_owned(),
            until,
            pool: None,
        };
    }
    let verdict = match luck % 16 {
        2..=4 => AttemptVerdict::Revise,
        5 => AttemptVerdict::Fallback,
        6 => AttemptVerdict::Failed,
        7 => AttemptVerdict::Cancelled,
        _ => AttemptVerdict::Passed,
    };
    WaveEvent::Judged {
        item: id,
        attempt,
        verdict,
        reason: ReasonCode::ProcessExitWithRc,
        exit_code: "0".to_owned(),
        findings: Vec::new(),
        commit: Some("c".to_owned()),
        gates: Vec::new(),
        notes: Vec::new(),
        // A provider that names a time after each call would be waited for without an end.
        until: until.filter(|_| verdict == AttemptVerdict::Fallback && attempt < 20),
        pool: None,
    }
}

fn event_of(wave: &Wave, step: &Step) -> WaveEvent {
    match step {
        Step::Attempt { item, number, provider } => WaveEvent::Attempt {
            item: wave.items[*item].plan.id.clone(),
            attempt: *number,
            provider: provider.clone(),
            base: "b".to_owned(),
        },
        Step::Review { item, round } => WaveEvent::Review {
            item: wave.items[*item].plan.id.clone(),
            attempt: wave.items[*item].attempts.len() as u32,
            round: *round,
        },
        Step::Close { item, state, reason, message } => WaveEvent::Closed {
            item: wave.items[*item].plan.id.clone(),
            state: *state,
            reason: *reason,
            message: message.clone(),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_item_begins_early_and_every_wave_ends(
        shape in proptest::collection::vec((any::<u16>(), any::<bool>(), 1_u32..4), 1..12),
        luck in proptest::collection::vec(any::<u8>(), 64),
        max_parallel in 1_u32..5,
        fail_fast in any::<bool>(),
        cancel_at in proptest::option::of(0_usize..30),
    ) {
        let items = shape.iter().enumerate().map(|(at, (bits, review, most))| {
            let needs: Vec<usize> = (0..at).filter(|need| bits >> (need % 16) & 1 == 1).collect();
            item(at, &needs, *review, *most)
        });
        let mut wave = wave(items.collect(), max_parallel, fail_fast);
        let mut lucky = luck.iter().cycle().copied();
        let mut now = 0_i64;
        let mut records = Vec::new();
        for round in 0.. {
            prop_assert!(round < 2_000, "it never ends: {wave:#?}");
            now += 1;
            let mut take = |wave: &mut Wave, event: WaveEvent| {
                let record = WaveRecord { at: Timestamp(now), event };
                wave.apply(&record);
                records.push(record);
            };
            if Some(round) == cancel_at {
                take(&mut wave, WaveEvent::Cancelling);
            }
            let next = next_steps(&wave, Timestamp(now));
            if next.finished {
                break;
            }
            for step in &next.steps {
                if let Step::Attempt { item, number, .. } = step {
                    let item = &wave.items[*item];
                    for need in &item.plan.needs {
                        let need = &wave.items[wave.position(need).unwrap()];
                        prop_assert!(need.is_done(), "{} began before {}", item.plan.id, need.plan.id);
                    }
                    prop_assert!(item.counted() < item.plan.max_attempts && !wave.cancelling);
                    prop_assert_eq!(*number as usize, item.attempts.len() + 1);
                }
                let event = event_of(&wave, step);
                take(&mut wave, event);
            }
            prop_assert!(wave.in_flight() <= max_parallel as usize);
            let busy: Vec<usize> = (0..wave.items.len())
                .filter(|at| matches!(wave.items[*at].phase, Phase::Attempt | Phase::Review))
                .collect();
            let idle = next.steps.is_empty() && busy.is_empty();
            prop_assert!(!idle || next.wait_until.is_some(), "nothing to do and nothing to wait for");
            if let Some(at) = busy.first() {
                let event = outcome(&wave, *at, lucky.next().unwrap(), now);
                take(&mut wave, event);
            }
        }
        // Reading the journal again gives the same wave.
        let first = WaveRecord { at: Timestamp(0), event: WaveEvent::Created(Box::new(wave.created.clone())) };
        let all: Vec<WaveRecord> = std::iter::once(first).chain(records).collect();
        let text: Vec<String> = all.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        let read: Vec<WaveRecord> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(dx_core::wave::fold(&read), Some(wave));
    }
}

#[test]
fn nothing_new_begins_after_a_failure_when_asked() {
    let mut wave = wave(vec![item(0, &[], false, 1), item(1, &[], false, 1)], 1, true);
    let take = |wave: &mut Wave, event| wave.apply(&WaveRecord { at: Timestamp(1), event });
    let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
    let event = event_of(&wave, &step);
    take(&mut wave, event);
    let event = outcome(&wave, 0, 2, 1);
    take(&mut wave, event);
    for _ in 0..2 {
        for step in next_steps(&wave, Timestamp(1)).steps {
            let event = event_of(&wave, &step);
            take(&mut wave, event);
        }
    }
    let states: Vec<ItemState> = wave.items.iter().map(|item| state_of(&wave, item)).collect();
    assert_eq!(states, [ItemState::Failed, ItemState::Skipped]);
}

#[test]
fn a_missing_model_rules_itself_out_and_a_refused_account_everything_of_it() {
    let of =
        |at, model: Option<&str>| WaveItem { model: model.map(str::to_owned), ..item(at, &[], false, 3) };
    let items = vec![of(0, Some("gone")), of(1, Some("gone")), of(2, Some("there")), of(3, None)];
    let chosen_at = |reason, until: Option<i64>, now| {
        let mut wave = wave(items.clone(), 1, false);
        let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
        for event in [
            event_of(&wave, &step),
            WaveEvent::Judged {
                item: "i0".parse().unwrap(),
                attempt: 1,
                verdict: AttemptVerdict::Fallback,
                reason,
                exit_code: "1".to_owned(),
                findings: Vec::new(),
                commit: None,
                gates: Vec::new(),
                notes: Vec::new(),
                until: until.map(Timestamp),
                pool: None,
            },
        ] {
            wave.apply(&WaveRecord { at: Timestamp(1), event });
        }
        wave.created.plan.max_parallel = 4;
        let mut providers = vec![String::new(); 4];
        for step in next_steps(&wave, Timestamp(now)).steps {
            if let Step::Attempt { item, provider, .. } = step {
                providers[item] = provider.to_string();
            }
        }
        providers
    };
    let chosen = |reason, until| chosen_at(reason, until, 2);
    assert_eq!(chosen(ReasonCode::ClaudeCodeModelUnavailable, None), ["two", "two", "one", "one"]);
    assert_eq!(chosen(ReasonCode::ClaudeCodeRateLimited, Some(9)), ["two", "two", "one", "one"]);
    // Afterwards they come back.
    assert_eq!(chosen_at(ReasonCode::ClaudeCodeRateLimited, Some(9), 8), ["two", "two", "one", "one"]);
    assert_eq!(chosen_at(ReasonCode::ClaudeCodeRateLimited, Some(9), 9), ["one", "one", "one", "one"]);
    assert_eq!(chosen(ReasonCode::ClaudeCodeAuthBlocked, None), ["two", "two", "two", "two"]);
    assert_eq!(chosen(ReasonCode::ProcessExitWithRc, None), ["two", "one", "one", "one"]);
}

/// A provider that names the next second each time is asked ever less often, and what was to be mended stays known.
#[test]
fn who_is_refused_again_and_again_rests_ever_longer_and_keeps_what_was_found() {
    let mut wave = wave(vec![item(0, &[], false, 2)], 1, false);
    let take = |wave: &mut Wave, now, event| wave.apply(&WaveRecord { at: Timestamp(now), event });
    let judged = |wave: &Wave, verdict, until: Option<i64>, findings: &[&str]| WaveEvent::Judged {
        item: wave.items[0].plan.id.clone(),
        attempt: wave.items[0].attempts.len() as u32,
        verdict,
        reason: ReasonCode::ClaudeCodeRateLimited,
        exit_code: "1".to_owned(),
        findings: findings.iter().map(|text| (*text).to_owned()).collect(),
        commit: None,
        gates: Vec::new(),
        notes: Vec::new(),
        until: until.map(Timestamp),
        pool: None,
    };
    let (mut now, mut pauses) = (0, Vec::new());
    for round in 0..18 {
        let began = now;
        let step = loop {
            let mut next = next_steps(&wave, Timestamp(now));
            match next.wait_until {
                Some(until) => now = until.0,
                None => break next.steps.remove(0),
            }
        };
        pauses.push(now - began);
        let event = event_of(&wave, &step);
        take(&mut wave, now, event);
        let event = match round {
            0 => judged(&wave, AttemptVerdict::Revise, None, &["mend it"]),
            _ => judged(&wave, AttemptVerdict::Fallback, Some(now + 1_000), &["refused"]),
        };
        take(&mut wave, now, event);
    }
    assert_eq!(wave.items[0].findings, ["mend it"]);
    assert_eq!((wave.items[0].counted(), wave.items[0].attempts.len()), (1, 18));
    let seconds: Vec<i64> = pauses.iter().map(|pause| pause / 1_000).collect();
    // The chain has two providers.
    assert_eq!(seconds, [0, 0, 0, 1, 0, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
}

#[test]
fn a_revision_is_one_that_follows() {
    let shown = |max_attempts, cancel: bool| {
        let mut wave = wave(vec![item(0, &[], false, max_attempts)], 1, false);
        let take = |wave: &mut Wave, event| wave.apply(&WaveRecord { at: Timestamp(1), event });
        let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
        let event = event_of(&wave, &step);
        take(&mut wave, event);
        if cancel {
            take(&mut wave, WaveEvent::Cancelling);
        }
        let event = outcome(&wave, 0, 2, 1);
        take(&mut wave, event);
        state_of(&wave, &wave.items[0])
    };
    assert_eq!(shown(2, false), ItemState::Revision);
    assert_eq!((shown(1, false), shown(2, true)), (ItemState::Checking, ItemState::Cancelled));
}

/// It is told once, and with the record that says so.
#[test]
fn an_item_that_is_given_up_is_told_as_cancelled() {
    let mut wave = wave(vec![item(0, &[], false, 3)], 1, false);
    let mut notices = Notices::default();
    let created = WaveEvent::Created(Box::new(wave.created.clone()));
    notices.next(&WaveRecord { at: Timestamp(0), event: created });
    let mut told = Vec::new();
    let mut take = |wave: &mut Wave, event| {
        let record = WaveRecord { at: Timestamp(1), event };
        wave.apply(&record);
        if let Some(WaveNotice { number, change: WaveChange::Item { state, .. }, .. }) = notices.next(&record)
        {
            told.push((number, state));
        }
    };
    let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
    let event = event_of(&wave, &step);
    take(&mut wave, event);
    let parked = outcome(&wave, 0, 5, 1);
    take(&mut wave, parked);
    take(&mut wave, WaveEvent::Cancelling);
    let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
    let event = event_of(&wave, &step);
    take(&mut wave, event);
    assert_eq!(told, [(2, ItemState::Running), (3, ItemState::Revision), (5, ItemState::Cancelled)]);
}

#[test]
fn what_the_ledger_says_of_a_parked_pool_counts() {
    let pool = |account: &str| QuotaPool {
        provider: "one".parse().unwrap(),
        account: account.to_owned(),
        model: "m".to_owned(),
    };
    let mut only = item(0, &[], false, 1);
    only.providers.truncate(1);
    let mut wave = wave(vec![only], 1, false);
    let take = |wave: &mut Wave, event| wave.apply(&WaveRecord { at: Timestamp(1), event });
    let step = next_steps(&wave, Timestamp(1)).steps.remove(0);
    let event = event_of(&wave, &step);
    take(&mut wave, event);
    let refused = WaveEvent::Refused {
        item: "i0".parse().unwrap(),
        attempt: 1,
        provider: "one".parse().unwrap(),
        reason: ReasonCode::QuotaParked,
        message: String::new(),
        until: Some(Timestamp(30)),
        pool: Some(pool("a")),
    };
    take(&mut wave, refused);
    let mut says = |account: &str, until: Option<i64>| {
        take(&mut wave, WaveEvent::Parked { pool: pool(account), until: until.map(Timestamp) });
        next_steps(&wave, Timestamp(2)).wait_until
    };
    assert_eq!(says("another", None), Some(Timestamp(30)));
    assert_eq!(says("a", Some(90)), Some(Timestamp(90)));
    assert_eq!(says("a", None), None);
    assert_eq!(next_steps(&wave, Timestamp(2)).steps.len(), 1);
}
