//! The coordinator of one wave: the holder of its lock. It asks what is next, records it, and has it done in threads, which
//! tell it what became of it.
//!
//! Called by: the hidden entry, in a process of its own. It may be killed at any instant: what it had decided is in the
//! journal, what was started goes on, and its successor asks the same questions.

use super::attempt::{Attempt, Ground};
use super::courier::Couriers;
use super::merge::{self, Start, Tip};
use super::review::Review;
use super::{attempt, review};
use crate::Engine;
use crate::error::{EngineError, told};
use crate::git::despite_kills;
use crate::worktree;
use dx_core::wave::{Item, Phase, Step, Wave, next_steps};
use dx_jobdir::{StateDir, WavePaths, WaveWriter, disk, faults, pools, wave as files};
use dx_monitor::record_of;
use dx_proc::{ProcessIdentity, clock};
use dx_protocol::{MergeConflict, ProviderName, QuotaPool, ReasonCode, Timestamp, WaveEvent, WaveRecord};
use std::collections::BTreeMap;
use std::io::PipeWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often the request to cancel is looked for.
const TICK: Duration = Duration::from_millis(500);
/// Threads here call git and wait; they need little.
const STACK: usize = 1 << 20;

/// What a thread tells: an event of its item, or that it is done with it.
struct Told {
    item: usize,
    thread: u64,
    event: Option<WaveEvent>,
}

/// The holder of a wave's lock, at work.
pub(super) struct Coordinator {
    ground: Ground,
    writer: WaveWriter,
    wave: Wave,
    sender: Sender<Told>,
    receiver: Receiver<Told>,
    /// Held open until the wave is cancelled.
    go_on: Option<PipeWriter>,
    /// Items that a thread works on, and which.
    busy: BTreeMap<usize, u64>,
    threads: u64,
    couriers: Couriers,
}

impl Coordinator {
    pub(super) fn new(
        engine: Engine,
        state: StateDir,
        paths: WavePaths,
        writer: WaveWriter,
    ) -> Result<Self, EngineError> {
        let records = files::read(&paths)?;
        let resumed = records.iter().any(|record| matches!(record.event, WaveEvent::Coordinator { .. }));
        let wave = dx_core::wave::fold(&records).ok_or(EngineError::MonitorLost)?;
        let (sender, receiver) = channel();
        let pipe = std::io::pipe().map_err(|source| EngineError::Io { what: "make a pipe", source })?;
        let (cancelled, go_on) = (Arc::new(pipe.0), (!wave.cancelling).then_some(pipe.1));
        let ground = Ground {
            engine,
            state,
            paths,
            wave_id: wave.created.wave_id.clone(),
            repo: PathBuf::from(&wave.created.plan.repo),
            cancelling: Arc::new(AtomicBool::new(wave.cancelling)),
            cancelled,
        };
        let couriers = Couriers::start(&ground.engine, &wave.created, &ground.paths, &records)?;
        let busy = BTreeMap::new();
        let mut this = Self { ground, writer, wave, sender, receiver, go_on, busy, threads: 0, couriers };
        let process = record_of(&ProcessIdentity::of_self()?);
        this.record(WaveEvent::Coordinator { process, resumed })?;
        Ok(this)
    }

    /// Works until all items are closed and everything is merged, or, when that is wished, until nothing can be done before a
    /// parked provider takes something again.
    pub(super) fn run(&mut self) -> Result<(), EngineError> {
        faults::step("wave.began");
        loop {
            self.look_for_cancel()?;
            self.take_up()?;
            let is_probed = self.follow_ledger()?;
            let next = next_steps(&self.wave, Timestamp(clock::now_ms()));
            if next.finished {
                break;
            }
            if next.steps.is_empty() {
                let is_parked = next.wait_until.is_some() && self.wave.in_flight() == 0 && !is_probed;
                if is_parked && self.wave.created.exit_when_parked {
                    return Ok(());
                }
                self.listen()?;
                continue;
            }
            for step in next.steps {
                self.take(step)?;
            }
        }
        self.finish()
    }

    fn record(&mut self, event: WaveEvent) -> Result<(), EngineError> {
        let record = WaveRecord { at: Timestamp(clock::now_ms()), event: printable(event) };
        self.writer.append(&record)?;
        self.wave.apply(&record);
        self.couriers.tell(&record);
        Ok(())
    }

    /// Gives up the lock; what is still to be told needs none.
    pub(super) fn into_couriers(self) -> Couriers {
        self.couriers
    }

    fn look_for_cancel(&mut self) -> Result<(), EngineError> {
        if !self.wave.cancelling && self.ground.paths.cancel().exists() {
            self.record(WaveEvent::Cancelling)?;
            self.ground.cancelling.store(true, Ordering::Relaxed);
            self.go_on = None;
        }
        Ok(())
    }

    /// What all jobs know by now of what is parked here. Tells whether one of them tries right now if it takes something
    /// again.
    fn follow_ledger(&mut self) -> Result<bool, EngineError> {
        let mine: Vec<(QuotaPool, Timestamp)> = self
            .wave
            .parked
            .values()
            .filter_map(|parked| Some((parked.ledger.clone()?, parked.until)))
            .collect();
        if mine.is_empty() {
            return Ok(false);
        }
        let now = Timestamp(clock::now_ms());
        let ledger = pools::parked(&self.ground.state, now);
        for (pool, known) in &mine {
            let until = ledger.iter().find(|line| line.pool == *pool).map(|line| line.until);
            if until != Some(*known).filter(|known| *known > now) {
                self.record(WaveEvent::Parked { pool: pool.clone(), until })?;
            }
        }
        Ok(ledger.iter().any(|line| line.probed && mine.iter().any(|(pool, _)| *pool == line.pool)))
    }

    /// What is under way by the journal and has no thread: a predecessor's.
    fn take_up(&mut self) -> Result<(), EngineError> {
        for at in 0..self.wave.items.len() {
            let item = &self.wave.items[at];
            match item.phase {
                Phase::Attempt if !self.busy.contains_key(&at) => self.work_on_attempt(at)?,
                Phase::Review if !self.busy.contains_key(&at) => self.work_on_review(at)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), EngineError> {
        match step {
            Step::Close { item, state, reason, message } => {
                let item = self.wave.items[item].plan.id.clone();
                self.record(WaveEvent::Closed { item, state, reason, message })?;
                faults::step("wave.closed");
                Ok(())
            }
            Step::Attempt { item, number, provider } => self.begin(item, number, provider),
            Step::Review { item, round } => {
                let plan = &self.wave.items[item];
                let (id, attempt) = (plan.plan.id.clone(), plan.attempts.len() as u32);
                self.record(WaveEvent::Review { item: id, attempt, round })?;
                faults::step("wave.review_decided");
                self.work_on_review(item)
            }
        }
    }

    /// Decides where the item begins, records the attempt, and has it done.
    fn begin(&mut self, at: usize, number: u32, provider: ProviderName) -> Result<(), EngineError> {
        let item = self.wave.items[at].plan.id.clone();
        let base = match &self.wave.items[at].base {
            Some(base) => base.clone(),
            None => match despite_kills(|| self.base_of(&self.wave.items[at])) {
                Ok(Ok(base)) => base,
                Ok(Err(conflict)) => {
                    let message = conflict_text(&conflict);
                    return self.refuse(at, number, provider, ReasonCode::MergeConflict, message);
                }
                Err(error) => {
                    return self.refuse(at, number, provider, error.reason(), told(&error));
                }
            },
        };
        self.record(WaveEvent::Attempt { item, attempt: number, provider, base })?;
        faults::step("wave.attempt_decided");
        self.work_on_attempt(at)
    }

    fn refuse(
        &mut self,
        at: usize,
        attempt: u32,
        provider: ProviderName,
        reason: ReasonCode,
        message: String,
    ) -> Result<(), EngineError> {
        let item = self.wave.items[at].plan.id.clone();
        self.record(WaveEvent::Refused { item, attempt, provider, reason, message, until: None, pool: None })
    }

    /// The merge of everything that the item needs; the inner error is what does not fit.
    fn base_of(&self, item: &Item) -> Result<Result<String, MergeConflict>, EngineError> {
        let base = &self.wave.created.plan.base;
        let needs: Vec<&Item> = item
            .plan
            .needs
            .iter()
            .filter_map(|need| self.wave.position(need))
            .map(|at| &self.wave.items[at])
            .collect();
        let tips: Vec<Tip<'_>> = needs
            .iter()
            .filter_map(|need| Some(Tip { item: &need.plan.id, commit: need.commit.as_deref()? }))
            .collect();
        let main = worktree::repository(&self.ground.repo)?;
        let message = format!("Base of {} in wave {}: merge", item.plan.id, self.ground.wave_id);
        let sum = merge::sum(&main, &Start { name: base, commit: base }, &tips, &message)?;
        Ok(match sum.conflicts.into_iter().next() {
            Some(conflict) => Err(conflict),
            None => Ok(sum.commit),
        })
    }

    fn work_on_attempt(&mut self, at: usize) -> Result<(), EngineError> {
        let item = &self.wave.items[at];
        let Some(newest) = item.attempt() else { return Ok(()) };
        let usable = |name: &&ProviderName| **name != newest.provider && self.wave.is_usable(item, name);
        let task = Attempt {
            item: item.plan.clone(),
            number: newest.number,
            counted: item.counted(),
            provider: newest.provider.clone(),
            base: item.base.clone().unwrap_or_default(),
            findings: item.findings.clone(),
            first_run: item
                .attempts
                .first()
                .filter(|_| item.attempts.len() > 1)
                .and_then(|first| first.run.clone()),
            others: item.plan.providers.iter().filter(usable).count(),
        };
        self.have_done(at, move |ground, tell| attempt::run(ground, &task, tell))
    }

    fn work_on_review(&mut self, at: usize) -> Result<(), EngineError> {
        let item = &self.wave.items[at];
        let Some(review) = item.plan.review.clone() else { return Ok(()) };
        let base = item.base.clone().unwrap_or_default();
        let task = Review {
            item: item.plan.clone(),
            by: review,
            attempt: item.attempts.len() as u32,
            round: item.review_round,
            commit: item.commit.clone().unwrap_or_else(|| base.clone()),
            base,
        };
        self.have_done(at, move |ground, tell| review::run(ground, &task, tell))
    }

    fn have_done(
        &mut self,
        item: usize,
        work: impl FnOnce(&Ground, &mut dyn FnMut(WaveEvent)) + Send + 'static,
    ) -> Result<(), EngineError> {
        self.threads += 1;
        let (ground, sender, thread) = (self.ground.clone(), self.sender.clone(), self.threads);
        // A coordinator that is gone hears nothing, and needs not.
        let body = move || {
            work(&ground, &mut |event| drop(sender.send(Told { item, thread, event: Some(event) })));
            drop(sender.send(Told { item, thread, event: None }));
        };
        let spawned = std::thread::Builder::new().stack_size(STACK).spawn(body);
        spawned.map_err(|source| EngineError::Io { what: "start a thread", source })?;
        self.busy.insert(item, thread);
        Ok(())
    }

    /// Waits for what threads tell, and records it.
    fn listen(&mut self) -> Result<(), EngineError> {
        match self.receiver.recv_timeout(TICK) {
            Ok(told) => {
                self.hear(told)?;
                while let Ok(told) = self.receiver.try_recv() {
                    self.hear(told)?;
                }
                Ok(())
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn hear(&mut self, told: Told) -> Result<(), EngineError> {
        let Some(event) = told.event else {
            // The next one may be at work already.
            if self.busy.get(&told.item) == Some(&told.thread) {
                self.busy.remove(&told.item);
            }
            return Ok(());
        };
        let step = match &event {
            WaveEvent::Started { .. } => "wave.started",
            WaveEvent::Judged { .. } => "wave.judged",
            WaveEvent::ReviewStarted { .. } => "wave.review_started",
            WaveEvent::Reviewed { .. } => "wave.reviewed",
            _ => "wave.refused",
        };
        self.record(event)?;
        faults::step(step);
        Ok(())
    }

    /// Merges what is done, and ends the wave.
    fn finish(&mut self) -> Result<(), EngineError> {
        if let Some(branch) = self.wave.created.plan.merge_into.clone().filter(|_| self.wave.wants_merge()) {
            let event = despite_kills(|| self.integrate(&branch)).unwrap_or_else(|error| WaveEvent::Merged {
                branch,
                commit: None,
                conflicts: Vec::new(),
                message: told(&error),
            });
            faults::step("wave.integrated");
            self.record(event)?;
            faults::step("wave.merged");
        }
        self.record(WaveEvent::Ended)?;
        faults::step("wave.ended");
        for item in &self.wave.items {
            // Prompts are the user's; they are kept no longer than they are needed.
            disk::remove(&self.ground.paths.prompt(&item.plan.id))?;
            disk::remove(&self.ground.paths.review_prompt(&item.plan.id))?;
        }
        Ok(())
    }

    fn integrate(&self, branch: &str) -> Result<WaveEvent, EngineError> {
        let main = worktree::repository(&self.ground.repo)?;
        let done = self.wave.items.iter().filter(|item| item.is_done());
        let tips: Vec<Tip<'_>> = done
            .filter_map(|item| Some(Tip { item: &item.plan.id, commit: item.commit.as_deref()? }))
            .collect();
        let plan = &self.wave.created.plan;
        let sum = merge::integrate(&main, &plan.base, branch, &tips, &self.ground.wave_id)?;
        Ok(WaveEvent::Merged {
            branch: branch.to_owned(),
            commit: Some(sum.commit),
            conflicts: sum.conflicts,
            message: String::new(),
        })
    }
}

/// What checks and reviewers say, and the names of files, are for terminals and prompts, which not every byte is good for.
fn printable(mut event: WaveEvent) -> WaveEvent {
    let texts: Vec<&mut String> = match &mut event {
        WaveEvent::Judged { findings, notes, .. } => findings.iter_mut().chain(notes).collect(),
        WaveEvent::Reviewed { findings, .. } => findings.iter_mut().collect(),
        WaveEvent::Refused { message, .. } => vec![message],
        WaveEvent::Merged { conflicts, message, .. } => {
            conflicts.iter_mut().flat_map(|conflict| &mut conflict.paths).chain([message]).collect()
        }
        _ => Vec::new(),
    };
    for text in texts {
        *text = dx_events::printable(text);
    }
    event
}

/// Who does not fit with whom, and where.
pub(crate) fn conflict_text(conflict: &MergeConflict) -> String {
    let [a, b] = &conflict.items;
    format!("the work of {a} and {b} does not fit together: {}", conflict.paths.join("; "))
}
