//! A new wave: what must be so before it, its folder and first record, and the process of its coordinator.
//!
//! Called by: `wave run` and `wave resume`. Must never leave half a wave: without its first record there is none.

use super::check::Checked;
use super::{COORDINATE, JOURNAL, merge};
use crate::api::{PromptSource, StartRequest, WaveWishes, WorktreeChoice};
use crate::error::EngineError;
use crate::settle::Programs;
use crate::{Engine, start, worktree};
use dx_core::wave::{Wave, fold};
use dx_jobdir::{StateDir, WavePaths, WaveWriter, claim, disk, faults, wave as files};
use dx_proc::clock;
use dx_protocol::{
    BeadsId, ProviderName, Timestamp, WAVE_JOURNAL_SCHEMA, WAVE_JOURNAL_VERSION, WaveCreated, WaveEvent,
    WaveItem, WavePlan, WaveRecord, WaveReview,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long a coordinator may take until its first word on a machine that is busy.
const WORD_PATIENCE_MS: u64 = 20_000;
const WORD_TICK: Duration = Duration::from_millis(5);

impl Engine {
    /// Records a wave. Everything that can be refused is refused before.
    pub(super) fn create_wave(
        &self,
        state: &StateDir,
        file: String,
        checked: Checked,
        wishes: WaveWishes,
    ) -> Result<(String, WavePaths, WaveWriter), EngineError> {
        start::refuse_nested()?;
        let Checked { mut plan, prompts, review_prompts, .. } = checked;
        plan.base = merge::resolve(Path::new(&plan.repo), &plan.base)?;
        self.refuse_unusable(&plan)?;
        let _lock = files::WavesLock::take(state)?;
        self.refuse_taken(state, &plan)?;
        let (id, paths) = files::create(state, &plan.name)?;
        let made = (|| {
            for ((item, prompt), review) in plan.items.iter().zip(&prompts).zip(&review_prompts) {
                if !prompt.is_empty() {
                    paths.put(&paths.prompt(&item.id), prompt)?;
                }
                if !review.is_empty() {
                    paths.put(&paths.review_prompt(&item.id), review)?;
                }
            }
            let writer = WaveWriter::create(&paths)?;
            let created = WaveCreated {
                schema: WAVE_JOURNAL_SCHEMA.to_owned(),
                version: WAVE_JOURNAL_VERSION,
                program: env!("CARGO_PKG_VERSION").to_owned(),
                wave_id: id.clone(),
                file,
                cwd: std::env::current_dir().map_or_else(|_| "-".to_owned(), |cwd| cwd.display().to_string()),
                notify: wishes.notify,
                write_back: wishes.write_back,
                exit_when_parked: wishes.exit_when_parked,
                plan,
            };
            let at = Timestamp(clock::now_ms());
            writer.append(&WaveRecord { at, event: WaveEvent::Created(Box::new(created)) })?;
            disk::sync_dir(paths.dir())?;
            disk::sync_dir(&state.waves_dir())?;
            Ok(writer)
        })();
        faults::step("wave.created");
        match made {
            Ok(writer) => Ok((id, paths, writer)),
            Err(error) => {
                let _removed = disk::remove_dir_all(paths.dir());
                Err(error)
            }
        }
    }

    /// Ids whose job lives, whose worktree or branch is there, or which another wave has: they would be somebody else's.
    fn refuse_taken(&self, state: &StateDir, plan: &WavePlan) -> Result<(), EngineError> {
        let main = worktree::repository(Path::new(&plan.repo))?;
        let places = self.places()?;
        let claims = claim::claims(state);
        let branches = merge::branches(&main)?;
        // A job's id is one in the whole state directory, whatever the repository.
        let waves = open_waves(state);
        let is_here = |wave: &Wave| {
            let there = worktree::repository(Path::new(&wave.created.plan.repo));
            there.is_ok_and(|there| there.common_dir == main.common_dir)
        };
        let taken = |id: &BeadsId| -> Result<Vec<String>, EngineError> {
            let mut why = Vec::new();
            if let Some(wave) = waves.iter().find(|wave| wave.position(id).is_some()) {
                let (other, repo) = (&wave.created.wave_id, &wave.created.plan.repo);
                let of = if is_here(wave) { String::new() } else { format!(" of the repository {repo}") };
                return Ok(vec![format!("{id}: wave {other}{of} has it; dx-runner wave status {other}")]);
            }
            if claims.iter().any(|claim| claim.beads == *id) {
                why.push(format!("{id}: its job is live; dx-runner stop --beads {id}"));
            }
            let place = worktree::place(id, Path::new(&plan.repo), &places)?;
            if place.load().is_some() || place.path().exists() {
                why.push(format!("{id}: it has a worktree; dx-runner worktree remove {id}"));
            } else if branches.iter().any(|branch| branch == id.as_str()) {
                let repo = worktree::quoted(&plan.repo);
                why.push(format!("{id}: there is a branch of this name; git -C {repo} branch -d {id}"));
            }
            Ok(why)
        };
        let mut all = Vec::new();
        for item in &plan.items {
            all.extend(taken(&item.id)?);
        }
        if all.is_empty() { Ok(()) } else { Err(EngineError::WaveItemsTaken(all)) }
    }

    /// Every item must have a provider that could start it now, and so must its review.
    fn refuse_unusable(&self, plan: &WavePlan) -> Result<(), EngineError> {
        let mut known = BTreeMap::new();
        for item in &plan.items {
            let model = |at| item.model.clone().filter(|_| at == 0);
            let by = |(at, provider)| probe(item, provider, model(at), &plan.repo);
            self.refuse_all(item.providers.iter().enumerate().map(by), &mut known)?;
            let review = item.review.as_ref().map(|review| probe_review(review, &item.id, &plan.repo));
            self.refuse_all(review.into_iter(), &mut known)?;
        }
        Ok(())
    }

    /// Refuses with what the first one is refused with when none could be started; each is asked once.
    fn refuse_all(
        &self,
        probes: impl Iterator<Item = StartRequest>,
        known: &mut BTreeMap<Asked, bool>,
    ) -> Result<(), EngineError> {
        let (mut first, mut refused_before) = (None, None);
        for probe in probes {
            let asked = (probe.provider.clone(), probe.model.clone(), probe.profile.clone());
            match known.get(&asked) {
                Some(true) => return Ok(()),
                Some(false) => refused_before = refused_before.or(Some(probe)),
                None => {
                    let refused = self.refuse_unstartable(&probe);
                    known.insert(asked, refused.is_ok());
                    match refused {
                        Ok(()) => return Ok(()),
                        Err(error) => first = first.or(Some(error)),
                    }
                }
            }
        }
        match (first, refused_before) {
            (Some(error), _) => Err(error),
            (None, Some(probe)) => self.refuse_unstartable(&probe),
            (None, None) => Ok(()),
        }
    }

    /// Starts the coordinator's process, which takes the lock over.
    pub(super) fn spawn_coordinator(
        &self,
        state: &StateDir,
        wave: &str,
        writer: &WaveWriter,
    ) -> Result<(), EngineError> {
        let programs = Programs::find()?;
        let config = match &self.settings.config {
            Some(path) => std::path::absolute(path)
                .map_err(|source| EngineError::Io { what: "resolve the configuration file", source })?
                .into_os_string(),
            None => OsString::from("-"),
        };
        let argv: Vec<OsString> =
            vec!["dx-runner".into(), COORDINATE.into(), wave.into(), state.root().into(), config];
        // Providers take their credentials from it.
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let fds = [(writer.as_fd(), JOURNAL)];
        let pid = dx_proc::spawn_detached(&programs.runner, None, &argv, &env, &fds)?;
        await_coordinator(state, wave, pid)
    }
}

/// Waits for the coordinator's first word, so that nobody who asks next is told that there is none. One that is
/// killed before has an heir: whoever resumes.
fn await_coordinator(state: &StateDir, wave: &str, pid: i32) -> Result<(), EngineError> {
    let Some(paths) = WavePaths::of(state, wave) else { return Ok(()) };
    let began = clock::monotonic_ms();
    while clock::monotonic_ms() - began < WORD_PATIENCE_MS && dx_proc::wait::reap(pid).is_err() {
        let spoke = files::read(&paths)?.iter().any(
            |record| matches!(&record.event, WaveEvent::Coordinator { process, .. } if process.pid == pid),
        );
        if spoke {
            break;
        }
        std::thread::sleep(WORD_TICK);
    }
    Ok(())
}

/// The waves that have not ended.
pub(super) fn open_waves(state: &StateDir) -> Vec<Wave> {
    let read = |(_, paths): (String, WavePaths)| fold(&files::read(&paths).ok()?);
    files::all(state).into_iter().filter_map(read).filter(|wave| wave.ended_at.is_none()).collect()
}

/// What of a start makes a difference to its provider.
type Asked = (ProviderName, Option<String>, Option<String>);

fn probe(item: &WaveItem, provider: &ProviderName, model: Option<String>, repo: &str) -> StartRequest {
    let needs_prompt = item.prompt_bytes > 0 || item.unit.is_some();
    StartRequest {
        beads: Some(item.id.clone()),
        prompt: needs_prompt.then(|| PromptSource::Text(b"preflight".to_vec())),
        worktree: WorktreeChoice::Auto,
        repo: Some(repo.to_owned()),
        model,
        allow_model_override: item.unit.as_ref().is_some_and(|unit| unit.allow_model_override),
        command: item.command.clone(),
        profile: item.profile.clone(),
        ..StartRequest::new(provider)
    }
}

fn probe_review(review: &WaveReview, item: &BeadsId, repo: &str) -> StartRequest {
    let needs_prompt = review.command.is_empty();
    StartRequest {
        beads: Some(item.clone()),
        prompt: needs_prompt.then(|| PromptSource::Text(b"preflight".to_vec())),
        worktree: WorktreeChoice::Auto,
        repo: Some(repo.to_owned()),
        model: review.model.clone(),
        command: review.command.clone(),
        profile: review.profile.clone(),
        ..StartRequest::new(&review.provider)
    }
}
