//! What agents say on stderr and nowhere else: refused permissions, an agent that does not exist.
//!
//! Called with single lines of a job's `.err`. Never takes anything else there for an event: stderr is for people.

use dx_protocol::{AgentEvent, ErrorClass};

use crate::clean::{MESSAGE_MAX, line, without_ansi};
use dx_protocol::Grammar;

/// The event in one line of stderr, if there is one.
pub fn stderr_event(grammar: Grammar, text: &str) -> Option<AgentEvent> {
    match grammar {
        Grammar::Text => None,
        Grammar::Opencode => opencode(text),
        Grammar::Claude => claude(text),
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

fn opencode(text: &str) -> Option<AgentEvent> {
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
        let agent = "--agent 'x' not found. Available agents: claude, Explore";
        assert!(matches!(
            stderr_event(Grammar::Claude, agent),
            Some(AgentEvent::Error { class: ErrorClass::AgentMissing, message, .. }) if message == agent
        ));
        assert_eq!(stderr_event(Grammar::Claude, "[claude-code:unrecognized_model] {}"), None);
    }
}
