//! A start's request with everything that configuration says: files, variables and flags become one request and limits.
//!
//! Called by: `start`, its dry run, and `restart` for what is not in the record. Must never: read a project's file out of
//! the job's own worktree, which an agent may have changed.

use crate::Engine;
use crate::api::{JobName, StartRequest, WorktreeChoice};
use crate::error::EngineError;
use crate::git::Repository;
use crate::helper_entry::EVIDENCE;
use crate::lookup::{self, Record};
use crate::permission::Places;
use crate::sandbox::Asked;
use crate::settings::{
    AGENT, ALLOW_MODEL_OVERRIDE, BEADS, CHECK, ENV, FALLBACK, FEATURE_KEY, Inputs, LANE, Layers, MAX_RUNTIME,
    MODEL, MUTATION_BUDGET, NESTING, NO_MUTATION_TIMEOUT, PROVIDER, PTY, READ_ONLY, REQUIRE_COMMIT,
    REQUIRED_BASELINE, SANDBOX, SANDBOX_WRITE, SCOPE, SIGNOFF_FILE, STALL,
};
use crate::worktree;
use dx_core::settings::Value;
use dx_jobdir::StateDir;
use dx_protocol::{BeadsId, Gates, Limits, ProviderName, SandboxMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The provider whose command is the caller's.
const EXEC: &str = "exec";

/// A request in which nothing is left open, its limits, and what else the layers say.
pub(super) struct Configured {
    pub(super) request: StartRequest,
    pub(super) limits: Limits,
    pub(super) settings: Arc<Layers>,
    /// Providers to try when this one cannot be started.
    pub(super) fallback: Vec<ProviderName>,
}

impl Engine {
    /// The provider for a start that names none: the profile's or the configuration's.
    pub fn configured_provider(
        &self,
        profile: Option<&str>,
        worktree: &WorktreeChoice,
        repo: Option<&str>,
        beads: Option<&BeadsId>,
    ) -> Result<ProviderName, EngineError> {
        let state = self.state_for_reading()?;
        let project = project_of(&named_place(state.as_ref(), worktree, repo, beads)?);
        let layers = self.layers(project.as_deref(), profile)?;
        match layers.text(&PROVIDER)? {
            Some(name) => Ok(name.parse()?),
            None => Err(EngineError::NoProviderNamed { known: layers.providers.names() }),
        }
    }

    /// The providers that take over from one in a repository when nobody names any.
    pub(crate) fn configured_fallback(
        &self,
        provider: &ProviderName,
        profile: Option<&str>,
        repo: &Path,
    ) -> Result<Vec<ProviderName>, EngineError> {
        let layers = self.layers(project_of(repo).as_deref(), profile)?;
        let provider = layers.providers.find(provider)?;
        fallback_of(&layers.with_provider(provider))
    }

    /// Whether a start in a repository could have this profile.
    pub(crate) fn known_profile(&self, name: &str, repo: &Path) -> Result<(), EngineError> {
        self.layers(project_of(repo).as_deref(), Some(name)).map(|_| ())
    }

    /// The layers for a project (the top of its main checkout) and a profile.
    pub(crate) fn layers(
        &self,
        project: Option<&Path>,
        profile: Option<&str>,
    ) -> Result<Layers, EngineError> {
        Ok(Layers::load(Inputs { config: self.settings.config.as_deref(), project, profile })?)
    }

    /// The layers for commands about this machine: the project is that of the current directory.
    pub(crate) fn layers_here(&self, profile: Option<&str>) -> Result<Layers, EngineError> {
        self.layers(project_here()?.as_deref(), profile)
    }

    /// Where worktrees may be, for commands that are about no job.
    pub(crate) fn places(&self) -> Result<Places, EngineError> {
        Ok(self.layers(None, None)?.places()?)
    }

    pub(super) fn configure(
        &self,
        state: &StateDir,
        request: &StartRequest,
    ) -> Result<Configured, EngineError> {
        let place =
            named_place(Some(state), &request.worktree, request.repo.as_deref(), request.beads.as_ref())?;
        let layers = self.layers(project_of(&place).as_deref(), request.profile.as_deref())?;
        let provider = layers.providers.find(&request.provider)?;
        let is_exec = provider.name == EXEC;
        let settings = with_flags(layers.with_provider(provider), request);
        let fallback = fallback_of(&settings)?;
        if !request.command.is_empty() && !is_exec && !fallback.iter().any(|name| name.as_str() == EXEC) {
            let message =
                format!("a command after `--` is only for provider {EXEC}, not for {}", request.provider);
            return Err(EngineError::Argument(message));
        }
        let limits = settings.limits()?;
        let lane = settings.text(&LANE)?;
        let request = StartRequest {
            model: settings.text(&MODEL)?,
            allow_model_override: settings.is_on(&ALLOW_MODEL_OVERRIDE)?,
            lane: lane.and_then(|word| word.parse().ok()),
            pty: settings.is_on(&PTY)?,
            env: settings.list(&ENV)?,
            agent: settings.text(&AGENT)?,
            gates: with_evidence(settings.gates()?)?,
            nesting: settings.is_on(&NESTING)?,
            sandbox: sandbox_mode(settings.text(&SANDBOX)?.as_deref()),
            sandbox_write: Some(settings.list(&SANDBOX_WRITE)?.into_iter().map(PathBuf::from).collect()),
            // They are in the limits now.
            max_runtime: None,
            no_mutation_timeout: None,
            stall: None,
            ..request.clone()
        };
        Ok(Configured { request, limits, settings: Arc::new(settings), fallback })
    }

    /// The sandbox for what is run in a repository beside a start.
    pub(crate) fn sandbox_in(&self, repo: &Path) -> Result<Asked, EngineError> {
        let layers = self.layers(project_of(repo).as_deref(), None)?;
        sandbox_of(&layers)
    }

    /// For a restart, whose request is that of the record: caps, places and lists of models are those of today.
    pub(super) fn configure_again(
        &self,
        provider: &ProviderName,
        worktree: &Path,
    ) -> Result<Arc<Layers>, EngineError> {
        let layers = self.layers(project_of(worktree).as_deref(), None)?;
        let provider = layers.providers.find(provider)?;
        Ok(Arc::new(layers.with_provider(provider)))
    }
}

fn fallback_of(layers: &Layers) -> Result<Vec<ProviderName>, EngineError> {
    layers.list(&FALLBACK)?.iter().map(|name| Ok(name.parse()?)).collect()
}

fn sandbox_word(mode: SandboxMode) -> &'static str {
    match mode {
        SandboxMode::Strict => "strict",
        SandboxMode::Off => "off",
    }
}

/// The sandbox that configuration says.
pub(crate) fn sandbox_of(layers: &Layers) -> Result<Asked, EngineError> {
    let write = layers.list(&SANDBOX_WRITE)?.into_iter().map(PathBuf::from).collect();
    Asked::configured(sandbox_mode(layers.text(&SANDBOX)?.as_deref()), write, layers)
}

/// `auto` is strict where the kernel can.
fn sandbox_mode(word: Option<&str>) -> Option<SandboxMode> {
    [SandboxMode::Strict, SandboxMode::Off].into_iter().find(|mode| Some(sandbox_word(*mode)) == word)
}

fn with_flags(layers: Layers, request: &StartRequest) -> Layers {
    let time = |time: Option<Duration>| {
        time.map(|time| Value::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
    };
    let on = |on: bool| on.then_some(Value::Bool(true));
    let gates = &request.gates;
    layers
        .with_flag(&PROVIDER, Some(Value::Text(request.provider.to_string())))
        .with_flag(&MODEL, request.model.clone().map(Value::Text))
        .with_flag(&ALLOW_MODEL_OVERRIDE, on(request.allow_model_override))
        .with_flag(&LANE, request.lane.map(|lane| Value::Text(lane.as_str().to_owned())))
        .with_flag(&PTY, on(request.pty))
        .with_flag(&ENV, (!request.env.is_empty()).then(|| Value::List(request.env.clone())))
        .with_flag(&SANDBOX, request.sandbox.map(|mode| Value::Text(sandbox_word(mode).to_owned())))
        .with_flag(&AGENT, request.agent.clone().map(Value::Text))
        .with_flag(&REQUIRE_COMMIT, on(gates.require_commit))
        .with_flag(&READ_ONLY, on(gates.read_only))
        .with_flag(&BEADS, on(gates.beads))
        .with_flag(&SCOPE, (!gates.scope.is_empty()).then(|| Value::List(gates.scope.clone())))
        .with_flag(&MUTATION_BUDGET, gates.mutation_budget.map(Value::Number))
        .with_flag(&REQUIRED_BASELINE, gates.required_baseline.clone().map(Value::Text))
        .with_flag(&FEATURE_KEY, gates.feature_keys.first().cloned().map(Value::Text))
        .with_flag(&SIGNOFF_FILE, gates.signoffs.first().cloned().map(Value::Text))
        .with_flag(&CHECK, gates.check.clone().map(Value::Text))
        .with_flag(&MAX_RUNTIME, time(request.max_runtime))
        .with_flag(&NO_MUTATION_TIMEOUT, time(request.no_mutation_timeout))
        .with_flag(&STALL, time(request.stall))
}

/// With sign-offs the check has one more step: it runs in the same sandbox, under the same deadline.
fn with_evidence(gates: Gates) -> Result<Gates, EngineError> {
    if gates.signoffs.is_empty() {
        return Ok(gates);
    }
    let inside = |file: &String| {
        !file.is_empty()
            && Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    if let Some(file) = gates.signoffs.iter().find(|file| !inside(file)) {
        return Err(EngineError::Argument(format!("the sign-off `{file}` is no path in the worktree")));
    }
    let program = std::env::current_exe()
        .map_err(|source| EngineError::Io { what: "find the path of this program", source })?;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let files: Vec<String> = gates.signoffs.iter().map(|file| quoted(file)).collect();
    let evidence = format!("{} {EVIDENCE} {}", quoted(worktree::utf8(&program)?), files.join(" "));
    let check = match &gates.check {
        Some(check) => format!("(\n{check}\n) && {evidence}"),
        None => evidence,
    };
    Ok(Gates { check: Some(check), ..gates })
}

/// The place that a start names, before it is made or checked.
fn named_place(
    state: Option<&StateDir>,
    worktree: &WorktreeChoice,
    repo: Option<&str>,
    beads: Option<&BeadsId>,
) -> Result<PathBuf, EngineError> {
    let cwd = current_dir()?;
    Ok(match worktree {
        WorktreeChoice::Path(path) => cwd.join(path),
        WorktreeChoice::Auto => repo.map_or_else(|| cwd.clone(), |repo| cwd.join(repo)),
        WorktreeChoice::Inferred | WorktreeChoice::Own => {
            let previous = state.zip(beads).and_then(|(state, beads)| previous_worktree(state, beads));
            previous.unwrap_or(cwd)
        }
    })
}

fn current_dir() -> Result<PathBuf, EngineError> {
    std::env::current_dir().map_err(EngineError::NoCurrentDir)
}

/// The worktree of the newest run of this id.
pub(super) fn previous_worktree(state: &StateDir, beads: &BeadsId) -> Option<PathBuf> {
    let job = JobName { beads: beads.clone(), provider: None };
    match lookup::newest_known(state, &job) {
        Ok(Some(Record::Ours(found))) => Some(PathBuf::from(&found.run.created.spec.worktree)),
        Ok(Some(Record::Foreign(foreign))) => foreign.meta.get("worktree").map(PathBuf::from),
        Ok(None) | Err(_) => None,
    }
}

/// The top of the main checkout of the repository that a path lies in: never a linked worktree, in which agents work. A
/// bare repository has none.
pub(crate) fn project_of(path: &Path) -> Option<PathBuf> {
    worktree::main_checkout(&Repository::find(path)?)
}

/// The project of the current directory.
pub(crate) fn project_here() -> Result<Option<PathBuf>, EngineError> {
    Ok(project_of(&current_dir()?))
}
