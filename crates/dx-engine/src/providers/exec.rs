//! Provider `exec`: any command after `--`. The prompt, when there is one, is its standard input, or the file whose path
//! replaces `{prompt_file}` in an argument.

use super::provider::{Channel, Provider};
use super::{Resolved, Wish};
use crate::error::EngineError;
use dx_protocol::{Grammar, ReasonCode};

pub(super) fn provider() -> Provider {
    Provider {
        name: "exec".to_owned(),
        description: "any command after --; plain text output".to_owned(),
        program: None,
        missing: ReasonCode::SpawnFailed,
        prompt: Channel::Command,
        needs_prompt: false,
        model_env: None,
        recall: None,
        cap: None,
        resolve,
        ..Provider::default()
    }
}

const PLACEHOLDER: &str = "{prompt_file}";

fn resolve(_provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    if wish.command.is_empty() {
        return Err(EngineError::Argument("provider exec takes its command after --".to_owned()));
    }
    if wish.agent.is_some() {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: "provider exec has no agents to choose from".to_owned(),
            next_action: Some("give the command what it needs after --".to_owned()),
        });
    }
    let by_file = wish.command.iter().any(|a| a.contains(PLACEHOLDER));
    if by_file && !wish.has_prompt {
        return Err(EngineError::PromptNeeded);
    }
    let file = wish.prompt_file.to_string_lossy();
    let argv = wish.command.iter().map(|a| a.replace(PLACEHOLDER, &file).into()).collect();
    let prompt_on_stdin = wish.has_prompt && !by_file;
    Ok(Resolved {
        argv,
        env: Vec::new(),
        grammar: Grammar::Text,
        prompt_on_stdin,
        prompt_channel: match (wish.has_prompt, by_file) {
            (false, _) => "none",
            (true, true) => "file",
            (true, false) => "stdin",
        },
        selected_model: wish.model.unwrap_or("-").to_owned(),
        fallback_reason: "none".to_owned(),
        auth_source: "-".to_owned(),
        base_url: "-".to_owned(),
        state: Vec::new(),
        adapter: false,
    })
}
