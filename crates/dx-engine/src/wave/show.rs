//! What a wave looks like to a reader: its journal folded, and the live jobs of its items. Reading only.

use super::courier;
use crate::Engine;
use crate::error::{EngineError, told};
use crate::lookup;
use crate::view::View;
use dx_core::wave::{Item, Phase, Wave};
use dx_jobdir::{JournalError, StateDir, WavePaths, wave as files};
use dx_monitor::process_of;
use dx_proc::{Host, Liveness, ProcessIdentity, clock};
use dx_protocol::{
    ExitCode, ItemState, Timestamp, WaveAttempt, WaveDamaged, WaveDocument, WaveEvent, WaveItem, WaveItemRow,
    WaveJob, WaveMerge, WaveRecord, WaveRow, WaveState, WaveUnit, WavesDocument,
};

impl Engine {
    /// All waves, newest first.
    pub fn wave_list(&self) -> Result<WavesDocument, EngineError> {
        let (mut waves, mut damaged) = (Vec::new(), Vec::new());
        for (wave_id, paths) in self.state_for_reading()?.as_ref().map(files::all).unwrap_or_default() {
            let Seen { wave, state, .. } = match read(&paths) {
                Ok(Some(seen)) => seen,
                Ok(None) | Err(JournalError::Missing(_)) => continue,
                Err(JournalError::Damaged { .. }) if is_empty(&paths) => continue,
                // The others are listed all the same.
                Err(error) => {
                    let newer = matches!(error, JournalError::Newer { .. });
                    damaged.push(WaveDamaged { wave_id, why: told(&error), newer });
                    continue;
                }
            };
            waves.push(WaveRow {
                wave_id: wave.created.wave_id.clone(),
                name: wave.created.plan.name.clone(),
                state,
                closed: closed(&wave),
                total: wave.items.len() as u32,
                started_at: wave.created_at,
                repo: wave.created.plan.repo.clone(),
            });
        }
        waves.sort_by(|a, b| (b.started_at, &b.wave_id).cmp(&(a.started_at, &a.wave_id)));
        damaged.sort();
        Ok(WavesDocument { schema: "dx-runner/waves/1".to_owned(), waves, damaged })
    }

    pub(super) fn show_wave(&self, id: &str, paths: &WavePaths) -> Result<WaveDocument, EngineError> {
        let none = || EngineError::NoWave { wave: id.to_owned(), near: Vec::new() };
        let Seen { wave, state, records } = read(paths)?.ok_or_else(none)?;
        let state_dir = self.state_for_reading()?.ok_or_else(none)?;
        let now = Timestamp(clock::now_ms());
        let plan = &wave.created.plan;
        let host = Host::current()?;
        let items: Vec<WaveItemRow> =
            wave.items.iter().map(|item| row(&state_dir, &host, (&wave, item), now)).collect();
        let waits_until = dx_core::wave::next_steps(&wave, now).wait_until.filter(|_| wave.in_flight() == 0);
        Ok(WaveDocument {
            schema: "dx-runner/wave/1".to_owned(),
            generated_at: now,
            wave_id: wave.created.wave_id.clone(),
            name: plan.name.clone(),
            state,
            repo: plan.repo.clone(),
            base: plan.base.clone(),
            file: wave.created.file.clone(),
            started_at: wave.created_at,
            ended_at: wave.ended_at,
            elapsed_sec: seconds(wave.created_at, wave.ended_at.unwrap_or(now)),
            closed: closed(&wave),
            total: items.len() as u32,
            estimate_sec: estimate(&wave, now),
            waits_until,
            merged: wave.merged.as_ref().map(|merge| WaveMerge {
                branch: merge.branch.clone(),
                commit: merge.commit.clone(),
                conflicts: merge.conflicts.clone(),
                message: merge.message.clone(),
            }),
            notify_failure: courier::NOTIFY.failure(paths, &records),
            write_back_failure: courier::WRITE_BACK.failure(paths, &records),
            cancelled: wave.cancelling || paths.cancel().exists(),
            next_action: if courier::is_left(paths, &records) {
                format!("dx-runner wave resume {id}")
            } else {
                next_action(&wave, state, &items)
            },
            items,
        })
    }
}

/// Whether it was cut off before its first record; then it is none.
pub(super) fn is_empty(paths: &WavePaths) -> bool {
    std::fs::metadata(paths.journal()).is_ok_and(|meta| meta.len() == 0)
}

/// A wave as it is at the moment.
pub(super) struct Seen {
    pub(super) wave: Wave,
    pub(super) state: WaveState,
    pub(super) records: Vec<WaveRecord>,
}

/// Reads it; `None` when its journal tells of none.
pub(super) fn read(paths: &WavePaths) -> Result<Option<Seen>, JournalError> {
    let look = || {
        let records = files::read(paths)?;
        Ok(dx_core::wave::fold(&records).map(|wave| {
            let state = state_of(&wave, &records);
            Seen { wave, state, records }
        }))
    };
    match look()? {
        // Its coordinator may have ended it, and itself, between the reading and the look at its process.
        Some(Seen { state: WaveState::Interrupted, .. }) => look(),
        seen => Ok(seen),
    }
}

/// Whether the newest coordinator lives; told by its identity, so that no lock is taken.
pub(super) fn state_of(wave: &Wave, records: &[WaveRecord]) -> WaveState {
    if let Some(verdict) = wave.verdict() {
        return verdict;
    }
    if is_coordinated(records) { WaveState::Running } else { WaveState::Interrupted }
}

/// Whether the newest coordinator lives, who may have ended the wave and still tell of it.
pub(super) fn is_coordinated(records: &[WaveRecord]) -> bool {
    coordinator(records).is_some_and(|process| {
        Host::current()
            .is_ok_and(|host| matches!(host.liveness(&process), Liveness::Alive | Liveness::Elsewhere))
    })
}

/// The newest one.
pub(super) fn coordinator(records: &[WaveRecord]) -> Option<ProcessIdentity> {
    records.iter().rev().find_map(|record| match &record.event {
        WaveEvent::Coordinator { process, .. } => Some(process_of(process)),
        _ => None,
    })
}

fn closed(wave: &Wave) -> u32 {
    wave.items.iter().filter(|item| matches!(item.phase, Phase::Closed(_))).count() as u32
}

fn seconds(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from((to.0 - from.0) / 1000).unwrap_or(0)
}

/// How long the item took or takes, from the beginning of its newest attempts.
fn elapsed(item: &Item, now: Timestamp) -> u64 {
    item.attempts.first().map_or(0, |first| seconds(first.began_at, item.closed_at.unwrap_or(now)))
}

/// What is left when each open item takes as long as a closed one did on average, and as many are at work as may be.
fn estimate(wave: &Wave, now: Timestamp) -> Option<u64> {
    let done: Vec<u64> =
        wave.items.iter().filter(|item| item.is_done()).map(|item| elapsed(item, now)).collect();
    let open = wave.items.iter().filter(|item| !matches!(item.phase, Phase::Closed(_))).count() as u64;
    if done.is_empty() || open == 0 {
        return None;
    }
    let mean = done.iter().sum::<u64>() / done.len() as u64;
    let spent: u64 =
        wave.items.iter().filter(|item| item.phase == Phase::Attempt).map(|item| elapsed(item, now)).sum();
    let at_once = u64::from(wave.created.plan.max_parallel).min(open).max(1);
    Some((mean * open).saturating_sub(spent.min(mean * open)) / at_once)
}

fn row(state: &StateDir, host: &Host, (wave, item): (&Wave, &Item), now: Timestamp) -> WaveItemRow {
    let newest = item.attempt();
    let mut shown = dx_core::wave::state_of(wave, item);
    let run = match item.phase {
        Phase::Attempt => newest.and_then(|attempt| attempt.run.as_ref()),
        Phase::Review => item.review_run.as_ref(),
        _ => None,
    };
    let view = run.and_then(|run| {
        let found = lookup::read_run(state, &state.run(run).journal(), true).ok()?;
        Some(View::of(state, host, &found))
    });
    if shown == ItemState::Running && view.as_ref().is_some_and(|view| view.run.end.is_some()) {
        shown = ItemState::Checking;
    }
    let provider = newest.map(|attempt| &attempt.provider).or(item.plan.providers.first());
    WaveItemRow {
        id: item.plan.id.to_string(),
        needs: item.plan.needs.iter().map(ToString::to_string).collect(),
        state: shown,
        reason_code: item.reason,
        message: item.message.clone(),
        attempts: item.counted(),
        max_attempts: item.plan.max_attempts,
        provider: provider.map_or_else(|| "-".to_owned(), ToString::to_string),
        model: newest
            .and_then(|attempt| attempt.model.clone())
            .or_else(|| item.plan.model.clone())
            .unwrap_or_else(|| "-".to_owned()),
        base: item.base.clone(),
        branch: item.plan.id.to_string(),
        commit: item.commit.clone(),
        worktree: item.attempts.iter().find_map(|attempt| attempt.worktree.clone()),
        elapsed_sec: elapsed(item, now),
        findings: item.findings.clone(),
        gates: item.gates.clone(),
        notes: item.notes.clone(),
        job: view.map(|view| WaveJob {
            state: view.judgement.state.to_string(),
            reason_code: view.judgement.reason,
        }),
        history: item
            .attempts
            .iter()
            .map(|attempt| WaveAttempt {
                attempt: attempt.number,
                provider: attempt.provider.to_string(),
                run_uuid: attempt.run.as_ref().map(ToString::to_string),
                verdict: attempt.verdict,
                reason_code: attempt.reason,
                exit_code: attempt.exit_code.clone(),
                review: attempt
                    .review
                    .and_then(|verdict| serde_json::to_value(verdict).ok())
                    .and_then(|value| value.as_str().map(str::to_owned)),
            })
            .collect(),
    }
}

fn next_action(wave: &Wave, state: WaveState, items: &[WaveItemRow]) -> String {
    let id = &wave.created.wave_id;
    match state {
        WaveState::Running => format!("dx-runner wave status {id} --watch"),
        WaveState::Interrupted => format!("dx-runner wave resume {id}"),
        WaveState::Done => "review the work".to_owned(),
        WaveState::Partial | WaveState::Failed => {
            if wave.wants_merge() {
                return format!("mend what is in the way of the merge, then dx-runner wave resume {id}");
            }
            let first = items.iter().find(|item| {
                matches!(item.state, ItemState::Failed | ItemState::Blocked) && !item.history.is_empty()
            });
            let first = first.and_then(|row| wave.items.iter().find(|item| item.plan.id.as_str() == row.id));
            match first {
                Some(Item { plan: WaveItem { unit: Some(WaveUnit { task, .. }), .. }, .. }) => {
                    format!("dx-runner task show {}", task.split('/').next().unwrap_or(task))
                }
                Some(item) if !was_found_wanting(item) => format!("dx-runner logs --beads {}", item.plan.id),
                _ => format!("dx-runner wave report {id}"),
            }
        }
    }
}

/// Whether it was not its agent that failed: a check, a gate or a review of the work did, and their findings are in the report.
fn was_found_wanting(item: &Item) -> bool {
    let reason = item.attempt().and_then(|attempt| attempt.reason);
    item.review_round > 0
        || reason.is_some_and(|reason| reason.exit_code() == ExitCode::CheckFailed)
        || item.gates.iter().any(|gate| !gate.report.passed)
}
