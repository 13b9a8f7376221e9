//! Provider `gemini`, lane `run`: `gemini -o stream-json --model M --yolo`, the prompt on standard input.
//!
//! Started without the wrapper that it puts around itself: the wrapper ignores TERM, and the process that is watched would
//! not be the one that works. Its own container is switched off too, as that puts the prompt on a command line.

mod credentials;

use super::models::{Allowed, Models, Policy};
use super::provider::{Auth, Provider, texts};
use super::{Resolved, StatePath, Wish, without_credentials};
use crate::environment;
use crate::error::EngineError;
use crate::settings::{GEMINI_ALLOWED_MODELS, GEMINI_CANONICAL_MODEL, GEMINI_NO_YOLO};
use dx_protocol::{Grammar, ReasonCode};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Says whether the worktree is trusted, whatever Gemini CLI remembers of it.
const TRUST: &str = "GEMINI_CLI_TRUST_WORKSPACE";
/// What Gemini CLI reads. Not all of `GEMINI_*`: a session in which dx-runner was called leaves its marks there.
const PASSED: [&str; 21] = [
    "GEMINI_API_KEY",
    "GEMINI_API_KEY_AUTH_MECHANISM",
    "GOOGLE_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_VERTEX_BASE_URL",
    "GOOGLE_GENAI_USE_GCA",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_GENAI_API_VERSION",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_CLOUD_PROJECT_ID",
    "GOOGLE_CLOUD_LOCATION",
    "GEMINI_CLI_HOME",
    "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
    "GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
    "GEMINI_CLI_TRUSTED_FOLDERS_PATH",
    "GEMINI_CLI_CUSTOM_HEADERS",
    "GEMINI_CLI_USE_COMPUTE_ADC",
    "GEMINI_FORCE_ENCRYPTED_FILE_STORAGE",
    "GEMINI_RESTRICTED_MODE",
    TRUST,
];

pub(super) fn provider() -> Provider {
    Provider {
        name: "gemini".to_owned(),
        description: "Gemini CLI, headless".to_owned(),
        program: Some("gemini".to_owned()),
        missing: ReasonCode::GeminiBinaryMissing,
        model_env: Some("GEMINI_MODEL".to_owned()),
        models: Models {
            canonical: Some(&GEMINI_CANONICAL_MODEL),
            allowed: Allowed::Setting { setting: &GEMINI_ALLOWED_MODELS, also: None },
            ..Models::default()
        },
        credentials: texts(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
        tested: texts(&["0.61."]),
        grammar: Grammar::Gemini,
        passes: texts(&PASSED),
        resolve,
        auth: Some(Auth {
            named: |env, worktree| credentials::find(env, worktree).map(|found| found.source),
            had: None,
        }),
        ..Provider::default()
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let binary = provider.binary()?;
    if wish.agent.is_some() {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: "provider gemini has no agents to choose from".to_owned(),
            next_action: Some("start without --agent".to_owned()),
        });
    }
    let credentials = credentials::find(wish.env, wish.worktree)?;
    let model = Policy::of(wish, &provider.models)?.wanted()?.unwrap_or_default();
    let mut argv: Vec<OsString> = vec![binary.into()];
    argv.extend(["-o", "stream-json", "--model", &model].map(OsString::from));
    if !wish.settings.is_on(&GEMINI_NO_YOLO)? {
        argv.push("--yolo".into());
    }
    let mut env = headless();
    if value(wish.env, TRUST).is_none() {
        env.push((TRUST, "true".to_owned()));
    }
    env.extend(credentials.env);
    Ok(Resolved {
        argv,
        env,
        grammar: Grammar::Gemini,
        prompt_on_stdin: true,
        prompt_channel: "stdin",
        selected_model: model,
        fallback_reason: "none".to_owned(),
        auth_source: credentials.source,
        base_url: value(wish.env, "GOOGLE_GEMINI_BASE_URL")
            .map_or_else(|| "-".to_owned(), |url| without_credentials(&url.to_string_lossy())),
        state: folder(wish.env).into_iter().map(StatePath::Folder).collect(),
        adapter: false,
    })
}

/// Its settings, login and sessions.
fn folder(env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let home = environment::dir_in(env, "GEMINI_CLI_HOME", ".")?;
    Some(home.components().collect::<PathBuf>().join(".gemini"))
}

/// A variable of the agent that says something.
fn value<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    env.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_os_str())
}

/// Settings for a run without a person, and without processes between it and us.
fn headless() -> Vec<(&'static str, String)> {
    let pairs = [("GEMINI_CLI_NO_RELAUNCH", "true"), ("GEMINI_SANDBOX", "false")];
    pairs.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_a_surrounding_session_are_not_passed_on() {
        for name in ["GEMINI_CLI", "GEMINI_CLI_IDE_SERVER_PORT", "GEMINI_PTY_INFO", "GEMINI_SANDBOX"] {
            assert!(!provider().passes(name), "{name}");
        }
        assert!(provider().passes("GEMINI_API_KEY") && provider().passes("GOOGLE_GEMINI_BASE_URL"));
    }
}
