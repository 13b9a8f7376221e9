//! Provider `cc-glm`: Claude Code on Z.ai's GLM models. The command line is Claude Code's; address, key and model are its
//! own.
//!
//! The address is forced by an argument: `env` in a settings file of the user or of the repository outranks the environment
//! of the process (tried with Claude Code 2.1), and would send the key to whoever wrote that file.

mod credentials;
mod op;

use super::claude_code::{self, Access};
use super::models::{Allowed, Models};
use super::provider::{Auth, Provider, texts};
use super::{Resolved, Wish};
use crate::error::EngineError;
use crate::settings::{CC_GLM_ALLOWED_MODELS, CC_GLM_BASE_URL, CC_GLM_CANONICAL_MODEL};
use dx_protocol::{Grammar, ReasonCode};

/// What carries the key.
const TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
/// The names under which Claude Code asks for a large, a middle and a small model.
const ROLES: [&str; 3] =
    ["ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"];
/// How long Claude Code waits for one answer, where the caller does not say; Z.ai's advice for slow, long answers.
const API_TIMEOUT: (&str, &str) = ("API_TIMEOUT_MS", "3000000");

pub(super) fn provider() -> Provider {
    Provider {
        name: "cc-glm".to_owned(),
        description: "Claude Code on Z.ai's GLM models, headless".to_owned(),
        program: Some(claude_code::PROGRAM.to_owned()),
        missing: ReasonCode::CcGlmBinaryMissing,
        model_env: Some("CC_GLM_MODEL".to_owned()),
        models: Models {
            canonical: Some(&CC_GLM_CANONICAL_MODEL),
            allowed: Allowed::Setting {
                setting: &CC_GLM_ALLOWED_MODELS,
                also: Some(&["glm-5.1", "glm-4.7", "glm-4.5-air"]),
            },
            unavailable: ReasonCode::CcGlmModelUnavailable,
            ..Models::default()
        },
        credentials: texts(&credentials::VARIABLES),
        recall: Some((TOKEN, credentials::at_once)),
        tested: texts(&claude_code::TESTED),
        grammar: Grammar::Claude,
        // Nothing of the caller's account with Anthropic: it would go to Z.ai.
        passes: texts(&claude_code::SETTINGS),
        auth: Some(Auth {
            named: |env, _| credentials::named(env),
            had: Some(|wish| credentials::resolve(wish).map(|credential| credential.source)),
        }),
        resolve,
        ..Provider::default()
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let base_url = wish.settings.text(&CC_GLM_BASE_URL)?.unwrap_or_default();
    // It goes into a command line, which everybody on the machine may read.
    if super::without_credentials(&base_url) != base_url {
        return Err(EngineError::Provider {
            reason: ReasonCode::ConfigInvalid,
            message: "the base URL of cc-glm is not plain: it holds a user, a password or a query".to_owned(),
            next_action: Some(
                "give CC_GLM_BASE_URL as scheme://host/path, and the key as CC_GLM_AUTH_TOKEN or CC_GLM_TOKEN_FILE"
                    .to_owned(),
            ),
        });
    }
    claude_code::resolve_as(provider, wish, ReasonCode::CcGlmAgentMissing, |model| {
        let credential = credentials::resolve(wish)?;
        let model = model.unwrap_or_default();
        let fixed = || {
            let roles = ROLES.iter().map(|role| (*role, model.to_owned()));
            roles.chain([("ANTHROPIC_BASE_URL", base_url.clone())])
        };
        let settings = serde_json::json!({ "env": fixed().collect::<std::collections::BTreeMap<_, _>>() });
        let mut env: Vec<_> = fixed().chain([(TOKEN, credential.value)]).collect();
        if !wish.env.iter().any(|(name, _)| name == API_TIMEOUT.0) {
            env.push((API_TIMEOUT.0, API_TIMEOUT.1.to_owned()));
        }
        Ok(Access {
            env,
            args: vec!["--settings".to_owned(), settings.to_string()],
            auth_source: credential.source,
            base_url: super::without_credentials(&base_url),
        })
    })
}
