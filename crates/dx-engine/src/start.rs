//! `start` and `restart`: everything is checked and resolved first, then recorded and claimed, then a process begins.
//!
//! Order that loses nothing: run directory and journal (synced) → claim (linked, synced) → `.meta` → the monitor's plan,
//! before which it does nothing → launcher → agent, and the other published files meanwhile. Two syncs; `start` returns when the record says that the agent runs or could not be started.

mod claim;
pub(crate) mod configure;
mod fallback;
mod gates;
mod identity;
mod launch;
mod nested;
mod prepare;
mod queue;

use crate::Engine;
use crate::api::{JobName, PromptSource, StartRequest, Started, WorktreeChoice};
use crate::environment;
use crate::error::EngineError;
use crate::git::Repository;
use crate::prompt::sha256_hex;
use crate::sandbox;
use crate::work::Taking;
use crate::{lookup, tell, worktree};
use claim::{
    Begun, begin, claim_run, publish, refuse_known_parked, refuse_over_cap, refuse_parked, refuse_running,
    same_key,
};
use configure::Configured;
use dx_jobdir::{StateDir, disk, faults, views};
use dx_protocol::{BeadsId, Created, DryRunDocument, Limits};
use identity::{id_of, new_uuid};
use launch::{Ready, confirm, give_up, launch};
use nested::{nested_in, within};
pub(crate) use nested::{refuse_in_job, refuse_nested};
use prepare::Lineage;
pub use queue::GiveUp;
use queue::place_now;
use std::path::Path;
use std::time::Duration;

/// How often an id is made for a start that has none, when others always take it first.
const ID_TRIES: usize = 100;

impl Engine {
    /// Starts a job.
    pub fn start(&self, request: &StartRequest) -> Result<Started, EngineError> {
        let state = self.state()?;
        self.with_fallback(&state, request, |request, lineage| self.start_any(&state, request, &lineage))
    }

    /// A caller's request with everything that is configured.
    fn first_start(
        &self,
        state: &StateDir,
        request: &StartRequest,
    ) -> Result<(StartRequest, Lineage), EngineError> {
        let made_id = request.beads.is_none() && request.idempotency_key.is_none();
        let Configured { request, limits, settings, .. } = self.configure(state, request)?;
        Ok((request, Lineage { made_id, limits, settings, ..Lineage::default() }))
    }

    /// Starts a job, with an id of ours when it has none.
    fn start_any(
        &self,
        state: &StateDir,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<Started, EngineError> {
        for _ in 1..ID_TRIES {
            match self.start_run(state, &id_of(state, request)?, request, lineage) {
                // Another start without an id made the same one at the same time.
                Err(EngineError::AlreadyRunning { .. }) if lineage.made_id => {}
                other => return other,
            }
        }
        self.start_run(state, &id_of(state, request)?, request, lineage)
    }

    /// Starts a program of ours as a job: it may run for ever and be silent.
    pub(crate) fn start_service(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
    ) -> Result<Started, EngineError> {
        let asked = StartRequest { command: Vec::new(), env: Vec::new(), ..request.clone() };
        let Configured { request: configured, limits, settings, .. } = self.configure(state, &asked)?;
        // What is said of jobs' models, lanes and sandboxes is not said of it.
        let request = StartRequest {
            env: [configured.env.as_slice(), request.env.as_slice()].concat(),
            ..request.clone()
        };
        let limits = Limits {
            max_runtime_sec: 0,
            no_mutation_sec: 0,
            max_barren_steps: 0,
            stall_sec: environment::MAX_SECONDS,
            no_op_sec: environment::MAX_SECONDS,
            ..limits
        };
        let lineage = Lineage { limits, settings, ..Lineage::default() };
        self.start_run(state, beads, &request, &lineage)
    }

    /// Starts a job again with the spec of its newest run, which is stopped first when it lives; a run that could not be
    /// started again is not stopped. With `turn` it waits like [`Engine::start_queued`], after that stop: a run that lived
    /// until the turn has come might be what those ahead wait for.
    pub fn restart(&self, job: &JobName, turn: Option<GiveUp<'_>>) -> Result<Started, EngineError> {
        let started = self.restart_by(job, turn, &|live| self.stop(live, None).map(|_| true))?;
        started.ok_or(EngineError::MonitorLost)
    }

    /// The same, with another way to end a run that lives; `None` when that says that the job is not to be started again.
    pub(crate) fn restart_by(
        &self,
        job: &JobName,
        turn: Option<GiveUp<'_>>,
        end: &dyn Fn(&JobName) -> Result<bool, EngineError>,
    ) -> Result<Option<Started>, EngineError> {
        let state = self.state()?;
        nested_in(&state)?;
        let found = lookup::newest_ours(&state, job)?;
        let spec = &found.run.created.spec;
        if spec.command_masked {
            return Err(EngineError::CommandMasked { beads: job.beads.to_string() });
        }
        refuse_redirected(&found.run.created)?;
        let saved = found.paths.prompt();
        // Read before anything ends: with the end of a run secrets are taken out of its copy.
        let prompt = saved_prompt(&found.run.created, &saved)?;
        let request = StartRequest {
            beads: Some(job.beads.clone()),
            provider: found.run.created.ids.provider.clone(),
            prompt: prompt.map(PromptSource::Text),
            worktree: WorktreeChoice::Path(spec.worktree.clone().into()),
            repo: (spec.repo != "-").then(|| spec.repo.clone()),
            model: spec.model.clone(),
            allow_model_override: spec.allow_model_override,
            agent: spec.agent.clone(),
            lane: Some(spec.lane),
            else_lanes: Vec::new(),
            server: spec.server.clone(),
            pty: spec.pty,
            max_runtime: Some(Duration::from_secs(spec.limits.max_runtime_sec)),
            no_mutation_timeout: Some(Duration::from_secs(spec.limits.no_mutation_sec)),
            stall: Some(Duration::from_secs(spec.limits.stall_sec)),
            env: spec
                .env_names
                .iter()
                .cloned()
                .chain(spec.env_values.iter().map(|(k, v)| format!("{k}={v}")))
                .collect(),
            command: spec.command.clone(),
            idempotency_key: spec.idempotency_key.clone(),
            gates: spec.gates.clone(),
            sandbox: spec.sandbox.mode,
            sandbox_write: Some(spec.sandbox.write.iter().map(Into::into).collect()),
            nesting: spec.nesting,
            profile: spec.profile.clone(),
            notify: spec.notify.clone(),
        };
        let mut lineage = Lineage {
            retries: found.run.created.retries + 1,
            limits: spec.limits.clone(),
            settings: self.configure_again(&request.provider, Path::new(&spec.worktree))?,
            prompt_file: Some(spec.prompt_file.clone()),
            ..Lineage::default()
        };
        if found.run.outcome.is_none() {
            if turn.is_none() {
                refuse_over_cap(&state, &request.provider, &lineage, Some(&job.beads))?;
            }
            self.look_only(&state, &job.beads, &request, &lineage)?;
            let provider = Some(found.run.created.ids.provider.clone());
            if !end(&JobName { beads: job.beads.clone(), provider })? {
                return Ok(None);
            }
        }
        let start = |lineage: &Lineage| self.start_run(&state, &job.beads, &request, lineage);
        match turn {
            Some(give_up) => self.in_turn(&state, &request, &mut lineage, give_up, start),
            None => start(&lineage),
        }
        .map(Some)
    }

    /// Refuses what [`Engine::start_run`] would, but for the cap; makes nothing.
    fn look_only(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<(), EngineError> {
        let only_looked_at = Lineage {
            dry: true,
            limits: lineage.limits.clone(),
            settings: lineage.settings.clone(),
            ..Lineage::default()
        };
        let prepared = self.prepare(state, beads, request, &only_looked_at, &new_uuid()?, &mut None)?;
        prepared.snapshot.map(Taking::finish).transpose()?;
        refuse_known_parked(state, &prepared.created)
    }

    /// What `start` would do, without doing it; with `queued`, also for whom it would wait now.
    pub fn dry_run(&self, request: &StartRequest, queued: bool) -> Result<DryRunDocument, EngineError> {
        let state = self.state()?;
        let beads = id_of(&state, request)?;
        let uuid = new_uuid()?;
        let (prepared, request) = self.with_fallback(&state, request, |request, lineage| {
            let lineage = Lineage { dry: true, ..lineage };
            let prepared = self.prepare(&state, &beads, request, &lineage, &uuid, &mut None)?;
            Ok((prepared, request.clone()))
        })?;
        let queue = queued.then(|| place_now(&state, &request.provider, prepared.cap)).transpose()?;
        let contract = prepared.created.contract;
        let files = ["log", "meta", "contract", "outcome", "events.jsonl"]
            .map(|suffix| state.view(&request.provider, &beads, suffix).display().to_string());
        Ok(DryRunDocument {
            schema: "dx-runner/dry-run/1".to_owned(),
            beads: beads.to_string(),
            provider: request.provider.to_string(),
            argv: contract.argv,
            cwd: contract.cwd,
            env_names: contract.env_names,
            prompt_channel: contract.prompt_channel,
            prompt_bytes: contract.prompt_bytes,
            selected_model: contract.selected_model,
            fallback_reason: contract.fallback_reason,
            worktree: prepared.created.spec.worktree,
            files: files.to_vec(),
            sandbox: contract.sandbox,
            queue,
        })
    }

    /// Refuses what [`Self::start_queued`] would refuse by its looks: no other provider is taken.
    pub(crate) fn refuse_unstartable(&self, request: &StartRequest) -> Result<(), EngineError> {
        let state = self.state()?;
        let (request, lineage) = self.first_start(&state, request)?;
        let lineage = Lineage { dry: true, ..lineage };
        let beads = id_of(&state, &request)?;
        self.prepare(&state, &beads, &request, &lineage, &new_uuid()?, &mut None).map(drop)
    }

    fn start_run(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<Started, EngineError> {
        let parent = nested_in(state)?;
        if parent.is_some() && request.notify.is_some() {
            // Whoever starts the job again would run the command outside of what confines the parent.
            return Err(EngineError::Argument("--notify is not for jobs that a job starts".to_owned()));
        }
        let request = &within(parent.as_ref(), request);
        let answer = || if lineage.retries == 0 { same_key(state, beads, request) } else { Ok(None) };
        if let Some(started) = answer()? {
            return Ok(started);
        }
        match self.start_new(state, beads, request, lineage) {
            // A start with the same key was faster.
            Err(refused @ EngineError::AlreadyRunning { .. }) => answer()?.ok_or(refused),
            other => other,
        }
    }

    fn start_new(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<Started, EngineError> {
        refuse_running(state, &request.provider, beads)?;
        let uuid = new_uuid()?;
        let paths = state.run(&uuid);
        let mut worktree = None;
        let claimed =
            self.prepare(state, beads, request, lineage, &uuid, &mut worktree).and_then(|mut prepared| {
                refuse_parked(state, &prepared.created)?;
                let begun = begin(state, &paths, &mut prepared)?;
                faults::step("starter.created");
                if let Err(refused) = claim_run(state, &paths, &prepared, lineage) {
                    drop(begun);
                    let _removed = disk::remove_dir_all(paths.dir());
                    let _removed = std::fs::remove_dir(state.tmp(&uuid));
                    return Err(refused);
                }
                Ok((prepared, begun))
            });
        if let (Err(_), Some(worktree)) = (&claimed, &worktree) {
            worktree::undo_unused(state, worktree);
        }
        let (prepared, Begun { journal, at, monitor }) = claimed?;
        let mut warnings = sandbox::warnings(&prepared.created.contract.sandbox);
        warnings.extend(prepared.warnings.iter().cloned());
        // The claim keeps it from here on.
        warnings.extend(worktree.map(|worktree| worktree.warnings).unwrap_or_default());
        faults::step("starter.claimed");
        let mut ready = Ready::default();
        // While the monitor begins the agent. It does the same later, should this fail or we be killed.
        let mut shown = Ok(());
        let mut show = || shown = views::publish_files(state, &paths, &prepared.created);
        let started = publish(state, &prepared.created, at)
            .and_then(|()| launch(state, &paths, &prepared, &journal, monitor, &mut ready, &mut show))
            .and_then(|()| confirm(&paths, &prepared.created.contract.argv))
            .map_err(|error| match error {
                // Its program is the shell, which was there.
                EngineError::SpawnFailed { message } if prepared.plan.adapter => {
                    EngineError::AdapterBroken { message, beads: beads.to_string() }
                }
                other => other,
            });
        if let Err(error) = shown {
            warnings
                .push(format!("not all files of the job have their names yet: {error}: {}", error.source));
        }
        if started.is_ok() {
            warnings.extend(tell::begin(state, &prepared.created));
        }
        match started {
            Ok(pid) => Ok(Started {
                ids: prepared.created.ids.clone(),
                pid,
                log: state.view(&request.provider, beads, "log"),
                worktree: prepared.created.spec.worktree.clone(),
                selected_model: prepared.created.contract.selected_model.clone(),
                warnings,
                fresh: true,
                queued_ms: lineage.turn.queued_ms,
            }),
            Err(error) => {
                give_up(state, &paths, &journal, &ready);
                Err(error)
            }
        }
    }
}

/// The prompt of a run, as it was: from our copy, or from the file that was named, when our copy had a secret and is
/// masked.
fn saved_prompt(created: &Created, saved: &Path) -> Result<Option<Vec<u8>>, EngineError> {
    let contract = &created.contract;
    if contract.prompt_bytes == 0 {
        return Ok(None);
    }
    let same = |path: &Path| {
        let bytes = dx_jobdir::read_bounded(path, contract.prompt_bytes + 1).ok()?;
        (sha256_hex(&bytes) == contract.prompt_sha256).then_some(bytes)
    };
    let named = Path::new(&created.spec.prompt_file);
    let whole = std::fs::metadata(saved).is_ok_and(|m| m.len() == contract.prompt_bytes);
    let found = same(saved).or_else(|| if whole && named.is_absolute() { same(named) } else { None });
    found.map(Some).ok_or_else(|| {
        let why = if whole {
            "the copy of the prompt held a secret and is masked, and the file that was named is not what it was"
        } else {
            "the copy of the prompt is gone or not whole"
        };
        EngineError::PromptUnreadable { path: saved.to_owned(), source: std::io::Error::other(why) }
    })
}

/// A worktree that is gone, or leads to another repository than at the start of its run: a new run would take that for the
/// truth.
fn refuse_redirected(created: &Created) -> Result<(), EngineError> {
    let Some(then) = &created.tree else { return Ok(()) };
    let tree = Path::new(&then.work_tree);
    // A link that leads nowhere is not gone.
    if tree.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Err(EngineError::WorktreeMissing(tree.to_owned()));
    }
    let same = Repository::find(tree).is_some_and(|now| {
        now.git_dir == Path::new(&then.git_dir) && now.common_dir == Path::new(&then.common_dir)
    });
    if same { Ok(()) } else { Err(EngineError::WorktreeMisled(then.work_tree.clone().into())) }
}
