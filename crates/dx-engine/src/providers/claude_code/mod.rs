//! Provider `claude-code`, lane `run`: `claude -p --output-format stream-json --verbose`, the prompt on standard input.
//!
//! Claude Code's own file tools stay in the worktree (`acceptEdits`); shell and web are allowed as OpenCode allows them.
//! Rules of its settings that deny something still do, and whatever is refused is told in the outcome. Provider `cc-glm` is
//! the same program on another model: what differs is an [`Access`].

mod agent;

use super::models::{Allowed, Models, Policy};
use super::provider::{Provider, texts};
use super::{Resolved, StatePath, Wish, without_credentials};
use crate::environment;
use crate::error::EngineError;
use crate::settings::CLAUDE_CODE_ALLOWED_MODELS;
use dx_protocol::{Grammar, ReasonCode};
use std::ffi::OsString;

/// Beginnings of the versions it was tested with.
pub(super) const TESTED: [&str; 1] = ["2.1."];
/// The name of its program.
pub(super) const PROGRAM: &str = "claude";
/// What Claude Code reads, beyond `ANTHROPIC_*`. Not all of `CLAUDE_*`: a session in which dx-runner was called leaves its
/// marks there, and an agent that finds them takes itself for a part of it.
pub(super) const SETTINGS: [&str; 10] = [
    "CLAUDE_CONFIG_DIR",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "API_TIMEOUT_MS",
    "MAX_THINKING_TOKENS",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_TIMEOUT_MS",
    "MCP_TIMEOUT",
    "MCP_TOOL_TIMEOUT",
];
/// The same where Claude Code asks its maker's models.
const OWN_ACCOUNT: [&str; 8] = [
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_CLIENT_CERT",
    "CLAUDE_CODE_CLIENT_KEY",
    "CLAUDE_CODE_CLIENT_KEY_PASSPHRASE",
];
/// Where credentials can come from, in the order in which Claude Code looks.
const CREDENTIALS: [&str; 3] = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"];

pub(super) fn provider() -> Provider {
    let passes = [&["ANTHROPIC_*"][..], &SETTINGS, &OWN_ACCOUNT];
    Provider {
        name: "claude-code".to_owned(),
        description: "Claude Code, headless".to_owned(),
        program: Some(PROGRAM.to_owned()),
        missing: ReasonCode::ClaudeCodeBinaryMissing,
        model_env: Some("ANTHROPIC_MODEL".to_owned()),
        models: Models {
            allowed: Allowed::Setting { setting: &CLAUDE_CODE_ALLOWED_MODELS, also: None },
            unavailable: ReasonCode::ClaudeCodeModelUnavailable,
            ..Models::default()
        },
        credentials: texts(&CREDENTIALS),
        logins: texts(&[".claude/.credentials.json", ".claude.json"]),
        tested: texts(&TESTED),
        grammar: Grammar::Claude,
        passes: passes.into_iter().flat_map(texts).collect(),
        resolve,
        ..Provider::default()
    }
}

/// Where its model is, and with what it is asked.
pub(super) struct Access {
    /// Variables beside those of every run without a person.
    pub(super) env: Vec<(&'static str, String)>,
    /// Arguments of `claude`.
    pub(super) args: Vec<String>,
    pub(super) auth_source: String,
    pub(super) base_url: String,
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    resolve_as(provider, wish, ReasonCode::ClaudeCodeAgentMissing, |_model| {
        let credentials = CREDENTIALS.into_iter().find(|name| value(wish, name).is_some());
        Ok(Access {
            env: Vec::new(),
            args: Vec::new(),
            auth_source: credentials.map_or_else(
                || "Claude Code's own login or settings".to_owned(),
                |name| format!("variable {name}"),
            ),
            base_url: value(wish, "ANTHROPIC_BASE_URL").map_or_else(|| "-".to_owned(), without_credentials),
        })
    })
}

/// A variable of the job that is not empty.
fn value<'a>(wish: &'a Wish<'_>, name: &str) -> Option<&'a str> {
    let (_, value) = wish.env.iter().find(|(n, v)| n == name && !v.is_empty())?;
    value.to_str()
}

/// The command line of Claude Code for one of its providers; `access` is asked last, as it may take time.
pub(super) fn resolve_as(
    provider: &Provider,
    wish: &Wish<'_>,
    agent_missing: ReasonCode,
    access: impl FnOnce(Option<&str>) -> Result<Access, EngineError>,
) -> Result<Resolved, EngineError> {
    let binary = provider.binary()?;
    let model = Policy::of(wish, &provider.models)?.wanted()?;
    // A worktree that a dry run would make holds no definitions yet.
    if let Some(name) = wish.agent.filter(|_| wish.worktree.is_dir()) {
        agent::check(wish, &binary, name, agent_missing)?;
    }
    let access = access(model.as_deref())?;
    let mut argv: Vec<OsString> = vec![binary.into()];
    argv.extend(["-p", "--output-format", "stream-json", "--verbose"].map(OsString::from));
    argv.extend(
        ["--permission-mode", "acceptEdits", "--allowedTools", "Bash,WebFetch,WebSearch"].map(Into::into),
    );
    argv.extend(model.iter().flat_map(|model| ["--model".into(), OsString::from(model)]));
    argv.extend(wish.agent.iter().flat_map(|name| ["--agent".into(), OsString::from(name)]));
    argv.extend(access.args.into_iter().map(OsString::from));
    Ok(Resolved {
        argv,
        env: headless().into_iter().chain(access.env).collect(),
        grammar: Grammar::Claude,
        prompt_on_stdin: true,
        prompt_channel: "stdin",
        selected_model: model.unwrap_or_else(|| "default".to_owned()),
        fallback_reason: "none".to_owned(),
        auth_source: access.auth_source,
        base_url: access.base_url,
        state: state(wish),
        adapter: false,
    })
}

/// Its settings, login, sessions and what it remembers of projects.
fn state(wish: &Wish<'_>) -> Vec<StatePath> {
    let Some(folder) = environment::dir_in(wish.env, "CLAUDE_CONFIG_DIR", ".claude") else {
        return Vec::new();
    };
    let moved = wish.env.iter().any(|(name, _)| name == "CLAUDE_CONFIG_DIR");
    let beside =
        folder.parent().filter(|_| !moved).map(|home| StatePath::JsonFile(home.join(".claude.json")));
    std::iter::once(StatePath::Folder(folder)).chain(beside).collect()
}

/// Settings for a run without a person: nothing is updated, told to the maker or shown.
fn headless() -> Vec<(&'static str, String)> {
    let names = [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_AUTOUPDATER",
        "DISABLE_TELEMETRY",
        "DISABLE_ERROR_REPORTING",
    ];
    names.into_iter().map(|name| (name, "1".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_a_surrounding_session_are_not_passed_on() {
        for name in ["CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SESSION_ID"]
        {
            assert!(!provider().passes(name), "{name}");
        }
        assert!(provider().passes("ANTHROPIC_BASE_URL") && provider().passes("CLAUDE_CONFIG_DIR"));
    }
}
