//! Waiting for one's turn under a provider's cap, first come first served.
//!
//! A place is a locked file ([`Ticket`]), so that the kernel frees it with its process. The turn has come when running jobs
//! and those ahead leave room, stopped ones left out; the claim decides that again, under the same lock. Who waits sleeps
//! on the folders of claims and places and on the process before it; a slow tick covers what no event tells.
//!
//! Called by: `start`, its dry run. Must never: hold a place without waiting for it, or make anything else.

use super::claim::{same_key, settle_dead};
use super::identity::id_of;
use super::prepare::Lineage;
use crate::Engine;
use crate::api::{PromptSource, StartRequest, Started};
use crate::error::EngineError;
use crate::prompt::Prompt;
use dx_jobdir::{ClaimLock, StateDir, Ticket, claim, queue};
use dx_monitor::{process_of, record_of};
use dx_proc::inotify::{DELETE, MOVED_FROM, Watch};
use dx_proc::{Host, PidFd, ProcessIdentity, SignalFd, clock};
use dx_protocol::{BeadsId, Identity, ProviderName, QueuePlace};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd};

/// Without any event the queue is looked at this often: a run whose processes were all killed tells nobody.
const SAFETY_TICK_MS: u64 = 2_000;

/// What ends the waiting early; nothing is left then.
#[derive(Debug, Clone, Copy)]
pub enum GiveUp<'a> {
    /// One of these signals to the calling thread, which are blocked while it waits.
    On(&'a [i32]),
    /// The descriptor is readable or closed by its other side.
    When(BorrowedFd<'a>),
}

/// A turn: the place in the queue that led to it, and how long that took.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// `None` for a start that does not wait, or that needs no place.
    pub(super) ticket: Option<Ticket>,
    /// `None` for a start that does not wait.
    pub(super) queued_ms: Option<u64>,
}

/// What stands in a place of the queue.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// `None`: made at the start.
    beads: Option<BeadsId>,
    process: Identity,
}

/// Who stands before a start.
pub(super) struct Ahead {
    pub(super) running: usize,
    notes: Vec<Vec<u8>>,
}

impl Ahead {
    /// Counted under the lock of claims. Without a ticket all who wait are ahead. One whose process is stopped (Ctrl-Z) is
    /// passed over, or nobody behind it would ever run; it keeps its place, which counts again when it goes on.
    pub(super) fn look(
        state: &StateDir,
        provider: &ProviderName,
        ticket: Option<&Ticket>,
        lock: &ClaimLock,
    ) -> Self {
        let mut notes = queue::ahead(state, provider, ticket, lock);
        if let Ok(host) = Host::current() {
            let note = |note: &Vec<u8>| serde_json::from_slice::<Note>(note).ok();
            notes.retain(|text| !note(text).is_some_and(|note| host.is_stopped(&process_of(&note.process))));
        }
        Self { running: claim::count(state, provider), notes }
    }

    pub(super) fn waiting(&self) -> usize {
        self.notes.len()
    }

    /// Whether there is room for one more beside them.
    pub(super) fn leaves_room(&self, cap: usize) -> bool {
        self.running + self.waiting() < cap
    }

    pub(super) fn refusal(&self, provider: &ProviderName, cap: usize) -> EngineError {
        let (running, waiting) = (self.running, self.waiting());
        EngineError::CapExceeded { provider: provider.to_string(), running, waiting, cap }
    }

    fn ids(&self) -> Vec<String> {
        let id = |note: &Vec<u8>| {
            let note: Option<Note> = serde_json::from_slice(note).ok();
            note.and_then(|note| note.beads).map_or_else(|| "-".to_owned(), |beads| beads.to_string())
        };
        self.notes.iter().map(id).collect()
    }

    /// The process directly before; its end is told by the descriptor.
    fn before(&self, host: &Host) -> Option<PidFd> {
        let note: Note = serde_json::from_slice(self.notes.last()?).ok()?;
        PidFd::open_verified_on(host, &process_of(&note.process)).ok().flatten()
    }
}

impl Engine {
    /// Starts a job like [`Engine::start`], but waits for its turn when the provider's cap is reached, behind all who wait
    /// already. It never fails for the cap, except for one of 0, which nothing can wait for. What can be refused is refused
    /// before it waits; the prompt is read then too. Gates, worktree and environment are looked at when its turn has come.
    pub fn start_queued(&self, request: &StartRequest, give_up: GiveUp<'_>) -> Result<Started, EngineError> {
        let prompt = Prompt::read(request.prompt.as_ref())?;
        let request = StartRequest {
            prompt: request.prompt.as_ref().map(|_| PromptSource::Text(prompt.bytes.clone())),
            ..request.clone()
        };
        let state = self.state()?;
        super::nested::nested_in(&state)?;
        let in_lane = |request: &StartRequest, fallback_from: Option<String>| {
            let (request, mut lineage) = self.first_start(&state, request)?;
            lineage.prompt_file = Some(prompt.name.clone());
            lineage.fallback_from = fallback_from;
            self.in_turn(&state, &request, &mut lineage, give_up, |lineage| {
                self.start_any(&state, &request, lineage)
            })
        };
        // Whether a lane can be used is found when its turn has come; the next one has a turn of its own.
        let first = in_lane(&request, None);
        self.through_lanes(&request, first, |other, why| in_lane(other, Some(why)))
    }

    /// Starts when the turn has come.
    pub(super) fn in_turn(
        &self,
        state: &StateDir,
        request: &StartRequest,
        lineage: &mut Lineage,
        give_up: GiveUp<'_>,
        start: impl Fn(&Lineage) -> Result<Started, EngineError>,
    ) -> Result<Started, EngineError> {
        lineage.turn.queued_ms = Some(0);
        let Some(cap) = lineage.cap(&request.provider)? else { return start(lineage) };
        loop {
            if let Some(started) = self.take_turn(state, request, lineage, cap, give_up)? {
                return Ok(started);
            }
            match start(lineage) {
                // Somebody with a higher cap came between.
                Err(EngineError::CapExceeded { .. }) if cap > 0 => {}
                other => return other,
            }
        }
    }

    /// The run that an earlier start with the same key made; starts nothing.
    pub(crate) fn started_before(&self, request: &StartRequest) -> Result<Option<Started>, EngineError> {
        answered(&self.state()?, request, &Lineage::default())
    }

    /// Waits until there is room, with a place in the queue from the first time that there is none. `Some`: another start
    /// with the same key has run meanwhile.
    fn take_turn(
        &self,
        state: &StateDir,
        request: &StartRequest,
        lineage: &mut Lineage,
        cap: usize,
        give_up: GiveUp<'_>,
    ) -> Result<Option<Started>, EngineError> {
        let provider = &request.provider;
        if lineage.turn.ticket.is_none() {
            let lock = ClaimLock::take(state)?;
            let ahead = Ahead::look(state, provider, None, &lock);
            if ahead.leaves_room(cap) {
                return Ok(None);
            }
            drop(lock);
            if cap == 0 {
                return Err(ahead.refusal(provider, cap));
            }
            if let Some(started) = answered(state, request, lineage)? {
                return Ok(Some(started));
            }
            self.refuse_before_waiting(state, request, lineage)?;
            let note =
                Note { beads: request.beads.clone(), process: record_of(&ProcessIdentity::of_self()?) };
            let note = serde_json::to_vec(&note).map_err(|e| EngineError::Argument(e.to_string()))?;
            let lock = ClaimLock::take(state)?;
            lineage.turn.ticket = Some(Ticket::draw(state, provider, &note, &lock)?);
        }
        let began = clock::monotonic_ms();
        let waited = match give_up {
            GiveUp::When(fd) => self.wait_for_room(state, request, lineage, cap, fd),
            GiveUp::On(signals) => SignalFd::during(signals, |fd| {
                let waited = self.wait_for_room(state, request, lineage, cap, fd.as_fd());
                // Taken here, or it would end us a moment later and take the error with it.
                if matches!(waited, Err(EngineError::QueueLeft { .. })) {
                    fd.drain()?;
                }
                waited
            })?,
        };
        *lineage.turn.queued_ms.get_or_insert(0) += clock::monotonic_ms() - began;
        waited
    }

    fn wait_for_room(
        &self,
        state: &StateDir,
        request: &StartRequest,
        lineage: &Lineage,
        cap: usize,
        give_up: BorrowedFd<'_>,
    ) -> Result<Option<Started>, EngineError> {
        let provider = &request.provider;
        let host = Host::current()?;
        let folders = [state.live_dir(), state.queue_dir()];
        let watches = |w: &Watch| folders.iter().all(|folder| w.add(folder, DELETE | MOVED_FROM).is_ok());
        let mut watch = Watch::new().ok().filter(watches);
        let mut told = String::new();
        loop {
            let look = || {
                let lock = ClaimLock::take(state)?;
                Ok::<_, EngineError>(Ahead::look(state, provider, lineage.turn.ticket.as_ref(), &lock))
            };
            let mut ahead = look()?;
            if !ahead.leaves_room(cap) && ahead.waiting() == 0 {
                settle_dead(state, provider);
                ahead = look()?;
            }
            if ahead.leaves_room(cap) {
                return Ok(None);
            }
            if let Some(started) = answered(state, request, lineage)? {
                return Ok(Some(started));
            }
            let text = describe(provider, &place_of(state, provider, &ahead, Some(cap)));
            if text != told {
                self.progress(&text);
                told = text;
            }
            let before = ahead.before(&host);
            let mut fds = vec![give_up];
            fds.extend(watch.as_ref().map(AsFd::as_fd));
            fds.extend(before.as_ref().map(AsFd::as_fd));
            let woken = dx_proc::poll::poll(&fds, Some(SAFETY_TICK_MS))?;
            if woken.first() == Some(&true) {
                return Err(EngineError::QueueLeft { provider: provider.to_string() });
            }
            if let Some(watch) = &mut watch {
                let _events = watch.read_events(|_, _, _| {});
            }
        }
    }

    /// What would be refused anyhow is refused at once.
    fn refuse_before_waiting(
        &self,
        state: &StateDir,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<(), EngineError> {
        let beads = id_of(state, request)?;
        if request.idempotency_key.is_none() && !lineage.made_id {
            super::claim::refuse_running(state, &request.provider, &beads)?;
        }
        self.look_only(state, &beads, request, lineage)
    }
}

/// The run of another start with the same key. A restart is one that shall not be answered by the run before.
fn answered(
    state: &StateDir,
    request: &StartRequest,
    lineage: &Lineage,
) -> Result<Option<Started>, EngineError> {
    // With a key an id is given or made from it.
    let key = request.idempotency_key.as_ref().filter(|_| lineage.retries == 0);
    key.map_or(Ok(None), |_| same_key(state, &id_of(state, request)?, request))
}

/// Where a start would stand now.
pub(super) fn place_now(
    state: &StateDir,
    provider: &ProviderName,
    cap: Option<usize>,
) -> Result<QueuePlace, EngineError> {
    let lock = ClaimLock::take(state)?;
    Ok(place_of(state, provider, &Ahead::look(state, provider, None, &lock), cap))
}

fn place_of(state: &StateDir, provider: &ProviderName, ahead: &Ahead, cap: Option<usize>) -> QueuePlace {
    let mine = claim::claims(state).into_iter().filter(|claim| claim.provider == *provider);
    let room = cap.is_none_or(|cap| ahead.leaves_room(cap));
    QueuePlace {
        position: if room { 0 } else { ahead.waiting() as u64 + 1 },
        cap: cap.map(|cap| cap as u64),
        running: mine.map(|claim| claim.beads.to_string()).collect(),
        waiting: ahead.ids(),
    }
}

/// For people who wait.
fn describe(provider: &ProviderName, place: &QueuePlace) -> String {
    /// More ids than this only fill the line.
    const SHOWN: usize = 8;
    let list = |ids: &[String]| {
        let more = if ids.len() > SHOWN { ", …" } else { "" };
        format!("{}{more}", ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "))
    };
    let cap = place.cap.unwrap_or_default();
    let running = match place.running.as_slice() {
        [] => String::new(),
        ids => format!("; {} of {cap} run: {}", ids.len(), list(ids)),
    };
    let waiting = match place.waiting.as_slice() {
        [] => String::new(),
        ids => format!("; before it: {}", list(ids)),
    };
    format!("waiting for a turn of {provider}, place {}{running}{waiting}", place.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_with_those_before_it() {
        let words = |n: usize| (1..=n).map(|n| format!("bd-{n}")).collect::<Vec<String>>();
        let place = |running: usize, waiting: usize| QueuePlace {
            position: waiting as u64 + 1,
            cap: Some(2),
            running: words(running),
            waiting: words(waiting),
        };
        let told = |running, waiting| describe(&"exec".parse().unwrap(), &place(running, waiting));
        assert_eq!(told(2, 0), "waiting for a turn of exec, place 1; 2 of 2 run: bd-1, bd-2");
        assert_eq!(
            told(2, 1),
            "waiting for a turn of exec, place 2; 2 of 2 run: bd-1, bd-2; before it: bd-1"
        );
        assert!(told(0, 9).ends_with("before it: bd-1, bd-2, bd-3, bd-4, bd-5, bd-6, bd-7, bd-8, …"));
    }
}
