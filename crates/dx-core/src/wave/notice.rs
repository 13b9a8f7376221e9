//! Which records of a wave change something that somebody wants to be told. Pure: the same journal gives the same notices
//! with the same numbers, so that a coordinator that takes over goes on where the last one was.

use super::decide::state_of;
use super::fold::{Item, Phase, Wave, fold};
use crate::notice::MAX_MESSAGE;
use dx_protocol::{ItemState, WaveChange, WaveEvent, WaveNotice, WaveRecord, WaveState};

/// Reads records one by one.
#[derive(Debug, Default)]
pub struct Notices {
    wave: Option<Wave>,
    number: u64,
}

impl Notices {
    /// Takes the next record; the notice that it gives, numbered by the record's place.
    pub fn next(&mut self, record: &WaveRecord) -> Option<WaveNotice> {
        self.number += 1;
        let Some(wave) = &mut self.wave else {
            self.wave = fold(std::slice::from_ref(record));
            return None;
        };
        let item = record.event.item().and_then(|id| wave.position(id));
        let before = item.map(|at| told(wave, at));
        wave.apply(record);
        let change = match (&record.event, item) {
            (_, Some(at)) => {
                let state = told(wave, at)?;
                (before != Some(Some(state))).then(|| of_item(&wave.items[at], state))
            }
            (WaveEvent::Coordinator { .. }, None) => Some(of_wave(wave, WaveState::Running)),
            (WaveEvent::Ended, None) => Some(of_wave(wave, wave.verdict()?)),
            _ => None,
        };
        Some(WaveNotice {
            schema: "dx-runner/wave-notice/1".to_owned(),
            wave_id: wave.created.wave_id.clone(),
            name: wave.created.plan.name.clone(),
            number: self.number,
            at: record.at,
            change: change?,
        })
    }
}

/// `checking` passes with the next record and says nothing to who is called, and `cancelled` is told when it is recorded.
fn told(wave: &Wave, at: usize) -> Option<ItemState> {
    let item = &wave.items[at];
    let passes = match state_of(wave, item) {
        ItemState::Checking => true,
        ItemState::Cancelled => !matches!(item.phase, Phase::Closed(_)),
        _ => false,
    };
    (!passes).then(|| state_of(wave, item))
}

fn of_wave(wave: &Wave, state: WaveState) -> WaveChange {
    let closed = wave.items.iter().filter(|item| matches!(item.phase, Phase::Closed(_))).count();
    WaveChange::Wave { state, closed: closed as u32, total: wave.items.len() as u32 }
}

fn of_item(item: &Item, state: ItemState) -> WaveChange {
    WaveChange::Item {
        id: item.plan.id.clone(),
        state,
        attempts: item.counted(),
        provider: item.attempt().map(|attempt| attempt.provider.clone()),
        reason_code: item.reason,
        message: item.message.chars().take(MAX_MESSAGE).collect(),
    }
}
