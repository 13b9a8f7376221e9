//! What a start needs to know before anything is written: worktree, prompt, model, environment, limits.

use super::claim::refuse_over_cap;
use super::configure::previous_worktree;
use super::gates::{gates_at_start, gates_of};
use super::identity::switched_from;
use super::queue::Turn;
use crate::api::JobName;
use crate::api::{StartRequest, WorktreeChoice};
use crate::environment::{self, ExtraEnv};
use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::git::Repository;
use crate::lookup;
use crate::notify;
use crate::prompt::Prompt;
use crate::providers::checks::{self, Version};
use crate::providers::{self, PROMPT, Provider, Resolved};
use crate::sandbox::{self, Asked, Wanted};
use crate::secrets::{is_masked, mask_text};
use crate::settings::{ALLOWED_MODELS, Layers};
use crate::work::Taking;
use crate::worktree::Wish;
use crate::{Engine, gates, permission, secrets, worktree};
use dx_jobdir::StateDir;
use dx_monitor::{ADAPTER_MODE, MARKER, Plan, record_of};
use dx_proc::{ProcessIdentity, clock};
use dx_protocol::{
    BeadsId, Contract, Created, JOURNAL_SCHEMA, JOURNAL_VERSION, JobSpec, Lane, Limits, OutputRules,
    ProviderName, RunIds, RunUuid, Sandbox, Timestamp,
};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Everything about a run that is known before anything is written.
pub(super) struct Prepared {
    pub(super) created: Created,
    pub(super) prompt: Prompt,
    /// git's look at the worktree, which is under way; `None` outside git. The record lacks its result until then.
    pub(super) snapshot: Option<Taking>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) plan: Plan,
    pub(super) cap: Option<usize>,
    /// What the caller should know.
    pub(super) warnings: Vec<String>,
}

/// Where a run comes from; the default is a first start of an id that the caller gave.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// The id was made here: no job, live or ended, may have it.
    pub(super) made_id: bool,
    /// What a restart takes over from the run before.
    pub(super) retries: u32,
    /// As they were recorded, or are configured.
    pub(super) limits: Limits,
    /// Everything else that configuration says.
    pub(super) settings: Arc<Layers>,
    /// Only to be looked at: nothing is made.
    pub(super) dry: bool,
    /// The provider that could not be started, and why: this one is its fallback.
    pub(super) fallback_from: Option<String>,
    /// The prompt's name as it was given; it is read from the copy.
    pub(super) prompt_file: Option<String>,
    /// Of a start that offered to wait.
    pub(super) turn: Turn,
}

impl Lineage {
    /// How many jobs of the provider may run at once; `None` without a limit.
    pub(super) fn cap(&self, provider: &ProviderName) -> Result<Option<usize>, EngineError> {
        let provider = self.settings.providers.find(provider)?;
        if provider.is_service() { Ok(None) } else { Ok(self.settings.cap(&provider.name)?) }
    }
}

impl Engine {
    /// Checks and resolves everything; writes nothing but caches and, with `--worktree auto`, the worktree, which is in
    /// `ready` then, also after a refusal.
    pub(super) fn prepare(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
        uuid: &RunUuid,
        ready: &mut Option<worktree::Ready>,
    ) -> Result<Prepared, EngineError> {
        let provider = lineage.settings.providers.find(&request.provider)?;
        let cap = lineage.cap(&request.provider)?;
        let mut limits = lineage.limits.clone();
        let seconds = |d: Option<Duration>, into: &mut u64| {
            if let Some(d) = d {
                // A part of a second is a second: 0 means never.
                *into = d.as_secs() + u64::from(d.subsec_nanos() > 0);
            }
        };
        seconds(request.max_runtime, &mut limits.max_runtime_sec);
        seconds(request.no_mutation_timeout, &mut limits.no_mutation_sec);
        seconds(request.stall, &mut limits.stall_sec);
        if request.gates.read_only {
            // Nothing is to change.
            limits.no_mutation_sec = 0;
        }
        environment::check_limits(&limits)?;
        if let Some(notify) = request.notify.as_ref().filter(|_| lineage.retries == 0) {
            notify::check(&notify.target)?;
        }
        let extra = ExtraEnv::parse(&request.env)?;
        let extra_env = extra.resolve()?;
        // Whatever fails from here on must not show them.
        secrets::also(&secrets::of_environment(&extra_env, &extra.names));
        let prompt = Prompt::read(request.prompt.as_ref())?;
        if provider.needs_prompt && prompt.bytes.is_empty() {
            return Err(EngineError::PromptNeeded);
        }
        // A prompt is UTF-8; that was checked.
        let raw = gates::raw_secrets::lines_in(&String::from_utf8_lossy(&prompt.bytes));
        if !raw.is_empty() {
            return Err(EngineError::RawSecrets(raw));
        }
        let cwd = std::env::current_dir().map_err(EngineError::NoCurrentDir)?;
        if !lineage.dry {
            refuse_over_cap(state, &request.provider, lineage, None)?;
        }
        let worktree = match request.worktree {
            WorktreeChoice::Own => state.tmp(uuid),
            _ => self.choose_worktree(state, beads, request, lineage, &cwd, ready)?,
        };
        // By far the slowest part of a start: it goes on while everything else is made ready.
        let in_tree = request.worktree != WorktreeChoice::Own;
        let repository = in_tree.then(|| Repository::find(&worktree)).flatten();
        if in_tree {
            refuse_led_elsewhere(state, beads, &worktree, repository.as_ref())?;
        }
        let gates = gates_of(&request.gates, beads);
        gates_at_start(&gates, repository.as_ref())?;
        if gates.beads {
            let report = gates::beads::ask(&lineage.settings, &worktree, None, false)?.report;
            if !report.passed {
                return Err(EngineError::Gate(report));
            }
        }
        let snapshot = repository.clone().map(Taking::begin);
        let fingerprint = repository.as_ref().map(Fingerprint::take);

        let paths = state.run(uuid);
        let mut env = provider.environment();
        for (name, value) in extra_env {
            env.retain(|(n, _)| *n != name);
            env.push((name, value));
        }
        // The sandbox of a job that may start jobs lets it write their records.
        let records = request.nesting.then(|| state.root());
        let asked = Asked::of(request, &lineage.settings)?.read_only(request.gates.read_only).also(records);
        let server = self.lane_server(request, &provider, &worktree, uuid)?;
        let wish = providers::Wish {
            state,
            server: server.as_ref(),
            worktree: &worktree,
            repository: repository.as_ref(),
            beads: beads.as_str(),
            log: &paths.log(),
            model: request.model.as_deref(),
            allow_model_override: request.allow_model_override,
            agent: request.agent.as_deref(),
            confined: sandbox::confines(&asked),
            command: &request.command,
            has_prompt: !prompt.bytes.is_empty(),
            prompt_file: &paths.prompt(),
            env: &env,
            progress: &|what| self.progress(what),
            settings: &lineage.settings,
            list_age: None,
        };
        let resolved = (provider.resolve)(&provider, &wish)?;
        let warnings = version_warning(&provider, &wish, &resolved);
        for allowed in lineage.settings.lists(&ALLOWED_MODELS)? {
            let model = &resolved.selected_model;
            if model != "-" && !allowed.contains(model) {
                return Err(EngineError::ModelNotAllowed { model: model.clone(), allowed });
            }
        }
        for (name, value) in &resolved.env {
            environment::set(&mut env, name, value);
        }
        environment::set(&mut env, "TMPDIR", state.tmp(uuid));
        if resolved.adapter {
            if request.pty {
                return Err(EngineError::Argument("an adapter script has no pseudo-terminal".to_owned()));
            }
            environment::set(&mut env, "DX_RUNNER_RC_FILE", state.rc_file(uuid));
        }
        environment::set(&mut env, "DX_RUNNER_BEADS_ID", beads.as_str());
        environment::set(&mut env, "DX_RUNNER_RUN_ID", uuid.as_str());
        environment::set(&mut env, MARKER, uuid.as_str());

        let confined = sandbox::resolve(&Wanted {
            shared: server.is_some(),
            asked: &asked,
            provider: &provider.name,
            worktree: &worktree,
            repository: repository.as_ref(),
            tmp: &state.tmp(uuid),
            state: &resolved.state,
            env: &env,
            dry: lineage.dry,
        })?;
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
            agent: request.agent.clone(),
            command_masked: request.command.iter().any(|word| is_masked(word)),
            command: request.command.iter().map(|word| mask_text(word).into_owned()).collect(),
            env_names: extra.names,
            env_values: extra.values,
            lane: request.lane.unwrap_or_default(),
            server: request.server.clone(),
            pty: request.pty,
            limits,
            idempotency_key: request.idempotency_key.clone(),
            gates,
            nesting: request.nesting,
            sandbox: Asked::of(request, &lineage.settings)?.spec(),
            profile: request.profile.clone(),
            notify: request.notify.clone(),
        };
        let mut contract = contract_of(&resolved, request.pty, &env, &worktree, &prompt, confined.record);
        contract.output_rules = provider.rules.clone();
        if server.is_some() {
            request.lane.unwrap_or_default().as_str().clone_into(&mut contract.execution_mode);
        }
        if resolved.adapter {
            ADAPTER_MODE.clone_into(&mut contract.execution_mode);
        }
        if let Some(why) = &lineage.fallback_from {
            contract.fallback_reason.clone_from(why);
        }
        let secret_values = secrets::of_environment(&env, &spec.env_names);
        secrets::also(&secret_values);
        let argv = with_prompt(&resolved, &prompt)?;
        let mut plan =
            Plan::new(&argv, &env, secret_values, resolved.prompt_on_stdin, confined.rules.as_ref());
        plan.adapter = resolved.adapter;
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
            tree: None,
            queued_ms: lineage.turn.queued_ms,
        };
        Ok(Prepared { created, prompt, snapshot, fingerprint, plan, cap, warnings })
    }

    fn choose_worktree(
        &self,
        state: &StateDir,
        beads: &BeadsId,
        request: &StartRequest,
        lineage: &Lineage,
        cwd: &Path,
        ready: &mut Option<worktree::Ready>,
    ) -> Result<PathBuf, EngineError> {
        let places = lineage.settings.places()?;
        let path = match &request.worktree {
            WorktreeChoice::Path(path) => cwd.join(path),
            WorktreeChoice::Auto => {
                let repo = request.repo.as_ref().map_or_else(|| cwd.to_owned(), |r| cwd.join(r));
                if lineage.dry {
                    return Ok(worktree::place(beads, &repo, &places)?.path());
                }
                let progress = |what: &str| self.progress(what);
                let wish = Wish {
                    beads,
                    repo: &repo,
                    base: None,
                    branch: None,
                    places: &places,
                    sandbox: &Asked::of(request, &lineage.settings)?,
                    progress: &progress,
                    halt: None,
                };
                let made = ready.insert(worktree::create(&wish)?);
                for remark in &made.remarks {
                    self.progress(remark);
                }
                if !made.fresh
                    && let Some(process) = worktree::stranger(state, &made.path())
                {
                    let path = made.path();
                    let text = "works already, and is of no job of this state directory";
                    made.warnings.push(format!("in {} process {process} {text}", path.display()));
                }
                made.path()
            }
            WorktreeChoice::Inferred | WorktreeChoice::Own => {
                let previous = previous_worktree(state, beads);
                let inferred = previous.or_else(|| Repository::find(cwd).map(|r| r.work_tree));
                inferred.ok_or(EngineError::NoWorktree)?
            }
        };
        worktree::utf8(&path)?;
        let real = permission::check(&path, state.root(), &places)?;
        // Git's folder of it is recorded too.
        let common = Repository::find(&real).map(|repository| repository.common_dir);
        common.as_deref().map_or(Ok(""), worktree::utf8)?;
        worktree::utf8(&real)?;
        Ok(real)
    }
}

/// A version that the provider was not tested with.
fn version_warning(provider: &Provider, wish: &providers::Wish<'_>, resolved: &Resolved) -> Vec<String> {
    // A session's driver is this program.
    let own = wish.server.is_some_and(|server| server.lane == Lane::Server);
    let Some(binary) = resolved.argv.first().filter(|_| !own) else { return Vec::new() };
    match checks::version(wish, provider, Path::new(binary)) {
        Version::Untested(version) => {
            let tested = provider.tested.iter().map(|t| format!("{}.x", t.trim_end_matches('.')));
            let tested = tested.collect::<Vec<_>>().join(", ");
            vec![format!("{} {version} is untested; tested: {tested}", provider.name)]
        }
        Version::Tested(_) | Version::Unknown | Version::NotAsked => Vec::new(),
    }
}

/// The command line as it is run: the record of it has a word in the prompt's place.
fn with_prompt(resolved: &Resolved, prompt: &Prompt) -> Result<Vec<OsString>, EngineError> {
    /// The kernel's own limit for one argument.
    const MAX_ARGUMENT: usize = 128 * 1024 - 1;
    if resolved.prompt_channel != "arg" {
        return Ok(resolved.argv.clone());
    }
    if prompt.bytes.len() > MAX_ARGUMENT {
        return Err(EngineError::PromptInvalid(
            "is too long for a command line, by which this provider takes it",
        ));
    }
    let text = OsString::from_vec(prompt.bytes.clone());
    Ok(resolved.argv.iter().map(|arg| if arg == PROMPT { text.clone() } else { arg.clone() }).collect())
}

fn contract_of(
    resolved: &Resolved,
    pty: bool,
    env: &[(OsString, OsString)],
    worktree: &Path,
    prompt: &Prompt,
    sandbox: Sandbox,
) -> Contract {
    let mut env_names: Vec<String> = env.iter().map(|(n, _)| n.to_string_lossy().into_owned()).collect();
    env_names.sort();
    Contract {
        argv: resolved.argv.iter().map(|a| mask_text(&a.to_string_lossy()).into_owned()).collect(),
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
        output_rules: OutputRules::default(),
        umask: dx_proc::umask_of_self(),
        sandbox,
    }
}

/// A worktree that does not lead where it did when we made it, or at the start of the newest run of this id in it: this run
/// would take that for the truth.
fn refuse_led_elsewhere(
    state: &StateDir,
    beads: &BeadsId,
    worktree: &Path,
    now: Option<&Repository>,
) -> Result<(), EngineError> {
    if worktree::made::leads_elsewhere(worktree, now) {
        return Err(EngineError::WorktreeMisled(worktree.to_owned()));
    }
    let job = JobName { beads: beads.clone(), provider: None };
    match lookup::newest_known(state, &job) {
        Ok(Some(lookup::Record::Ours(found))) if Path::new(&found.run.created.spec.worktree) == worktree => {
            super::refuse_redirected(&found.run.created)
        }
        _ => Ok(()),
    }
}
