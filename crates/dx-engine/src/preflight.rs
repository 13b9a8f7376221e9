//! `preflight` and `probe`: whether a provider could run a job here and now. Every check tells what to do next.
//!
//! Only [`Engine::probe`], and preflight when it is asked to be live, put a question to a model.

mod probe;

use crate::error::EngineError;
use crate::git::Repository;
use crate::providers::{Provider, Resolved, Wish, checks};
use crate::settings::{ALLOW_MODEL_OVERRIDE, LANE, Layers, MODEL, PROVIDER};
use crate::start::configure::{project_of, sandbox_of};
use crate::{Engine, permission, sandbox};
use dx_core::settings::Value;
use dx_jobdir::StateDir;
use dx_jobdir::pools::{self, Pool};
use dx_proc::clock;
use dx_protocol::{Lane, Level, PreflightDocument, PreflightRow, ProviderName, ReasonCode, Timestamp};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// `preflight`.
#[derive(Debug, Clone, Default)]
pub struct PreflightRequest {
    /// `None`: all that are installed.
    pub provider: Option<ProviderName>,
    pub model: Option<String>,
    pub allow_model_override: bool,
    /// `None`: the current directory, and nothing is said of it.
    pub worktree: Option<PathBuf>,
    pub profile: Option<String>,
    /// Put a tiny question to the model, too.
    pub live: bool,
    /// Warnings are errors.
    pub strict: bool,
}

/// The explicit commands take no list of models that is older (`OPENCODE_MODELS_CACHE_TTL_SEC`).
const LIST_AGE: Duration = Duration::from_mins(1);

impl Engine {
    /// Checks one provider, or all.
    pub fn preflight(&self, request: &PreflightRequest) -> Result<PreflightDocument, EngineError> {
        let state = self.state()?;
        let cwd = std::env::current_dir().map_err(EngineError::NoCurrentDir)?;
        let place = request.worktree.as_ref().map_or_else(|| cwd.clone(), |path| cwd.join(path));
        let layers = || self.layers(project_of(&place).as_deref(), request.profile.as_deref());
        let named = match &request.provider {
            Some(name) => Some(name.clone()),
            None if request.profile.is_some() => layers()?.text(&PROVIDER)?.map(|n| n.parse()).transpose()?,
            None => None,
        };
        let all = layers()?.providers;
        let providers = match &named {
            Some(name) => vec![all.find(name)?],
            None => all.shared().filter(|p| p.program.is_some()).collect(),
        };
        let mut rows = Vec::new();
        for provider in providers {
            let settings = layers()?
                .with_provider(Arc::clone(&provider))
                .with_flag(&MODEL, request.model.clone().map(Value::Text))
                .with_flag(&ALLOW_MODEL_OVERRIDE, request.allow_model_override.then_some(Value::Bool(true)));
            let look = Look {
                engine: self,
                state: &state,
                provider: &provider,
                settings: &settings,
                request,
                place: &place,
            };
            rows.extend(look.rows(named.is_some())?);
        }
        if let Some(row) = worktree_row(request, &state, &layers()?, &place)? {
            rows.push(row);
        }
        if request.strict {
            rows.iter_mut().filter(|row| row.level == Level::Warn).for_each(|row| row.level = Level::Error);
        }
        Ok(PreflightDocument {
            schema: "dx-runner/preflight/1".to_owned(),
            passed: rows.iter().all(|row| row.level != Level::Error),
            strict: request.strict,
            checks: rows,
        })
    }

    /// One tiny question to a provider's model, with a deadline, judged as a job would be.
    pub fn probe(
        &self,
        provider: &ProviderName,
        model: Option<String>,
    ) -> Result<PreflightDocument, EngineError> {
        let state = self.state()?;
        let layers = self.layers_here(None)?;
        let provider = layers.providers.find(provider)?;
        let settings =
            layers.with_provider(Arc::clone(&provider)).with_flag(&MODEL, model.clone().map(Value::Text));
        // The caller named it.
        let request = PreflightRequest { model, allow_model_override: false, ..PreflightRequest::default() };
        let place = std::env::current_dir().map_err(EngineError::NoCurrentDir)?;
        let look = Look {
            engine: self,
            state: &state,
            provider: &provider,
            settings: &settings,
            request: &request,
            place: &place,
        };
        let row = look.live()?;
        Ok(PreflightDocument {
            schema: "dx-runner/preflight/1".to_owned(),
            passed: row.level != Level::Error,
            strict: false,
            checks: vec![row],
        })
    }
}

/// A look at one provider.
struct Look<'a> {
    engine: &'a Engine,
    state: &'a StateDir,
    provider: &'a Arc<Provider>,
    settings: &'a Layers,
    request: &'a PreflightRequest,
    place: &'a Path,
}

impl Look<'_> {
    /// All checks but that of the worktree. One that is not installed is an error when it was named.
    fn rows(&self, named: bool) -> Result<Vec<PreflightRow>, EngineError> {
        let provider = self.provider.as_ref();
        if provider.program.is_none() {
            return Ok(vec![checks::ok(provider, "binary", "any command".to_owned())]);
        }
        let binary = match provider.binary() {
            Ok(binary) => binary,
            Err(error) => {
                let mut row = self.refused("binary", &error);
                if !named {
                    row.level = Level::Warn;
                }
                return Ok(vec![row]);
            }
        };
        let mut rows = vec![checks::ok(provider, "binary", binary.display().to_string())];
        let env = provider.environment();
        let model = self.settings.text(&MODEL)?;
        let override_allowed = self.settings.is_on(&ALLOW_MODEL_OVERRIDE)?;
        let progress = |what: &str| self.engine.progress(what);
        let wish = self.wish(&env, model.as_deref(), override_allowed, self.place, &progress)?;
        rows.extend(checks::version_row(provider, &checks::version(&wish, provider, &binary)));
        rows.extend(checks::credentials(provider, &wish));
        let resolved = (provider.resolve)(provider, &wish);
        rows.extend(resolved.as_ref().ok().and_then(|resolved| self.parked(resolved)));
        rows.push(match resolved {
            Ok(resolved) if resolved.fallback_reason == "none" => {
                checks::ok(provider, "model", resolved.selected_model)
            }
            Ok(resolved) => {
                let found = format!("{} ({})", resolved.selected_model, resolved.fallback_reason);
                checks::ok(provider, "model", found)
            }
            Err(error) => self.refused("model", &error),
        });
        let lane = self.settings.text(&LANE)?.unwrap_or_default();
        rows.push(match provider.lanes.iter().find(|known| known.as_str() == lane) {
            Some(Lane::Run) => checks::ok(provider, "lane", lane),
            // The others need a server that answers, and can.
            Some(known) => match self.engine.access_for(*known, None) {
                Ok((server, _)) => checks::ok(provider, "lane", format!("{lane} ({})", server.url())),
                Err(error) => self.refused("lane", &error),
            },
            None => {
                let mut row = checks::warn(provider, "lane", ReasonCode::ProviderLaneUnavailable, lane);
                row.level = Level::Error;
                row
            }
        });
        rows.extend((provider.more_checks)(provider));
        if self.request.live && !rows.iter().any(|row| row.level == Level::Error) {
            rows.push(self.live()?);
        }
        Ok(rows)
    }

    /// What another job was told of this account and model.
    fn parked(&self, resolved: &Resolved) -> Option<PreflightRow> {
        let all = pools::parked(self.state, Timestamp(clock::now_ms()));
        let is_it = |pool: &Pool| {
            pool.provider.as_str() == self.provider.name
                && pool.account == resolved.auth_source
                && pool.model == resolved.selected_model
        };
        let parked = all.into_iter().find(|parked| is_it(&parked.pool))?;
        let found = format!("{} gets nothing before {}", parked.pool.model, parked.until);
        Some(checks::warn(self.provider, "quota", ReasonCode::QuotaParked, found))
    }

    fn wish<'b>(
        &'b self,
        env: &'b [(OsString, OsString)],
        model: Option<&'b str>,
        allow_model_override: bool,
        place: &'b Path,
        progress: &'b dyn Fn(&str),
    ) -> Result<Wish<'b>, EngineError> {
        Ok(Wish {
            server: None,
            state: self.state,
            worktree: place,
            repository: None,
            beads: "preflight",
            log: Path::new("/dev/null"),
            model,
            allow_model_override,
            agent: None,
            confined: sandbox::confines(&sandbox_of(self.settings)?),
            command: &[],
            has_prompt: true,
            prompt_file: Path::new("/dev/null"),
            env,
            progress,
            settings: self.settings,
            list_age: Some(list_age()),
        })
    }

    fn refused(&self, check: &str, error: &EngineError) -> PreflightRow {
        let found = crate::secrets::mask_text(&error.to_string()).into_owned();
        PreflightRow {
            level: Level::Error,
            code: Some(error.reason()),
            next_action: error.next_action(),
            ..checks::ok(self.provider, check, found)
        }
    }
}

fn list_age() -> Duration {
    let set = std::env::var("OPENCODE_MODELS_CACHE_TTL_SEC").ok().and_then(|text| text.trim().parse().ok());
    set.map_or(LIST_AGE, Duration::from_secs)
}

/// The state of the worktree that was named, which is no provider's.
fn worktree_row(
    request: &PreflightRequest,
    state: &StateDir,
    layers: &Layers,
    place: &Path,
) -> Result<Option<PreflightRow>, EngineError> {
    if request.worktree.is_none() {
        return Ok(None);
    }
    let row = |level, code: Option<ReasonCode>, found: String, next_action: String| PreflightRow {
        provider: "-".to_owned(),
        check: "worktree".to_owned(),
        level,
        code,
        found,
        next_action,
    };
    Ok(Some(match permission::check(place, state.root(), &layers.places()?) {
        Err(error) => row(Level::Error, Some(error.reason()), error.to_string(), error.next_action()),
        Ok(real) if Repository::find(&real).is_none() => {
            let code = ReasonCode::NotAGitRepo;
            let found = format!("{} is in no git repository: changes will not be seen", real.display());
            row(Level::Warn, Some(code), found, code.next_action().to_owned())
        }
        Ok(real) => row(Level::Ok, None, real.display().to_string(), "-".to_owned()),
    }))
}
