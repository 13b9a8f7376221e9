//! Service `opencode-server`: `opencode serve` on loopback, shared by everything of one state directory.
//!
//! Called by: `server start`, through the job machinery; its command is the address to listen on. Must never: be started
//! by `start`, or listen beyond this machine.

use super::opencode::{KEYS, headless};
use super::provider::{Channel, Provider, texts};
use super::{Resolved, Wish};
use crate::error::EngineError;
use dx_protocol::{Grammar, ReasonCode};

/// Its name as a provider.
pub(crate) const NAME: &str = "opencode-server";

pub(super) fn provider() -> Provider {
    Provider {
        name: NAME.to_owned(),
        description: "the shared OpenCode server; see `server start`".to_owned(),
        program: Some("opencode".to_owned()),
        missing: ReasonCode::OpencodeBinaryMissing,
        prompt: Channel::Command,
        needs_prompt: false,
        cap: None,
        lanes: Vec::new(),
        passes: texts(&["OPENCODE_*"]).into_iter().chain(texts(&KEYS)).collect(),
        resolve,
        ..Provider::default()
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let [hostname, port] = wish.command else {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: "the OpenCode server is not started with `start`".to_owned(),
            next_action: Some("dx-runner server start".to_owned()),
        });
    };
    let binary = provider.binary()?;
    let words = ["serve", "--hostname", hostname, "--port", port].map(Into::into);
    Ok(Resolved {
        argv: std::iter::once(binary.into()).chain(words).collect(),
        env: headless(),
        grammar: Grammar::Text,
        prompt_on_stdin: false,
        prompt_channel: "none",
        selected_model: "-".to_owned(),
        fallback_reason: "none".to_owned(),
        auth_source: "OpenCode's own store or configuration".to_owned(),
        base_url: format!("http://{hostname}:{port}"),
        state: Vec::new(),
        adapter: false,
    })
}
