//! A prompt that a server took and that nobody works on: something of the server's own hangs, a plugin for one, and no model
//! will ever be asked.
//!
//! A server with much to do comes to a prompt late. So its other work counts, but only as long as it keeps the server from
//! answering at once: one that has time again and again, and does not begin, never will.
//!
//! Must never: take a server under load for one that hangs.

use super::Failure;
use dx_opencode::{Client, Event, Message};
use dx_protocol::ReasonCode;
use std::time::{Duration, Instant};

/// A server that takes longer to say what its sessions do has too much to do.
const AT_EASE: Duration = Duration::from_millis(250);
/// One that is at ease tells a session's messages within this.
const TELLING: Duration = Duration::from_secs(2);
/// So often in a row a server is at ease, one look a second, when it cannot be its other work that keeps it from a prompt.
const EASY_LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_secs(1);

/// The time in which nobody works on a prompt.
pub(super) struct Wait {
    sent: Instant,
    /// When the server last did something for anybody: it may not have come to this prompt yet.
    heard: Instant,
    looked: Instant,
    /// Looks in a row at which the server had time.
    easy: u32,
}

impl Wait {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { sent: now, heard: now, looked: now, easy: 0 }
    }

    /// A server says hello and that it is there without doing anything.
    pub(super) fn hear(&mut self, event: &Event) {
        if matches!(event, Event::Told { kind, .. } if !kind.starts_with("server.")) {
            self.heard = Instant::now();
        }
    }

    /// Whether the prompt with this text has come to be worked on; an error when the server has nothing to do that could keep
    /// it from the prompt, or more than enough time for it.
    pub(super) fn look(
        &mut self,
        client: &Client,
        session: &str,
        text: &str,
        untouched: Duration,
    ) -> Result<bool, Failure> {
        if self.sent.elapsed() < untouched || self.looked.elapsed() < LOOK {
            return Ok(false);
        }
        self.looked = Instant::now();
        let Ok(works) = client.statuses(AT_EASE) else {
            self.easy = 0;
            return Ok(false);
        };
        self.easy += 1;
        let others = works.keys().filter(|other| *other != session).count();
        if (others > 0 || self.heard.elapsed() < untouched) && self.easy < EASY_LOOKS {
            return Ok(false);
        }
        // Where many ask, what happened comes late; what there is does not.
        match client.messages(session, TELLING) {
            Ok(messages) if is_begun(&messages, text) => return Ok(true),
            Ok(_) => {}
            Err(_) => {
                self.easy = 0;
                return Ok(false);
            }
        }
        let beside = match others {
            0 => String::new(),
            others => format!("; it answers, and works on {others} other sessions"),
        };
        let message = format!(
            "the server took the prompt and nobody works on it: it never reached a model ({} s{beside})",
            self.sent.elapsed().as_secs()
        );
        Err(Failure::new(ReasonCode::ServerError, message).with("look at the server's log, and restart it"))
    }
}

/// Whether there is an answer to that prompt, or the beginning of one.
fn is_begun(messages: &[Message], text: &str) -> bool {
    let Some(ours) = messages.iter().rfind(|said| said.info.role == "user" && said.text() == text) else {
        return false;
    };
    let answers =
        |said: &Message| said.info.role == "assistant" && said.info.parent.as_ref() == Some(&ours.info.id);
    messages.iter().any(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_that_of_the_prompt() {
        let message = |id: &str, role: &str, parent: Option<&str>, text: &str| {
            serde_json::from_value::<Message>(json!({ "info": { "id": id, "role": role, "parentID": parent },
                "parts": [{ "type": "text", "text": text }] }))
            .unwrap()
        };
        let mut all = vec![message("1", "user", None, "what?"), message("2", "assistant", Some("1"), "that")];
        assert!(is_begun(&all, "what?") && !is_begun(&all, "who?"));
        all.push(message("3", "user", None, "what?"));
        assert!(!is_begun(&all, "what?"), "the same was asked before");
        all.push(message("4", "assistant", Some("3"), ""));
        assert!(is_begun(&all, "what?"));
    }
}
