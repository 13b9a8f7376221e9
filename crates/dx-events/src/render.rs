//! Events as lines for people: what `logs` prints instead of an agent's JSON.
//!
//! Called for each event in order. Never prints, and never shows more than the event holds.

use dx_protocol::{AgentEvent, ErrorClass};

/// The transcript line (text may have several) for an event; `None` when there is nothing to say.
pub fn render(event: &AgentEvent) -> Option<String> {
    Some(match event {
        AgentEvent::Started { session, model } => {
            let session = session.as_deref().map(|s| format!("session {s}"));
            let model = model.as_deref().map(|m| format!("model {m}"));
            let parts: Vec<String> = session.into_iter().chain(model).collect();
            if parts.is_empty() {
                return None;
            }
            format!("* {}", parts.join(", "))
        }
        AgentEvent::Text { text } => text.clone(),
        AgentEvent::StepStarted | AgentEvent::Working => return None,
        AgentEvent::ToolStarted { name, .. } => format!("> {name} ..."),
        AgentEvent::ToolFinished { name, ok: true, .. } => format!("> {name}"),
        AgentEvent::ToolFinished { name, ok: false, .. } => format!("> {name} failed"),
        AgentEvent::FileChanged { path } => format!("  changed {path}"),
        AgentEvent::Usage(usage) => {
            let (input, output, cached) = (usage.input_tokens, usage.output_tokens, usage.cached_tokens);
            let cost = usage.cost_usd.filter(|c| *c > 0.0).map(|c| format!(", ${c:.4}")).unwrap_or_default();
            format!("  tokens: {input} in, {output} out, {cached} cached{cost}")
        }
        AgentEvent::Retrying { attempt, delay_ms, status, message } => {
            let delay =
                delay_ms.map(|ms| format!(" in {}.{} s", ms / 1000, ms % 1000 / 100)).unwrap_or_default();
            let number = Some(attempt).filter(|n| **n > 0).map(|n| format!(" {n}")).unwrap_or_default();
            format!("! retry{number}{delay}{}: {message}", http(*status))
        }
        AgentEvent::RateLimited { until_ms: Some(until) } => {
            format!("! rate limited until {} (Unix time)", until / 1000)
        }
        AgentEvent::RateLimited { until_ms: None } => "! rate limited".to_owned(),
        AgentEvent::PermissionAsked { what } => format!("! asks for permission: {what}"),
        AgentEvent::PermissionRefused { what } => format!("! permission refused: {what}"),
        AgentEvent::WriteRefused { tool, path } => format!("! the system refused {tool} to write {path}"),
        AgentEvent::Error { class, status, message } => {
            format!("! error ({}{}): {message}", class_name(*class), http(*status))
        }
        AgentEvent::Result { ok: true, .. } => "= done".to_owned(),
        AgentEvent::Result { ok: false, detail } => format!("= not done: {detail}"),
    })
}

fn http(status: Option<u16>) -> String {
    status.map(|s| format!(", HTTP {s}")).unwrap_or_default()
}

fn class_name(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Auth => "credentials",
        ErrorClass::AuthMissing => "no credentials",
        ErrorClass::UntrustedDirectory => "untrusted directory",
        ErrorClass::RateLimit => "rate limit",
        ErrorClass::Quota => "quota",
        ErrorClass::Capacity => "no capacity",
        ErrorClass::Server => "server",
        ErrorClass::ModelUnavailable => "model unavailable",
        ErrorClass::AgentMissing => "no such agent",
        ErrorClass::Network => "network",
        ErrorClass::Aborted => "aborted",
        ErrorClass::Other => "other",
    }
}
