//! Provider `codex`, lane `run`: `codex exec --json`, the prompt on standard input.
//!
//! Codex has one fence for its file tools and its shell. In our sandbox it is off: it cannot be built there, and ours is
//! the fence. Without ours it is on: writes to the worktree, its repository and temporary files, and the network open, as
//! other agents have it. Nobody is asked in either case; what Codex's own rules forbid is refused, and told in the outcome.

mod fence;
mod native;
mod question;
mod settings;

pub(crate) use question::options as options_of_question;

use super::models::{Allowed, Models, Policy};
use super::provider::{Provider, texts};
use super::{Resolved, StatePath, Wish, form};
use crate::environment;
use crate::error::EngineError;
use crate::settings::CODEX_ALLOWED_MODELS;
use dx_protocol::{Grammar, ReasonCode};
use std::ffi::OsString;

/// What Codex reads. Not all of `CODEX_*`: a session in which dx-runner was called leaves its marks there.
const PASSED: [&str; 9] = [
    "CODEX_HOME",
    "CODEX_SQLITE_HOME",
    "CODEX_API_KEY",
    "CODEX_ACCESS_TOKEN",
    "CODEX_CA_CERTIFICATE",
    "OPENAI_API_KEY",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "AZURE_OPENAI_API_KEY",
];
/// Where credentials can come from before Codex looks into its own store and settings.
const CREDENTIALS: [&str; 2] = ["CODEX_API_KEY", "CODEX_ACCESS_TOKEN"];

/// For a run without a person: nothing is updated or told to the maker, and an API that cannot be reached is given up
/// (Codex would wait for it for ever, whatever its settings say of retries).
const HEADLESS: [&str; 3] = [
    "check_for_update_on_startup=false",
    "analytics.enabled=false",
    "features.unbounded_connection_retries=false",
];

pub(super) fn provider() -> Provider {
    Provider {
        name: "codex".to_owned(),
        description: "Codex CLI, headless".to_owned(),
        program: Some("codex".to_owned()),
        missing: ReasonCode::CodexBinaryMissing,
        model_env: Some("CODEX_MODEL".to_owned()),
        models: Models {
            allowed: Allowed::Setting { setting: &CODEX_ALLOWED_MODELS, also: None },
            unavailable: ReasonCode::CodexModelUnavailable,
            ..Models::default()
        },
        credentials: texts(&CREDENTIALS),
        logins: texts(&[".codex/auth.json", ".codex/config.toml"]),
        tested: texts(&["0.169."]),
        grammar: Grammar::Codex,
        passes: texts(&PASSED),
        key_named: settings::key_named,
        resolve,
        ..Provider::default()
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let binary = native::behind(provider.binary()?);
    if wish.agent.is_some() {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: "provider codex has no agents to choose from".to_owned(),
            next_action: Some("say it in the prompt, or in AGENTS.md".to_owned()),
        });
    }
    let model = Policy::of(wish, &provider.models)?.wanted()?;
    let fence = fence::of(wish, &binary)?;
    let mut argv: Vec<OsString> = vec![binary.into()];
    // Where a worktree may be is ours to judge.
    argv.extend(["exec", "--json", "--skip-git-repo-check"].map(OsString::from));
    argv.extend(HEADLESS.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
    argv.extend(fence.into_iter().map(OsString::from));
    argv.extend(model.iter().flat_map(|model| ["--model".into(), OsString::from(model)]));
    argv.push("-".into());
    Ok(Resolved {
        argv,
        env: Vec::new(),
        grammar: Grammar::Codex,
        prompt_on_stdin: true,
        prompt_channel: "stdin",
        selected_model: model.unwrap_or_else(|| "default".to_owned()),
        fallback_reason: "none".to_owned(),
        auth_source: form::source(provider, wish.env)
            .unwrap_or_else(|| "Codex's own login or settings".to_owned()),
        base_url: "-".to_owned(),
        state: state(wish),
        adapter: false,
    })
}

/// Its login, settings, sessions and databases: all of it in one folder, in which it makes files as it likes.
fn state(wish: &Wish<'_>) -> Vec<StatePath> {
    let home = environment::dir_in(wish.env, "CODEX_HOME", ".codex");
    let databases = wish.env.iter().find(|(name, _)| name == "CODEX_SQLITE_HOME");
    let databases =
        databases.map(|(_, place)| place.into()).filter(|place: &std::path::PathBuf| place.is_absolute());
    home.into_iter().chain(databases).map(StatePath::Folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_a_surrounding_session_are_not_passed_on() {
        let provider = provider();
        for name in ["CODEX_THREAD_ID", "CODEX_SANDBOX", "CODEX_SESSION_ID", "CODEX_CI"] {
            assert!(!provider.passes(name), "{name}");
        }
        assert!(provider.passes("CODEX_HOME") && provider.passes("CODEX_API_KEY"));
    }
}
