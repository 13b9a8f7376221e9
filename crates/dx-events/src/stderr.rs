//! What agents say on stderr and nowhere else: refused permissions, an agent that does not exist, calls of the model that
//! failed and are tried again.
//!
//! Called with single lines of a job's `.err`. Never takes anything else there for an event: stderr is for people.

use dx_protocol::{AgentEvent, ErrorClass};

use crate::clean::{MESSAGE_MAX, PATH_MAX, line, without_ansi};
use crate::opencode_error::contains;
use dx_protocol::Grammar;

/// The event in one line of stderr, if there is one.
pub fn stderr_event(grammar: Grammar, text: &str) -> Option<AgentEvent> {
    match grammar {
        Grammar::Text => None,
        Grammar::Opencode => opencode(text),
        Grammar::Claude => claude(text),
        Grammar::Codex => codex(text),
        Grammar::Gemini => gemini(text),
    }
}

fn claude(text: &str) -> Option<AgentEvent> {
    let missing =
        text.trim_start().starts_with("--agent ") && text.contains(" not found. Available agents: ");
    missing.then(|| AgentEvent::Error {
        class: ErrorClass::AgentMissing,
        status: None,
        message: line(text, MESSAGE_MAX),
    })
}

/// A line of Codex's own log about a tool that was not run, or what its tool for patches says.
fn codex(text: &str) -> Option<AgentEvent> {
    if let Some(path) = text.strip_prefix("Failed to write file ").filter(|path| path.starts_with('/')) {
        return Some(AgentEvent::WriteRefused { tool: "apply_patch".to_owned(), path: line(path, PATH_MAX) });
    }
    let said = text.split_once(" ERROR codex_core::tools::router: error=")?.1;
    let what = match said.split_once("Rejected(\"").or_else(|| said.split_once("Rejected(\\\"")) {
        Some((_, rest)) => rest.split("\\\")").next().unwrap_or(rest),
        None if said.starts_with("patch rejected: ") => said,
        None => return None,
    };
    Some(AgentEvent::PermissionRefused { what: line(what, MESSAGE_MAX) })
}

/// What Gemini CLI says before it has a result to write, and each call that failed and is tried again.
fn gemini(text: &str) -> Option<AgentEvent> {
    let text = text.trim_end();
    if let Some(rest) = text.strip_prefix("Attempt ") {
        let (number, rest) = rest.split_once(" failed")?;
        let attempt = number.parse().ok()?;
        if rest.ends_with("Max attempts reached") {
            return None;
        }
        let said = rest.trim_start_matches([':', '.', ' ']);
        if let Some(said) = rest.strip_prefix(": ") {
            // Only limits that pass are told in this way, the second line of some on a line of its own.
            let message = line(said.split(". Retrying after ").next().unwrap_or_default(), MESSAGE_MAX);
            return Some(AgentEvent::Retrying { attempt, delay_ms: delay(said), status: Some(429), message });
        }
        let status = said.strip_prefix("with status ").and_then(|s| s.split('.').next()?.parse().ok());
        let message = said.split_once("with backoff... ").map_or(said, |(_, message)| message);
        return Some(AgentEvent::Retrying {
            attempt,
            delay_ms: None,
            status,
            message: line(message, MESSAGE_MAX),
        });
    }
    if text.starts_with("Suggested retry after ") {
        let delay_ms = Some(delay(text)?);
        let message = line(text.split(". Retrying").next().unwrap_or_default(), MESSAGE_MAX);
        return Some(AgentEvent::Retrying { attempt: 0, delay_ms, status: Some(429), message });
    }
    let plain = without_ansi(text);
    let class = if plain.starts_with("Gemini CLI is not running in a trusted directory.") {
        ErrorClass::UntrustedDirectory
    } else if plain.trim() == "Invalid auth method selected."
        || ["Please set an Auth method in your ", "When using Gemini API, you must specify the "]
            .iter()
            .any(|begin| plain.starts_with(begin))
    {
        ErrorClass::AuthMissing
    } else {
        return None;
    };
    Some(AgentEvent::Error { class, status: None, message: line(&plain, MESSAGE_MAX) })
}

/// The wait that a line of Gemini CLI ends with.
fn delay(text: &str) -> Option<u64> {
    text.rsplit_once(". Retrying after ")?.1.strip_suffix("ms...")?.parse().ok()
}

/// A line of OpenCode's own log about a call that failed. It tries again, or prints the error and ends. Calls for titles
/// (`small=true`) are none of the task's.
fn opencode_call(text: &str) -> Option<AgentEvent> {
    let rest = text.split_once(" level=ERROR")?.1;
    if !rest.contains(" message=\"stream error\" ") || !rest.contains(" small=false ") {
        return None;
    }
    let said = rest.split_once(" error.error=\"")?.1;
    let said = said.strip_suffix('"').unwrap_or(said);
    let message = line(said.split_once("Error: ").map_or(said, |(_, message)| message), MESSAGE_MAX);
    if ["rate limit", "too many requests", "429"].iter().any(|words| contains(&message, words)) {
        return Some(AgentEvent::RateLimited { until_ms: None });
    }
    Some(AgentEvent::Retrying { attempt: 0, delay_ms: None, status: None, message })
}

fn opencode(text: &str) -> Option<AgentEvent> {
    if text.starts_with("timestamp=") {
        return opencode_call(text.trim_end());
    }
    // Cheap before copying: real lines are short and start with a coloured "!".
    if !text.contains('!') {
        return None;
    }
    let text = without_ansi(text);
    let warning = text.trim().strip_prefix('!')?.trim_start();
    if let Some(what) = warning.strip_prefix("permission requested:") {
        let what = what.trim().strip_suffix("auto-rejecting")?.trim_end().trim_end_matches(';');
        return Some(AgentEvent::PermissionRefused { what: line(what, MESSAGE_MAX) });
    }
    if warning.starts_with("agent \"") && warning.contains("Falling back to default agent") {
        let message = line(warning, MESSAGE_MAX);
        return Some(AgentEvent::Error { class: ErrorClass::AgentMissing, status: None, message });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_lines() {
        let refused =
            "\u{1b}[93m\u{1b}[1m! \u{1b}[0mpermission requested: external_directory (/w/*); auto-rejecting";
        assert_eq!(
            stderr_event(Grammar::Opencode, refused),
            Some(AgentEvent::PermissionRefused { what: "external_directory (/w/*)".into() })
        );
        let agent = "\u{1b}[93m\u{1b}[1m! \u{1b}[0m agent \"x\" not found. Falling back to default agent";
        assert!(matches!(
            stderr_event(Grammar::Opencode, agent),
            Some(AgentEvent::Error { class: ErrorClass::AgentMissing, .. })
        ));
        assert_eq!(stderr_event(Grammar::Opencode, "oh no! permission requested: x"), None);
        assert_eq!(stderr_event(Grammar::Text, agent), None);
        let failed = |small: &str, error: &str| {
            stderr_event(
                Grammar::Opencode,
                &format!(
                    "timestamp=2026-11-21T13:03:50.419Z level=ERROR run=620760fc message=\"stream error\" \
                     providerID=mock modelID=m1 session.id=ses_e0 small={small} agent=build mode=primary \
                     error.error=\"AI_APICallError: {error}\""
                ),
            )
        };
        assert_eq!(
            failed("false", "Rate limit reached for requests"),
            Some(AgentEvent::RateLimited { until_ms: None })
        );
        let retrying = AgentEvent::Retrying {
            attempt: 0,
            delay_ms: None,
            status: None,
            message: "Internal server error".into(),
        };
        assert_eq!(failed("false", "Internal server error"), Some(retrying));
        assert_eq!(failed("true", "Rate limit reached for requests"), None);
        let agent = "--agent 'x' not found. Available agents: claude, Explore";
        assert!(matches!(
            stderr_event(Grammar::Claude, agent),
            Some(AgentEvent::Error { class: ErrorClass::AgentMissing, message, .. }) if message == agent
        ));
        for (said, what) in [
            (
                r#"exec_command failed: CreateProcess { message: "Rejected(\"`/bin/bash -lc 'touch a'` rejected: policy forbids commands starting with `touch`\")" }"#,
                "`/bin/bash -lc 'touch a'` rejected: policy forbids commands starting with `touch`",
            ),
            (
                r#"exec_command failed: CreateProcess { message: "Rejected(\"approval required by policy, but AskForApproval is set to Never\")" }"#,
                "approval required by policy, but AskForApproval is set to Never",
            ),
            (
                "patch rejected: writing outside of the project; rejected by user approval settings",
                "patch rejected: writing outside of the project; rejected by user approval settings",
            ),
        ] {
            let text = format!("2026-11-21T15:25:32.667399Z ERROR codex_core::tools::router: error={said}");
            let refused = AgentEvent::PermissionRefused { what: what.to_owned() };
            assert_eq!(stderr_event(Grammar::Codex, &text), Some(refused));
        }
        let written = AgentEvent::WriteRefused { tool: "apply_patch".to_owned(), path: "/x/a".to_owned() };
        assert_eq!(stderr_event(Grammar::Codex, "Failed to write file /x/a"), Some(written));
        let other = "2026-11-21T15:25:33Z ERROR codex_core::tools::router: error=unsupported call: nosuch";
        assert_eq!(stderr_event(Grammar::Codex, other), None);
        assert_eq!(stderr_event(Grammar::Gemini, "Attempt one failed"), None);
        assert_eq!(stderr_event(Grammar::Gemini, "Attempt 10 failed: x. Max attempts reached"), None);
        assert_eq!(stderr_event(Grammar::Claude, "[claude-code:unrecognized_model] {}"), None);
    }
}
