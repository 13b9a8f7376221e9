//! What an OpenCode server says of a session: that it works, or when it will ask its model again, and why.
//!
//! Called by the OpenCode grammar. The reason of a wait is told in words only. Must never: take a wait for work.

use dx_protocol::{AgentEvent, ErrorClass};
use serde::de::MapAccess;

use crate::clean::{MESSAGE_MAX, line};
use crate::instant;
use crate::loose::{Fields, number, skip, text};
use crate::opencode_error::opencode_error_class;

/// The `status` object of a session's status.
#[derive(Default)]
pub(crate) struct Status {
    kind: Option<String>,
    attempt: Option<f64>,
    message: Option<String>,
    /// Milliseconds since 1970.
    next: Option<f64>,
}

impl Status {
    /// The event of a status; `now` is the record's own time in milliseconds.
    pub(crate) fn events(&self, now: Option<f64>, sink: &mut dyn FnMut(AgentEvent)) {
        match self.kind.as_deref() {
            Some("busy") => sink(AgentEvent::Working),
            Some("retry") => {
                let message = self.message.as_deref().unwrap_or_default();
                sink(if opencode_retry_class(message).is_limit() {
                    AgentEvent::RateLimited { until_ms: self.next.and_then(instant::of_ms) }
                } else {
                    AgentEvent::Retrying {
                        attempt: self.attempt.unwrap_or_default() as u32,
                        delay_ms: self.next.zip(now).map(|(next, now)| (next - now).max(0.0) as u64),
                        status: None,
                        message: line(message, MESSAGE_MAX),
                    }
                });
            }
            _ => {}
        }
    }
}

/// Why a server tries again: only words are told, not the status.
pub fn opencode_retry_class(message: &str) -> ErrorClass {
    match opencode_error_class("", None, message) {
        ErrorClass::Other if is_limit(message) => ErrorClass::RateLimit,
        class => class,
    }
}

/// Whether the words are those of a refusal for rate, quota or load.
fn is_limit(message: &str) -> bool {
    const WORDS: [&str; 7] =
        ["rate limit", "too many requests", "quota", "usage limit", "429", "capacity", "overloaded"];
    let message = message.to_lowercase();
    WORDS.iter().any(|word| message.contains(word))
}

impl Fields for Status {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "attempt" => self.attempt = number(map)?,
            "message" => self.message = text(map)?,
            "next" => self.next = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
