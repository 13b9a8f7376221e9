//! What a failed run of Gemini CLI means.
//!
//! Called by the Gemini grammar. Its result holds one message, `[API Error: …]`. Where the API's own answer is in that, as
//! JSON, its code and reasons decide; where Gemini CLI has put words of its own there, those do. It hands the wait that a
//! limit's answer names on as a last line of its own; no other words give one.

use dx_protocol::{ErrorClass, Timestamp};
use serde::de::MapAccess;

use crate::clean::{MESSAGE_MAX, line};
use crate::loose::{self, Fields, list, nested, number, skip, text};
use crate::opencode_error::{by_message, contains, limit_by_text};

/// A failure, understood.
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    pub(crate) status: Option<u16>,
    /// For people.
    pub(crate) message: String,
    /// How long a limit is told to last.
    wait_ms: Option<i64>,
}

/// The body of an answer that is an error.
#[derive(Default)]
struct Body {
    error: Answer,
}

#[derive(Default)]
struct Answer {
    code: Option<f64>,
    status: Option<String>,
    message: Option<String>,
    details: Vec<Detail>,
}

#[derive(Default)]
struct Detail {
    reason: Option<String>,
}

/// What Gemini CLI writes behind its message when the status was 429, whatever the credentials.
const AFTER_429: &str = "\nPlease wait and try again later.";
/// The line in which it puts the wait of the API's `RetryInfo`, word for word, between these.
const WAIT: (&str, &str) = ("\nSuggested retry after ", "s.");
/// No limit lasts longer; more is a mistake.
const MOST_SECONDS: f64 = 366.0 * 86_400.0;

impl Failure {
    /// Whether the error passes, or is told to pass, with time.
    pub(crate) fn is_limit(&self) -> bool {
        self.class.is_limit()
    }

    /// When the limit passes, for a record of this time.
    pub(crate) fn until_ms(&self, recorded: Option<&str>) -> Option<i64> {
        Some(Timestamp::parse(recorded?)?.0 + self.wait_ms?)
    }
}

/// Understands the message of a failed result.
pub(crate) fn failure(said: &str) -> Failure {
    let (said, is_429) = said.split_once(AFTER_429).map_or((said, false), |(said, _)| (said, true));
    let inner = said.strip_prefix("[API Error: ").map_or(said, |rest| rest.strip_suffix(']').unwrap_or(rest));
    let start = inner.find('{').unwrap_or(inner.len());
    let body: Body = loose::record(&inner.as_bytes()[start..]).unwrap_or_default();
    let answer = body.error;
    if let Some(status) = answer.code.filter(|code| (100.0..1000.0).contains(code)).map(|code| code as u16) {
        let words = answer.message.as_deref().unwrap_or_default();
        let named = answer.status.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        let message = line(&format!("HTTP {status}{named}: {words}"), MESSAGE_MAX);
        let class = by_status(status, words, &answer.details);
        return Failure { class, status: Some(status), message, wait_ms: None };
    }
    if is_429 {
        let message = line(&format!("HTTP 429: {inner}"), MESSAGE_MAX);
        return Failure { class: limit(inner), status: Some(429), message, wait_ms: wait_ms(inner) };
    }
    Failure { class: by_words(inner), status: None, message: line(inner, MESSAGE_MAX), wait_ms: None }
}

fn wait_ms(words: &str) -> Option<i64> {
    let (_, wait) = words.strip_suffix(WAIT.1)?.rsplit_once(WAIT.0)?;
    let seconds: f64 = wait.parse().ok()?;
    (0.0..MOST_SECONDS).contains(&seconds).then_some((seconds * 1000.0) as i64)
}

fn by_status(status: u16, words: &str, details: &[Detail]) -> ErrorClass {
    let has = |reason: &str| details.iter().any(|detail| detail.reason.as_deref() == Some(reason));
    match status {
        401 | 403 => ErrorClass::Auth,
        // A key that is none is a bad request to Google.
        400 if has("API_KEY_INVALID") || has("API_KEY_EXPIRED") || contains(words, "api key not valid") => {
            ErrorClass::Auth
        }
        402 => ErrorClass::Quota,
        404 => ErrorClass::ModelUnavailable,
        429 if has("MODEL_CAPACITY_EXHAUSTED") => ErrorClass::Capacity,
        429 if has("QUOTA_EXHAUSTED") => ErrorClass::Quota,
        429 => limit(words),
        500.. => ErrorClass::Server,
        _ => ErrorClass::Other,
    }
}

/// Which kind of 429, by Gemini CLI's words.
fn limit(words: &str) -> ErrorClass {
    let used_up = ["daily quota", "quota_exhausted", "limit: 0", "credits"];
    if used_up.iter().any(|word| contains(words, word)) { ErrorClass::Quota } else { limit_by_text(&[words]) }
}

fn by_words(words: &str) -> ErrorClass {
    let has = |all: &[&str]| all.iter().any(|word| contains(words, word));
    if has(&["does not exist or you do not have access", "is not found for api version", "model not found"]) {
        ErrorClass::ModelUnavailable
    } else if has(&["terminated", "fetch failed", "premature close", "other side closed"]) {
        ErrorClass::Network
    } else if has(&["incomplete json segment", "unexpected token", "model is overloaded"]) {
        ErrorClass::Server
    } else {
        by_message(words)
    }
}

impl Fields for Body {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "error" => self.error = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Answer {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "code" => self.code = number(map)?,
            "status" => self.status = text(map)?,
            "message" => self.message = text(map)?,
            "details" => self.details = list(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Detail {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "reason" => self.reason = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the recorded runs have not: shapes from Google's documentation of its errors.
    #[test]
    fn other_answers() {
        let api = |json: &str| failure(&format!("[API Error: {json}]"));
        let invalid = api(
            r#"{"error":{"code":400,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}],"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}"#,
        );
        assert_eq!((invalid.class, invalid.status), (ErrorClass::Auth, Some(400)));
        assert!(invalid.message.starts_with("HTTP 400 INVALID_ARGUMENT: API key not valid"));
        let other = api(r#"{"error":{"code":400,"message":"No such field"}}"#);
        assert_eq!((other.class, other.is_limit()), (ErrorClass::Other, false));
        let gone = failure("[API Error: models/x is not found for API version v1beta, or is not supported.]");
        assert_eq!((gone.class, gone.status), (ErrorClass::ModelUnavailable, None));
        // Words of the model's answer are no status.
        let odd = failure("[API Error: 429 {\"a\":1}]");
        assert_eq!((odd.class, odd.status), (ErrorClass::Other, None));
    }

    #[test]
    fn the_end_of_a_limit() {
        let at = Some("2026-01-01T00:00:00.300Z");
        let until = |said: &str| {
            failure(&format!("[API Error: {said}]{AFTER_429} To increase your limits, …")).until_ms(at)
        };
        let start = Timestamp::parse("2026-01-01T00:00:00.300Z").unwrap().0;
        assert_eq!(until("Too many.\nSuggested retry after 86400s."), Some(start + 86_400_000));
        assert_eq!(until("Too many.\nSuggested retry after 34.5s."), Some(start + 34_500));
        // In the middle of the API's words, or no number.
        for said in [
            "Too many. Suggested retry after 60s.",
            "Too many.\nSuggested retry after 60s. Or not.",
            "Too many.\nSuggested retry after -1s.",
            "Too many.\nSuggested retry after NaNs.",
            "Too many.\nSuggested retry after 1e300s.",
        ] {
            assert_eq!(until(said), None, "{said}");
        }
        // Without the mark of a 429, and without the record's time.
        assert_eq!(failure("[API Error: x\nSuggested retry after 1s.]").until_ms(at), None);
        let known = format!("[API Error: x\nSuggested retry after 1s.]{AFTER_429}");
        assert_eq!((failure(&known).until_ms(None), failure(&known).until_ms(Some("then"))), (None, None));
    }
}
