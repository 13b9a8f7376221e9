//! What a session does, in the words of `opencode run --format json`: each part once, when it is whole.
//!
//! Pure. Must never: tell of another session, or of what the user said.

use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Turns events into lines.
#[derive(Debug)]
pub(super) struct Told {
    session: String,
    /// Messages of the model; parts of others are the prompt's.
    seen: BTreeSet<String>,
}

impl Told {
    pub(super) fn new(session: &str) -> Self {
        Self { session: session.to_owned(), seen: BTreeSet::new() }
    }

    /// The line for a part; `None` when it is not whole, not ours, or told already.
    pub(super) fn part(&mut self, part: &Value, now_ms: u64) -> Option<Value> {
        if part["sessionID"] != self.session.as_str() {
            return None;
        }
        let ended = part["time"]["end"].is_number();
        let (kind, stage) = match part["type"].as_str()? {
            "step-start" => ("step_start", ""),
            "step-finish" => ("step_finish", ""),
            "text" if ended => ("text", ""),
            "reasoning" if ended => ("reasoning", ""),
            "tool" => match part["state"]["status"].as_str()? {
                "running" => ("tool_use", "running"),
                "completed" | "error" => ("tool_use", "ended"),
                _ => return None,
            },
            _ => return None,
        };
        let key = format!("{}{stage}", part["id"].as_str()?);
        let new = self.seen.insert(key);
        new.then(|| self.line(kind, now_ms, "part", part))
    }

    /// The line for a failure.
    pub(super) fn error(&self, error: &Value, now_ms: u64) -> Value {
        self.line("error", now_ms, "error", error)
    }

    /// Something else that is worth a line: a sign of life.
    pub(super) fn line(&self, kind: &str, now_ms: u64, name: &str, value: &Value) -> Value {
        json!({ "type": kind, "timestamp": now_ms, "sessionID": self.session, name: value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_parts_of_the_session_are_told_once() {
        let mut told = Told::new("s");
        let mut kind =
            |part: Value| told.part(&part, 7).map(|line| line["type"].as_str().unwrap().to_owned());
        let text = |end: Option<u64>| {
            json!({ "id": "1", "sessionID": "s", "type": "text", "text": "hi",
            "time": { "start": 1, "end": end } })
        };
        assert_eq!(kind(text(None)), None);
        assert_eq!(kind(text(Some(2))).as_deref(), Some("text"));
        assert_eq!(kind(text(Some(2))), None);
        // The prompt has no times.
        assert_eq!(kind(json!({ "id": "2", "sessionID": "s", "type": "text", "text": "go" })), None);
        let tool = |status: &str| json!({ "id": "3", "sessionID": "s", "type": "tool", "state": { "status": status } });
        let seen: Vec<bool> = ["pending", "running", "running", "completed", "completed"]
            .iter()
            .map(|status| kind(tool(status)).is_some())
            .collect();
        assert_eq!(seen, [false, true, false, true, false]);
        assert_eq!(kind(json!({ "id": "4", "sessionID": "other", "type": "step-start" })), None);
    }
}
