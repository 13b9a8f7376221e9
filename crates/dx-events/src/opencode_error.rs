//! What an `error` record of OpenCode means: class, status, and when a limit passes.
//!
//! Called by the OpenCode grammar. Names, status and the provider's own error code come first; free text decides only
//! where there is nothing else, and never gives a reset time.

use dx_protocol::{AgentEvent, ErrorClass};
use serde::de::MapAccess;

use crate::clean::{MESSAGE_MAX, line};
use crate::instant;
use crate::loose::{self, Fields, nested, number, skip, text, word};

/// The name under which a driver of ours tells that nobody answers any more where the server was.
pub const SERVER_LOST: &str = "ServerLost";

/// The `error` object of an error record.
#[derive(Default)]
pub(crate) struct Report {
    name: Option<String>,
    data: Data,
    /// Of an error that is the runtime's own, as a client of a server that has gone tells it.
    code: Option<String>,
}

#[derive(Default)]
struct Data {
    message: Option<String>,
    status: Option<f64>,
    body: Option<String>,
    headers: Headers,
    metadata: Metadata,
}

/// What the runtime under OpenCode says of a connection that failed.
#[derive(Default)]
struct Metadata {
    code: Option<String>,
}

#[derive(Default)]
struct Headers {
    retry_after: Option<f64>,
    retry_after_ms: Option<f64>,
}

/// The answer of an API that speaks as OpenAI's does, as JSON in a string.
#[derive(Default)]
pub(crate) struct Body {
    pub(crate) error: BodyError,
}

#[derive(Default)]
pub(crate) struct BodyError {
    pub(crate) code: Option<String>,
    pub(crate) kind: Option<String>,
    resets_at: Option<f64>,
    resets_in: Option<f64>,
}

/// The events of an error record; `now` is the record's own time in milliseconds.
pub(crate) fn events(report: &Report, now: Option<f64>, sink: &mut dyn FnMut(AgentEvent)) {
    let data = &report.data;
    let body: Body = data.body.as_deref().and_then(|b| loose::record(b.as_bytes())).unwrap_or_default();
    let status = data.status.filter(|s| (100.0..1000.0).contains(s)).map(|s| s as u16);
    let name = report.name.as_deref().unwrap_or_default();
    let code = data.metadata.code.as_deref().or(report.code.as_deref());
    let message = data.message.as_deref().or(report.name.as_deref()).or(code).unwrap_or_default();
    let class = match (status, code) {
        // The connection broke, before an answer or in the middle of one.
        (None, Some(code)) if is_network(code) => ErrorClass::Network,
        _ => class(name, status, message, &body.error, data.body.as_deref().unwrap_or_default()),
    };
    if class.is_limit() {
        sink(AgentEvent::RateLimited { until_ms: until(&data.headers, &body.error, now) });
    }
    sink(AgentEvent::Error { class, status, message: line(message, MESSAGE_MAX) });
}

/// The class of an error that a server told as a name, a status and words.
pub fn opencode_error_class(name: &str, status: Option<u16>, message: &str) -> ErrorClass {
    class(name, status, message, &BodyError::default(), "")
}

fn class(name: &str, status: Option<u16>, message: &str, error: &BodyError, body: &str) -> ErrorClass {
    match name {
        "MessageAbortedError" | "AbortError" => return ErrorClass::Aborted,
        "ProviderAuthError" => return ErrorClass::Auth,
        SERVER_LOST => return ErrorClass::Network,
        _ if name.contains("ModelNotFound") => return ErrorClass::ModelUnavailable,
        _ => {}
    }
    match status {
        Some(401 | 403) => ErrorClass::Auth,
        Some(402) => ErrorClass::Quota,
        Some(404) => ErrorClass::ModelUnavailable,
        Some(429) => limit(message, error, body),
        Some(500..) => ErrorClass::Server,
        Some(_) => by_code(error.kind.as_deref(), error.code.as_deref()).unwrap_or(ErrorClass::Other),
        None => by_message(message),
    }
}

/// Whether a code of the runtime is that of a connection: an errno, a name that could not be resolved, one of its own.
fn is_network(code: &str) -> bool {
    const ERRNO: [&str; 11] = [
        "ECONNRESET",
        "ECONNREFUSED",
        "ECONNABORTED",
        "ETIMEDOUT",
        "EPIPE",
        "ENOTFOUND",
        "EAI_AGAIN",
        "EHOSTUNREACH",
        "EHOSTDOWN",
        "ENETUNREACH",
        "ENETDOWN",
    ];
    ERRNO.contains(&code) || ["ConnectionRefused", "ConnectionClosed", "FailedToOpenSocket"].contains(&code)
}

/// Which kind of 429.
fn limit(message: &str, error: &BodyError, body: &str) -> ErrorClass {
    by_code(error.kind.as_deref(), error.code.as_deref()).unwrap_or_else(|| limit_by_text(&[message, body]))
}

/// The same where only words tell.
pub(crate) fn limit_by_text(texts: &[&str]) -> ErrorClass {
    let has = |words: &[&str]| words.iter().any(|w| texts.iter().any(|text| contains(text, w)));
    if has(&[
        "insufficient_quota",
        "quota_exhausted",
        "usage limit",
        "insufficient balance",
        "exceeded your current quota",
    ]) {
        ErrorClass::Quota
    } else if has(&["capacity"]) {
        ErrorClass::Capacity
    } else {
        ErrorClass::RateLimit
    }
}

/// By the provider's own code: OpenAI's words, Z.ai's numbers (docs.z.ai, "API code"; most come with a 429).
pub(crate) fn by_code(kind: Option<&str>, code: Option<&str>) -> Option<ErrorClass> {
    if matches!(kind, Some("insufficient_quota" | "usage_limit_reached")) {
        return Some(ErrorClass::Quota);
    }
    match code? {
        "insufficient_quota" | "1113" | "1304" | "1308" | "1309" | "1310" => Some(ErrorClass::Quota),
        "model_not_found" | "1211" | "1311" => Some(ErrorClass::ModelUnavailable),
        "1312" => Some(ErrorClass::Capacity),
        _ => None,
    }
}

/// Errors without a status never reached the API, or are the agent's own.
pub(crate) fn by_message(message: &str) -> ErrorClass {
    let has = |words: &[&str]| words.iter().any(|w| contains(message, w));
    if has(&[
        "cannot connect to api",
        "unable to connect",
        "fetch failed",
        "econn",
        "connection refused",
        "connection reset",
        "enotfound",
        "etimedout",
        "socket",
    ]) {
        ErrorClass::Network
    } else if has(&["model not found"]) {
        ErrorClass::ModelUnavailable
    } else if has(&["json parse", "invalid json", "type validation failed"]) {
        ErrorClass::Server
    } else {
        ErrorClass::Other
    }
}

/// When the limit passes, from fields only.
fn until(headers: &Headers, error: &BodyError, now: Option<f64>) -> Option<i64> {
    let wait_ms = headers
        .retry_after_ms
        .or(headers.retry_after.map(|s| s * 1000.0))
        .or(error.resets_in.map(|s| s * 1000.0))
        .filter(|ms| *ms >= 0.0);
    error.resets_at.map_or_else(|| instant::of_ms(now? + wait_ms?), instant::of_either)
}

/// Whether `text` contains the lower-case `word`, whatever its case.
pub(crate) fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
}

impl Fields for Report {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "name" => self.name = text(map)?,
            "data" => self.data = nested(map)?,
            "code" => self.code = word(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Data {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "message" => self.message = text(map)?,
            "statusCode" => self.status = number(map)?,
            "responseBody" => self.body = text(map)?,
            "responseHeaders" => self.headers = nested(map)?,
            "metadata" => self.metadata = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Metadata {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "code" => self.code = word(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Headers {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "retry-after" => self.retry_after = number(map)?,
            "retry-after-ms" => self.retry_after_ms = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
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

impl Fields for BodyError {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "code" => self.code = word(map)?,
            "type" => self.kind = text(map)?,
            "resets_at" => self.resets_at = number(map)?,
            "resets_in_seconds" => self.resets_in = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
