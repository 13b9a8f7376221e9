//! `start` and `restart`: everything is checked and resolved first, then recorded and claimed, then a process begins.
//!
//! Order that loses nothing: run directory and journal (synced) → claim (linked, synced) → views → monitor → launcher →
//! agent. Two syncs; `start` returns when the record says that the agent runs or could not be started.

use crate::api::{JobName, PromptSource, StartRequest, Started, WorktreeChoice};
use crate::environment::{self, ExtraEnv};
use crate::error::EngineError;
use crate::git::Repository;
use crate::lookup::{self, Found, Record};
use crate::prompt::{Prompt, sha256_hex};
use crate::providers::{self, Resolved, Wish};
use crate::settle::{self, Attended, Programs, attend};
use crate::work::Snapshot;
use crate::{Engine, permission, worktree};
use dx_jobdir::{
    ClaimLock, DiskFile, ExitFile, JournalWriter, RunPaths, StateDir, claim, disk, faults, views,
};
use dx_monitor::{Invocation, JOURNAL_FD, MARKER, PLAN_FD, Plan, READY_FD, SETTLER_FD, record_of};
use dx_proc::{Host, ProcessIdentity, clock};
use dx_protocol::{
    BeadsId, Contract, Created, DryRunDocument, Event, JOURNAL_SCHEMA, JOURNAL_VERSION, JobSpec, Limits,
    ProviderName, RunIds, RunUuid, Timestamp, Writer,
};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long `start` waits for the word that the agent runs. A loaded machine may be slow; a dead monitor is noticed at
/// once, by its pipe.
const READY_PATIENCE: Duration = Duration::from_mins(1);
/// How often a monitor that was killed before it had a launcher is started lineage.
const MONITOR_TRIES: usize = 3;

/// How often an id is made for a start that has none, when others always take it first.
const ID_TRIES: usize = 100;

/// Everything about a run that is known before anything is written.
struct Prepared {
    created: Created,
    prompt: Prompt,
    snapshot: Option<Snapshot>,
    plan: Plan,
    cap: Option<usize>,
}

/// Where a run comes from; the default is a first start of an id that the caller gave.
#[derive(Debug, Default)]
struct Lineage {
    /// The id was made here: no job, live or ended, may have it.
    made_id: bool,
    /// What a restart takes over from the run before.
    retries: u32,
    /// As they were recorded; a first start takes them from the environment.
    limits: Option<Limits>,
    /// The prompt's name as it was given; it is read from the copy.
    prompt_file: Option<String>,
}

impl Engine {
    /// Starts a job.
    pub fn start(&self, request: &StartRequest) -> Result<Started, EngineError> {
        let state = self.state()?;
        let made_id = request.beads.is_none() && request.idempotency_key.is_none();
        let lineage = Lineage { made_id, ..Lineage::default() };
        for _ in 1..ID_TRIES {
            let beads = id_of(&state, request)?;
            match self.start_run(&state, &beads, request, &lineage) {
                // Another start without an id made the same one at the same time.
                Err(EngineError::AlreadyRunning { .. }) if made_id => {}
                other => return other,
            }
        }
        self.start_run(&state, &id_of(&state, request)?, request, &lineage)
    }

    /// Starts a job again with the spec of its newest run, which is stopped first when it lives; a run that could not be
    /// started again is not stopped.
    pub fn restart(&self, job: &JobName) -> Result<Started, EngineError> {
        refuse_nested()?;
        let state = self.state()?;
        let found = lookup::newest_ours(&state, job)?;
        let spec = &found.run.created.spec;
        let saved = found.paths.prompt();
        let has_prompt = found.run.created.contract.prompt_bytes > 0;
        if has_prompt && !saved.exists() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(EngineError::PromptUnreadable { path: saved, source });
        }
        let request = StartRequest {
            beads: Some(job.beads.clone()),
            provider: found.run.created.ids.provider.clone(),
            prompt: has_prompt.then_some(PromptSource::File(saved)),
            worktree: WorktreeChoice::Path(spec.worktree.clone().into()),
            repo: (spec.repo != "-").then(|| spec.repo.clone()),
            model: spec.model.clone(),
            allow_model_override: spec.allow_model_override,
            lane: spec.lane,
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
        };
        let lineage = Lineage {
            made_id: false,
            retries: found.run.created.retries + 1,
            limits: Some(spec.limits.clone()),
            prompt_file: Some(spec.prompt_file.clone()),
        };
        if found.run.outcome.is_none() {
            self.prepare(&state, &job.beads, &request, &lineage, &new_uuid()?)?;
            let provider = Some(found.run.created.ids.provider.clone());
            self.stop(&JobName { beads: job.beads.clone(), provider }, None)?;
        }
        self.start_run(&state, &job.beads, &request, &lineage)
    }

    /// What `start` would do, without doing it.
    pub fn dry_run(&self, request: &StartRequest) -> Result<DryRunDocument, EngineError> {
        let state = self.state()?;
        let beads = id_of(&state, request)?;
        let uuid = new_uuid()?;
        let prepared = self.prepare(&state, &beads, request, &Lineage::default(), &uuid)?;
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
        })
    }

    fn start_run(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
    ) -> Result<Started, EngineError> {
        refuse_nested()?;
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
        let prepared = self.prepare(state, beads, request, lineage, &uuid)?;
        let paths = state.run(&uuid);
        let (journal, begun) = begin(state, &paths, &prepared)?;
        faults::step("starter.created");
        if let Err(refused) = claim_run(state, &paths, &prepared, lineage.made_id) {
            drop(journal);
            let _removed = disk::remove_dir_all(paths.dir());
            let _removed = std::fs::remove_dir(state.tmp(&uuid));
            return Err(refused);
        }
        faults::step("starter.claimed");
        let started = publish(state, &paths, &prepared, begun)
            .and_then(|()| launch(state, &paths, &prepared, &journal))
            .and_then(|()| confirm(&paths));
        match started {
            Ok(pid) => Ok(Started {
                ids: prepared.created.ids.clone(),
                pid,
                log: state.view(&request.provider, beads, "log"),
                worktree: prepared.created.spec.worktree.clone(),
                selected_model: prepared.created.contract.selected_model.clone(),
                fresh: true,
            }),
            Err(error) => {
                give_up(state, &paths, &journal);
                Err(error)
            }
        }
    }

    /// Checks and resolves everything; writes nothing but caches and, with `--worktree auto`, the worktree.
    fn prepare(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
        uuid: &RunUuid,
    ) -> Result<Prepared, EngineError> {
        let provider = providers::find(&request.provider)?;
        let cap = environment::cap(provider.name, provider.cap)?;
        let mut limits = lineage.limits.clone().map_or_else(environment::limits, Ok)?;
        let seconds = |d: Option<Duration>, into: &mut u64| {
            if let Some(d) = d {
                *into = d.as_secs();
            }
        };
        seconds(request.max_runtime, &mut limits.max_runtime_sec);
        seconds(request.no_mutation_timeout, &mut limits.no_mutation_sec);
        seconds(request.stall, &mut limits.stall_sec);
        let extra = ExtraEnv::parse(&request.env)?;
        let extra_env = extra.resolve()?;
        let prompt = Prompt::read(request.prompt.as_ref())?;
        if provider.needs_prompt && prompt.bytes.is_empty() {
            return Err(EngineError::PromptNeeded);
        }
        let cwd = std::env::current_dir()
            .map_err(|source| EngineError::Io { what: "find the current directory", source })?;
        let worktree = choose_worktree(state, beads, request, &cwd)?;

        let paths = state.run(uuid);
        let mut env = environment::allowed(&provider.passes);
        for (name, value) in extra_env {
            env.retain(|(n, _)| *n != name);
            env.push((name, value));
        }
        let resolved = (provider.resolve)(&Wish {
            state,
            worktree: &worktree,
            model: request.model.as_deref(),
            allow_model_override: request.allow_model_override,
            command: &request.command,
            has_prompt: !prompt.bytes.is_empty(),
            prompt_file: &paths.prompt(),
            env: &env,
            progress: &|what| self.progress(what),
        })?;
        for (name, value) in &resolved.env {
            environment::set(&mut env, name, value);
        }
        environment::set(&mut env, "TMPDIR", state.tmp(uuid));
        environment::set(&mut env, "DX_RUNNER_BEADS_ID", beads.as_str());
        environment::set(&mut env, "DX_RUNNER_RUN_ID", uuid.as_str());
        environment::set(&mut env, MARKER, uuid.as_str());

        let repository = Repository::find(&worktree);
        let snapshot = repository.as_ref().map(Snapshot::take).transpose()?;
        let tree = repository.as_ref().zip(snapshot.as_ref()).map(|(r, s)| s.record(r));
        let run_id = Timestamp(clock::now_ms()).compact();
        let ids = RunIds {
            beads: beads.clone(),
            provider: request.provider.clone(),
            run_instance: format!("{run_id}-{}-{}", request.provider, std::process::id()),
            run_id,
            run_uuid: uuid.clone(),
        };
        let spec = JobSpec {
            worktree: worktree.to_string_lossy().into_owned(),
            repo: request.repo.clone().unwrap_or_else(|| "-".to_owned()),
            prompt_file: lineage.prompt_file.clone().unwrap_or_else(|| prompt.name.clone()),
            model: request.model.clone(),
            allow_model_override: request.allow_model_override,
            command: request.command.clone(),
            env_names: extra.names,
            env_values: extra.values,
            lane: request.lane,
            pty: request.pty,
            limits,
            idempotency_key: request.idempotency_key.clone(),
        };
        let contract = contract_of(&resolved, request.pty, &env, &worktree, &prompt);
        let plan = Plan::new(&resolved.argv, &env, resolved.prompt_on_stdin);
        let created = Created {
            schema: JOURNAL_SCHEMA.to_owned(),
            version: JOURNAL_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            ids,
            starter: record_of(&ProcessIdentity::of_self()?),
            cwd: cwd.to_string_lossy().into_owned(),
            retries: lineage.retries,
            provider_switch_from: switched_from(state, beads, &request.provider),
            spec,
            contract,
            tree,
        };
        Ok(Prepared { created, prompt, snapshot, plan, cap })
    }
}

fn contract_of(
    resolved: &Resolved,
    pty: bool,
    env: &[(OsString, OsString)],
    worktree: &Path,
    prompt: &Prompt,
) -> Contract {
    let mut env_names: Vec<String> = env.iter().map(|(n, _)| n.to_string_lossy().into_owned()).collect();
    env_names.sort();
    Contract {
        argv: resolved.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
        cwd: worktree.to_string_lossy().into_owned(),
        env_names,
        grammar: resolved.grammar,
        selected_model: resolved.selected_model.clone(),
        fallback_reason: resolved.fallback_reason.clone(),
        auth_source: resolved.auth_source.clone(),
        base_url: resolved.base_url.clone(),
        execution_mode: if pty { "pty-detached" } else { "detached" }.to_owned(),
        prompt_sha256: prompt.sha256(),
        prompt_bytes: prompt.bytes.len() as u64,
        prompt_channel: resolved.prompt_channel.to_owned(),
    }
}

/// UUIDv7: sortable by start.
fn new_uuid() -> Result<RunUuid, EngineError> {
    Ok(uuid::Uuid::now_v7().to_string().parse()?)
}

fn refuse_nested() -> Result<(), EngineError> {
    std::env::var_os(MARKER)
        .map_or(Ok(()), |mark| Err(EngineError::Nested(mark.to_string_lossy().into_owned())))
}

/// The job's id. One that was not given follows from the idempotency key, where there is one, so that the key finds its
/// run lineage.
fn id_of(state: &StateDir, request: &StartRequest) -> Result<BeadsId, EngineError> {
    match (&request.beads, &request.idempotency_key) {
        (Some(beads), _) => Ok(beads.clone()),
        (None, Some(key)) => Ok(format!("job-{}", &sha256_hex(key.as_bytes())[..16]).parse()?),
        (None, None) => readable_id(state, &request.provider),
    }
}

/// An id for people who have none: `job-<date>-<n>`, the first that is free.
fn readable_id(state: &StateDir, provider: &ProviderName) -> Result<BeadsId, EngineError> {
    let stem = format!("job-{}", &Timestamp(clock::now_ms()).compact()[..12]);
    let known = lookup::known(state);
    let taken =
        |id: &BeadsId| state.live(provider, id).exists() || known.iter().any(|(_, beads)| beads == id);
    let mut n = 1;
    loop {
        let id: BeadsId = format!("{stem}-{n}").parse()?;
        if !taken(&id) {
            return Ok(id);
        }
        n += 1;
    }
}

fn choose_worktree(
    state: &StateDir,
    beads: &BeadsId,
    request: &StartRequest,
    cwd: &Path,
) -> Result<PathBuf, EngineError> {
    let path = match &request.worktree {
        WorktreeChoice::Path(path) => cwd.join(path),
        WorktreeChoice::Auto => {
            let repo = request.repo.as_ref().map_or_else(|| cwd.to_owned(), |r| cwd.join(r));
            worktree::auto(beads, &repo)?
        }
        WorktreeChoice::Inferred => {
            let job = JobName { beads: beads.clone(), provider: None };
            let previous = match lookup::newest(state, &job) {
                Ok(Record::Ours(found)) => Some(PathBuf::from(&found.run.created.spec.worktree)),
                Ok(Record::Foreign(foreign)) => foreign.meta.get("worktree").map(PathBuf::from),
                Err(_) => None,
            };
            let inferred = previous.or_else(|| Repository::find(cwd).map(|r| r.work_tree));
            inferred.ok_or(EngineError::NoWorktree)?
        }
    };
    permission::check(&path, state.root())
}

/// The provider under which this id ran last, when it was another one.
fn switched_from(state: &StateDir, beads: &BeadsId, provider: &ProviderName) -> String {
    let name = match lookup::newest(state, &JobName { beads: beads.clone(), provider: None }) {
        Ok(Record::Ours(found)) => found.run.created.ids.provider.clone(),
        Ok(Record::Foreign(foreign)) => foreign.provider,
        Err(_) => return "-".to_owned(),
    };
    if name == *provider { "-".to_owned() } else { name.to_string() }
}

/// The run that an earlier start with the same key made.
fn same_key(
    state: &StateDir,
    beads: &BeadsId,
    request: &StartRequest,
) -> Result<Option<Started>, EngineError> {
    let Some(key) = &request.idempotency_key else { return Ok(None) };
    let Some(Record::Ours(found)) = lookup::newest_under(state, &request.provider, beads)? else {
        return Ok(None);
    };
    if found.run.created.spec.idempotency_key.as_ref() != Some(key) {
        return Ok(None);
    }
    Ok(Some(Started {
        ids: found.run.created.ids.clone(),
        pid: found.run.agent.as_ref().map_or(0, |a| a.pid),
        log: state.view(&request.provider, beads, "log"),
        worktree: found.run.created.spec.worktree.clone(),
        selected_model: found.run.created.contract.selected_model.clone(),
        fresh: false,
    }))
}

fn already_running(found: &Found) -> EngineError {
    let ids = &found.run.created.ids;
    EngineError::AlreadyRunning {
        beads: ids.beads.to_string(),
        provider: ids.provider.to_string(),
        run_instance: ids.run_instance.clone(),
    }
}

/// Refuses early when the job runs; settles a dead run of it.
fn refuse_running(state: &StateDir, provider: &ProviderName, beads: &BeadsId) -> Result<(), EngineError> {
    let Some(Record::Ours(found)) = lookup::newest_under(state, provider, beads)? else { return Ok(()) };
    if !found.claimed {
        return Ok(());
    }
    match attend(state, &Host::current()?, &found) {
        Ok(Attended::Settled(_)) | Err(EngineError::Journal(dx_jobdir::JournalError::Missing(_))) => Ok(()),
        Ok(Attended::Elsewhere) => Err(EngineError::Elsewhere {
            beads: beads.to_string(),
            host: found.run.created.starter.host.clone(),
        }),
        Ok(Attended::Busy | Attended::Adopted) => Err(already_running(&found)),
        // It ended and released its claim meanwhile.
        Err(EngineError::Disk(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(other) => Err(other),
    }
}

/// Makes the run's directory and files and its synced first record. On failure nothing is left.
fn begin(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
) -> Result<(JournalWriter, Timestamp), EngineError> {
    disk::make_dir(paths.dir())?;
    let made = (|| {
        let journal = JournalWriter::create(&paths.journal())?;
        ExitFile::create(&paths.exit())?;
        DiskFile::create_new(&paths.log())?;
        if prepared.created.contract.grammar != dx_protocol::Grammar::Text {
            DiskFile::create_new(&paths.err())?;
        }
        DiskFile::create_new(&paths.prompt())?.append(&prepared.prompt.bytes)?;
        if let Some(snapshot) = &prepared.snapshot {
            snapshot.save(&paths.tree())?;
        }
        disk::make_dir(&state.tmp(&prepared.created.ids.run_uuid))?;
        let at = Timestamp(clock::now_ms());
        let event = Event::Created(Box::new(prepared.created.clone()));
        journal.append(&dx_protocol::Record {
            at,
            mono_ms: clock::monotonic_ms(),
            by: Writer::Starter,
            event,
        })?;
        Ok((journal, at))
    })();
    if made.is_err() {
        let _removed = disk::remove_dir_all(paths.dir());
        let _removed = std::fs::remove_dir(state.tmp(&prepared.created.ids.run_uuid));
    }
    made
}

/// Claims: counted and linked under the claim lock, then synced. Dead runs are settled before a refusal.
fn claim_run(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    made_id: bool,
) -> Result<(), EngineError> {
    let ids = &prepared.created.ids;
    for last_try in [false, true] {
        let lock = ClaimLock::take(state)?;
        let running = claim::count(state, &ids.provider);
        let over = prepared.cap.filter(|cap| running >= *cap);
        let used = made_id && state.view(&ids.provider, &ids.beads, "meta").exists();
        let taken = used || state.live(&ids.provider, &ids.beads).exists();
        if over.is_none() && !taken {
            claim::make(state, &ids.provider, &ids.beads, &paths.journal())?;
            drop(lock);
            if let Err(error) = disk::sync_dir(&state.live_dir()) {
                let _released = claim::release(state, &ids.provider, &ids.beads);
                return Err(error.into());
            }
            return Ok(());
        }
        drop(lock);
        if taken {
            refuse_running(state, &ids.provider, &ids.beads)?;
        }
        if let Some(cap) = over {
            if last_try {
                return Err(EngineError::CapExceeded { provider: ids.provider.to_string(), running, cap });
            }
            settle_dead(state, &ids.provider);
        }
    }
    // Somebody else took it between our two looks.
    match lookup::newest_under(state, &ids.provider, &ids.beads)? {
        Some(Record::Ours(found)) => Err(already_running(&found)),
        _ => Err(EngineError::MonitorLost),
    }
}

fn settle_dead(state: &StateDir, provider: &ProviderName) {
    let Ok(host) = Host::current() else { return };
    for claim in claim::claims(state).into_iter().filter(|c| c.provider == *provider) {
        if let Ok(found) = lookup::read_run(state, &claim.path, true) {
            // One that cannot be settled keeps its place and counts.
            let _attended = attend(state, &host, &found);
        }
    }
}

/// The published files of the new run; those of the run before are rotated away.
fn publish(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    at: Timestamp,
) -> Result<(), EngineError> {
    let created = &prepared.created;
    state.make_provider_dir(&created.ids.provider)?;
    views::rotate(state, &created.ids)?;
    views::publish_start(state, paths, created, at)?;
    Ok(())
}

/// Starts the monitor and waits for its launcher's word.
fn launch(
    state: &StateDir,
    paths: &RunPaths,
    prepared: &Prepared,
    journal: &JournalWriter,
) -> Result<(), EngineError> {
    let programs = Programs::find()?;
    let plan = serde_json::to_vec(&prepared.plan).map_err(|e| EngineError::Argument(e.to_string()))?;
    for _ in 0..MONITOR_TRIES {
        let word = launch_once(state, prepared, journal, &programs, &plan)?;
        if !word.is_empty() {
            return Ok(());
        }
        // The pipe closed without a word: was there a launcher?
        let facts = dx_jobdir::exit_file::read_exit_file(&paths.exit());
        if facts.exec.is_some() {
            return Ok(());
        }
        if facts.launcher.is_some() {
            return wait_for_exec(paths);
        }
    }
    Err(EngineError::MonitorLost)
}

fn launch_once(
    state: &StateDir,
    prepared: &Prepared,
    journal: &JournalWriter,
    programs: &Programs,
    plan: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| EngineError::Io { what: "make a pipe", source: e.into() })
    };
    let (ready_read, ready_write) = pipe()?;
    let (plan_read, plan_write) = pipe()?;
    let runner = programs.open_runner()?;
    let invocation = Invocation {
        adopt: false,
        run: prepared.created.ids.run_uuid.clone(),
        state_dir: state.root().to_owned(),
    };
    let fds = [
        (journal.as_fd(), JOURNAL_FD),
        (ready_write.as_fd(), READY_FD),
        (plan_read.as_fd(), PLAN_FD),
        (runner.as_fd(), SETTLER_FD),
    ];
    let pid = dx_proc::spawn_detached(
        &programs.monitor,
        None,
        &invocation.to_argv(),
        &settle::monitor_environment(),
        &fds,
    )?;
    faults::step("starter.spawned");
    drop((ready_write, plan_read, runner));
    // A monitor that died already closes its end: that shows in the word that does not come.
    let _sent = std::fs::File::from(plan_write).write_all(plan);
    let mut word = Vec::new();
    let woken = dx_proc::poll::poll(&[ready_read.as_fd()], Some(READY_PATIENCE.as_millis() as u64))?;
    if woken == [true] {
        let _read = std::fs::File::from(ready_read).read_to_end(&mut word);
    }
    // Only if it is dead by now; a living monitor becomes init's child when we end.
    let _reaped = dx_proc::wait::reap(pid);
    Ok(word)
}

/// A launcher was there and its pipe closed: the monitor may be launching once more.
fn wait_for_exec(paths: &RunPaths) -> Result<(), EngineError> {
    let began = clock::monotonic_ms();
    while clock::monotonic_ms() - began < 5_000 {
        if dx_jobdir::exit_file::read_exit_file(&paths.exit()).exec.is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(EngineError::MonitorLost)
}

/// Reads from the record whether the agent runs.
fn confirm(paths: &RunPaths) -> Result<i32, EngineError> {
    let facts = dx_jobdir::exit_file::read_exit_file(&paths.exit());
    match (facts.exec, facts.agent) {
        (Some(exec), _) if exec.errno != 0 => Err(EngineError::SpawnFailed {
            message: std::io::Error::from_raw_os_error(exec.errno).to_string(),
        }),
        (Some(_), Some(agent)) => Ok(agent.pid),
        _ => Err(EngineError::MonitorLost),
    }
}

/// A start that failed after its claim: when a monitor has it, the monitor ends it; otherwise it is settled here.
fn give_up(state: &StateDir, paths: &RunPaths, journal: &JournalWriter) {
    let Ok(mut found) = lookup::read_run(state, &paths.journal(), true) else { return };
    if found.run.monitor.is_some() {
        // It writes the end itself; wait for it a moment, so that the record is there when the error is read.
        let began = clock::monotonic_ms();
        while clock::monotonic_ms() - began < 5_000 {
            match lookup::read_run(state, &paths.journal(), true) {
                Ok(now) if now.run.outcome.is_some() => {
                    let _removed = std::fs::remove_dir_all(state.tmp(&now.run.created.ids.run_uuid));
                    return;
                }
                Ok(now) if !crate::view::alive_ours(&now) => {
                    found = now;
                    break;
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
    if !crate::view::alive_ours(&found) && found.exit.exec.as_ref().is_none_or(|e| e.errno != 0) {
        let _settled = settle::settle(state, journal, &mut found, false);
    }
}
