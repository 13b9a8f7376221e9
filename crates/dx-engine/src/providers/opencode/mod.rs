//! Provider `opencode`: `opencode run --format json --dir W --model M`, the prompt on standard input. Lane `attach` adds
//! `--attach URL`; in lane `server` a process of ours drives a session.

mod agent;
mod lanes;
mod lists;
mod warm;

use super::models::{Allowed, Models, Policy};
use super::provider::{Provider, texts};
use super::{Resolved, StatePath, Wish, checks};

use crate::environment;
use crate::error::EngineError;
use crate::settings::{OPENCODE_ALLOWED_MODELS, OPENCODE_CANONICAL_MODEL};
use dx_protocol::{Grammar, Lane, PreflightRow, ReasonCode};
use std::ffi::OsString;

/// Keys of model providers that OpenCode reads from its environment.
pub(in crate::providers) const KEYS: [&str; 11] = [
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "ZAI_API_KEY",
    "ZHIPU_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_GENERATIVE_AI_API_KEY",
    "GROQ_API_KEY",
    "DEEPSEEK_API_KEY",
    "MISTRAL_API_KEY",
    "XAI_API_KEY",
];

pub(super) fn provider() -> Provider {
    Provider {
        name: "opencode".to_owned(),
        description: "OpenCode, headless".to_owned(),
        program: Some("opencode".to_owned()),
        missing: ReasonCode::OpencodeBinaryMissing,
        model_env: Some("OPENCODE_MODEL".to_owned()),
        models: Models {
            canonical: Some(&OPENCODE_CANONICAL_MODEL),
            allowed: Allowed::Setting {
                setting: &OPENCODE_ALLOWED_MODELS,
                also: Some(&["zai-coding-plan/glm-5"]),
            },
            unsupported: ReasonCode::OpencodeModelUnsupported,
            unavailable: ReasonCode::OpencodeModelUnavailable,
        },
        credentials: texts(&KEYS),
        logins: texts(&[".local/share/opencode/auth.json", ".config/opencode/opencode.json"]),
        tested: texts(&["1.18."]),
        more_checks,
        lanes: vec![Lane::Run, Lane::Server, Lane::Attach],
        grammar: Grammar::Opencode,
        passes: texts(&["OPENCODE_*"]).into_iter().chain(texts(&KEYS)).collect(),
        resolve,
        ..Provider::default()
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let binary = provider.binary()?;
    let policy = Policy::of(wish, &provider.models)?;
    let wanted = policy.wanted()?.unwrap_or_default();
    if let Some(server) = wish.server {
        let choice = policy.choose(&wanted, &lanes::models(server)?, "the server")?;
        return lanes::resolve(wish, server, binary, choice);
    }
    let listed = lists::models(wish, &binary)?;
    let choice = policy.choose(&wanted, &listed, "OpenCode")?;
    // A worktree that a dry run would make holds no definitions yet.
    if let Some(name) = wish.agent.filter(|_| wish.worktree.is_dir()) {
        agent::check(name, &lists::agents(wish, &binary)?)?;
    }
    let mut argv: Vec<OsString> = vec![binary.into()];
    argv.extend(["run", "--format", "json", "--dir"].map(OsString::from));
    argv.push(wish.worktree.as_os_str().to_owned());
    argv.extend(["--model".into(), OsString::from(&choice.model)]);
    argv.extend(wish.agent.iter().flat_map(|name| ["--agent".into(), OsString::from(name)]));
    // While it tries again it prints nothing, for minutes. Its log tells each call that failed.
    argv.extend(["--print-logs", "--log-level", "ERROR"].map(OsString::from));
    let key = wish.env.iter().filter_map(|(n, _)| n.to_str()).find(|n| KEYS.contains(n));
    Ok(Resolved {
        argv,
        env: headless(),
        grammar: Grammar::Opencode,
        prompt_on_stdin: true,
        prompt_channel: "stdin",
        selected_model: choice.model,
        fallback_reason: choice.fallback_reason,
        auth_source: key
            .map_or_else(|| "OpenCode's own store or configuration".to_owned(), |k| format!("variable {k}")),
        base_url: "-".to_owned(),
        state: state(wish),
        adapter: false,
    })
}

/// Beads' server for agents is not ours to need, but many prompts count on it.
fn more_checks(provider: &Provider) -> Vec<PreflightRow> {
    let row = match environment::find_program("beads-mcp") {
        Some(path) => checks::ok(provider, "beads-mcp", format!("beads-mcp binary: {}", path.display())),
        None => checks::warn(
            provider,
            "beads-mcp",
            ReasonCode::BeadsMcpMissing,
            "beads-mcp binary: MISSING (optional - Beads context degraded)".to_owned(),
        ),
    };
    vec![row]
}

/// Its sessions, credentials, logs and caches. Not its configuration: plugins in it run wherever OpenCode does, and it works
/// without (tried with 1.18).
fn state(wish: &Wish<'_>) -> Vec<StatePath> {
    const PLACES: [(&str, &str); 3] =
        [("XDG_DATA_HOME", ".local/share"), ("XDG_STATE_HOME", ".local/state"), ("XDG_CACHE_HOME", ".cache")];
    let places = PLACES.iter().filter_map(|(name, below)| environment::dir_in(wish.env, name, below));
    places.map(|place| StatePath::Folder(place.join("opencode"))).collect()
}

/// Settings for a run without a person: nothing is updated or downloaded behind our back.
pub(crate) fn headless() -> Vec<(&'static str, String)> {
    vec![("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()), ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".to_owned())]
}
