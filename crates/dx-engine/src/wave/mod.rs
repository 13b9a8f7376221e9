//! Waves: jobs with dependencies. A file says what is to be done, a journal what was; between them a coordinator.
//!
//! Decisions are `dx_core::wave`'s; here are the effects, one kind in each file. Must never start anything that the
//! journal has not decided.

mod attempt;
mod beads;
mod check;
mod coordinator;
mod courier;
mod create;
mod file;
mod merge;
mod prompt;
mod review;
mod show;
mod unit;
mod verdict;
mod watch;
mod write_back;

pub(crate) use coordinator::conflict_text;
pub use file::{Problem, WaveFileError};

use crate::Engine;
use crate::api::{WaveSource, WaveWishes};
use crate::error::{EngineError, told};
use crate::notify;
use check::Checked;
use coordinator::Coordinator;
use courier::Couriers;
use dx_core::wave::{Notices, Wave, fold};
use dx_jobdir::{DiskFile, StateDir, WavePaths, WaveWriter, wave as files};
use dx_proc::{Host, PidFd, clock};
use dx_protocol::{
    BeadsId, WaveDocument, WaveItem, WaveNotice, WavePlan, WavePlanDocument, WaveRecord, WaveState,
};
use rustix::process::Signal;
use show::state_of;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hidden entry of a coordinator: `__wave <wave> <state dir> <config or ->`.
pub const COORDINATE: &str = "__wave";
/// How long a coordinator may take to clear up after the end, or to hear of a cancel.
const CLEAR_PATIENCE_MS: u64 = 5_000;
const CLEAR_TICK: Duration = Duration::from_millis(10);
/// The journal's descriptor in a coordinator, with its lock.
const JOURNAL: i32 = 3;

impl Engine {
    /// Reads a wave file, or the issues of Beads, and draws the graph; starts nothing.
    pub fn wave_plan(&self, source: &WaveSource) -> Result<WavePlanDocument, EngineError> {
        let Checked { plan, layers, left_out, .. } = self.read_wave(source)?;
        let name = |at: &usize| plan.items[*at].id.to_string();
        let layers = layers.iter().map(|layer| layer.iter().map(name).collect()).collect();
        Ok(WavePlanDocument {
            schema: "dx-runner/wave-plan/1".to_owned(),
            file: source.name(),
            layers,
            plan,
            left_out,
        })
    }

    /// Checks what is to be done, records the wave and starts its coordinator, which outlives us.
    pub fn wave_run(&self, source: &WaveSource, wishes: WaveWishes) -> Result<WaveDocument, EngineError> {
        if let Some(notify) = &wishes.notify {
            notify::check(notify)?;
        }
        let checked = self.read_wave(source)?;
        let state = self.state()?;
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let file =
            source.file.as_deref().map_or_else(|| source.name(), |path| absolute(path).display().to_string());
        let (id, paths, writer) = self.create_wave(&state, file, checked, wishes)?;
        self.spawn_coordinator(&state, &id, &writer)?;
        drop(writer);
        self.show_wave(&id, &paths)
    }

    /// Gives a wave whose coordinator is gone another one, also one that has ended and could not be merged, or was not told to
    /// all who want to hear of it.
    pub fn wave_resume(&self, wave: &str) -> Result<WaveDocument, EngineError> {
        // Without the secret of its receiver all notices would be left out.
        self.take_over(wave, |wave| match &wave.created.notify {
            Some(notify) => notify::check_secret(notify, Path::new(&wave.created.cwd)),
            None => Ok(()),
        })
    }

    /// Gives it a coordinator when nobody is at work.
    fn take_over(
        &self,
        wave: &str,
        check: impl FnOnce(&Wave) -> Result<(), EngineError>,
    ) -> Result<WaveDocument, EngineError> {
        crate::start::refuse_nested()?;
        let (state, paths) = (self.state()?, self.wave_paths(wave)?);
        let writer = lock(wave, &paths)?;
        let records = files::read(&paths)?;
        if let Some(folded) = fold(&records) {
            let is_over = folded.ended_at.is_some() && !folded.wants_merge();
            if is_over && !courier::is_left(&paths, &records) {
                return Err(EngineError::WaveEnded { wave: wave.to_owned() });
            }
            check(&folded)?;
        }
        self.spawn_coordinator(&state, wave, &writer)?;
        drop(writer);
        self.show_wave(wave, &paths)
    }

    /// Coordinates a wave in this process, to its end: the one with this plan's name, when it was begun before. The name must
    /// belong to nothing else.
    pub(crate) fn carry_out(&self, plan: &WavePlan) -> Result<Wave, EngineError> {
        let state = self.state()?;
        let is_this = |(_, paths): &(String, WavePaths)| {
            let wave = files::read(paths).ok().and_then(|records| fold(&records));
            wave.is_some_and(|wave| wave.created.plan.name == plan.name)
        };
        let mut begun = files::all(&state).into_iter().filter(|(id, _)| id.starts_with(&plan.name));
        let (paths, writer) = if let Some((id, paths)) = begun.find(is_this) {
            let writer = lock(&id, &paths)?;
            (paths, writer)
        } else {
            let none = vec![Vec::new(); plan.items.len()];
            let (plan, layers) = (plan.clone(), Vec::new());
            let (prompts, review_prompts, left_out) = (none.clone(), none, Vec::new());
            let checked = Checked { plan, layers, prompts, review_prompts, left_out };
            let (_, paths, writer) =
                self.create_wave(&state, "-".to_owned(), checked, WaveWishes::default())?;
            (paths, writer)
        };
        if ended(&paths)?.is_none_or(|wave| wave.wants_merge()) {
            Coordinator::new(self.clone(), state, paths.clone(), writer)?.run()?;
        }
        fold(&files::read(&paths)?).ok_or(EngineError::MonitorLost)
    }

    /// Asks a wave's coordinator to end everything; a wave without one gets one for that.
    pub fn wave_cancel(&self, wave: &str) -> Result<WaveDocument, EngineError> {
        let paths = self.wave_paths(wave)?;
        let document = self.show_wave(wave, &paths)?;
        if document.state.has_ended() {
            return Err(EngineError::WaveEnded { wave: wave.to_owned() });
        }
        match DiskFile::create_new(&paths.cancel()) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let began = clock::monotonic_ms();
        loop {
            match self.take_over(wave, |_| Ok(())) {
                // A coordinator that dies now has not heard of it, and needs a successor.
                Err(EngineError::WaveRunning { .. }) => {
                    let records = files::read(&paths)?;
                    let heard = fold(&records).is_none_or(|wave| wave.cancelling);
                    let waited = clock::monotonic_ms() - began;
                    // One that is stopped hears nothing, and its successor ends the wave as well, who may not have begun yet.
                    let is_deaf = waited > CLEAR_PATIENCE_MS && show::is_coordinated(&records);
                    if heard || (is_deaf && !end_if_stopped(&records)?) || waited > 4 * CLEAR_PATIENCE_MS {
                        return self.show_wave(wave, &paths);
                    }
                }
                Err(EngineError::WaveEnded { .. }) => return self.show_wave(wave, &paths),
                other => return other,
            }
            std::thread::sleep(CLEAR_TICK);
        }
    }

    /// How a wave stands.
    pub fn wave_status(&self, wave: &str) -> Result<WaveDocument, EngineError> {
        self.show_wave(wave, &self.wave_paths(wave)?)
    }

    /// Each change of a wave and its items so far, as `--notify` tells it; and how the wave stood before the look.
    pub fn wave_events(&self, wave: &str) -> Result<(WaveState, Vec<WaveNotice>), EngineError> {
        let paths = self.wave_paths(wave)?;
        let seen = show::read(&paths)?
            .ok_or_else(|| EngineError::NoWave { wave: wave.to_owned(), near: Vec::new() })?;
        let mut notices = Notices::default();
        let all = seen.records.iter().filter_map(|record| notices.next(record)).collect();
        Ok((seen.state, all))
    }

    /// The journal of a wave, for who follows it.
    pub fn wave_journal(&self, wave: &str) -> Result<PathBuf, EngineError> {
        Ok(self.wave_paths(wave)?.journal())
    }

    fn wave_paths(&self, wave: &str) -> Result<WavePaths, EngineError> {
        let state = self.state_for_reading()?;
        let is_one = |paths: &WavePaths| paths.journal().exists() && !show::is_empty(paths);
        let known = |state: &StateDir| WavePaths::of(state, wave).filter(is_one);
        if let Some(paths) = state.as_ref().and_then(known) {
            return Ok(paths);
        }
        let all = state.as_ref().map(files::all).unwrap_or_default();
        let mut near: Vec<String> = all
            .into_iter()
            .filter(|(_, paths)| is_one(paths))
            .map(|(id, _)| id)
            .filter(|id| strsim::jaro_winkler(id, wave) > 0.7 || id.starts_with(wave))
            .collect();
        near.sort();
        near.truncate(3);
        Err(EngineError::NoWave { wave: wave.to_owned(), near })
    }
}

/// The jobs of waves that have not ended, which still need them and their worktrees.
pub(crate) struct OpenJobs(Vec<Wave>);

impl OpenJobs {
    pub(crate) fn read(state: &StateDir) -> Self {
        Self(create::open_waves(state))
    }

    /// The wave that a job belongs to: that of an item, a unit's step, or a review.
    pub(crate) fn wave_of(&self, job: &BeadsId) -> Option<&str> {
        let is_of = |item: &WaveItem| match job.as_str().strip_prefix(item.id.as_str()) {
            Some(rest) => rest.is_empty() || item.unit.is_some() || rest.starts_with(review::MARK),
            None => false,
        };
        let wave = self.0.iter().find(|wave| wave.created.plan.items.iter().any(is_of))?;
        Some(&wave.created.wave_id)
    }
}

/// The wave, when it has ended.
fn ended(paths: &WavePaths) -> Result<Option<Wave>, EngineError> {
    Ok(fold(&files::read(paths)?).filter(|wave| wave.ended_at.is_some()))
}

/// The right to coordinate a wave that nobody coordinates.
fn lock(wave: &str, paths: &WavePaths) -> Result<WaveWriter, EngineError> {
    let began = clock::monotonic_ms();
    loop {
        if let Some(writer) = WaveWriter::try_lock(paths)? {
            return Ok(writer);
        }
        // The coordinator of one that has ended clears up for moments. That of one that was killed may have left a child which
        // has not begun its program yet, and holds the lock until then.
        let records = files::read(paths)?;
        let works = fold(&records).is_none_or(|wave| state_of(&wave, &records) == WaveState::Running);
        if works || clock::monotonic_ms() - began > CLEAR_PATIENCE_MS {
            return Err(EngineError::WaveRunning { wave: wave.to_owned() });
        }
        std::thread::sleep(CLEAR_TICK);
    }
}

/// Ends the newest coordinator when a signal has stopped it; whether it did. It may be killed at any instant.
fn end_if_stopped(records: &[WaveRecord]) -> Result<bool, EngineError> {
    let host = Host::current()?;
    let Some(stopped) = show::coordinator(records).filter(|process| host.is_stopped(process)) else {
        return Ok(false);
    };
    let Some(process) = PidFd::open_verified_on(&host, &stopped)? else { return Ok(true) };
    Ok(process.send_signal(Signal::KILL.as_raw())?)
}

/// All that is left of a wave that is over is that somebody hears of it.
fn tell_the_rest(engine: &Engine, paths: &WavePaths) -> Option<Result<(), EngineError>> {
    let records = files::read(paths).ok()?;
    let wave = fold(&records).filter(|wave| wave.ended_at.is_some() && !wave.wants_merge())?;
    let couriers = Couriers::start(engine, &wave.created, paths, &records);
    Some(couriers.map(|couriers| couriers.finish(false)))
}

/// The coordinator's process; 0 when the wave has ended.
pub fn coordinate(wave: &str, state_dir: &Path, config: Option<&Path>) -> i32 {
    let state = StateDir::trusted(state_dir.to_owned());
    let Some(paths) = WavePaths::of(&state, wave) else { return 1 };
    let Some(lock) = dx_proc::inherit::take(JOURNAL) else { return 1 };
    let writer = WaveWriter::inherited(lock, &paths);
    let settings = crate::Settings {
        state_dir: Some(state_dir.to_owned()),
        config: config.map(Path::to_owned),
        progress: None,
    };
    let engine = Engine::new(settings);
    if let Some(told) = tell_the_rest(&engine, &paths) {
        return i32::from(told.is_err());
    }
    let coordinator = Coordinator::new(engine, state, paths.clone(), writer);
    let (worked, couriers) = match coordinator {
        Ok(mut coordinator) => (coordinator.run(), Some(coordinator.into_couriers())),
        Err(error) => (Err(error), None),
    };
    // One that failed is resumable, too; but nobody says when, and only the courier tells of it.
    let is_left = worked.is_ok() && !matches!(ended(&paths), Ok(Some(_)));
    let code = match worked {
        Ok(()) => 0,
        Err(error) => {
            // For who looks why a wave stands still; the journal may be what cannot be written.
            let text = format!("{}\n", told(&error));
            let _told = dx_jobdir::disk::replace(&paths.dir().join("failure"), text.as_bytes());
            1
        }
    };
    if let Some(couriers) = couriers {
        couriers.finish(is_left);
    }
    code
}
