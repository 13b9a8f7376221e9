//! What a failed result of Claude Code means.
//!
//! Called by the Claude grammar. Its own words for errors and the status come first; free text decides only where there
//! is nothing else.

use dx_protocol::ErrorClass;

use crate::opencode_error::{by_code, by_message, contains, limit_by_text};

/// What a record says about a failed call of the API.
#[derive(Default)]
pub(crate) struct Failure {
    /// Claude Code's own word for it (`authentication_failed`).
    pub(crate) word: Option<String>,
    /// A finer word, where there is one (`connection_failed`).
    pub(crate) api_error: Option<String>,
    /// The API's word (`authentication_error`).
    pub(crate) kind: Option<String>,
    pub(crate) status: Option<f64>,
}

/// The class of a failed result; `word` is from the message before it.
pub(crate) fn class(failure: &Failure, word: Option<&str>, subtype: &str, message: &str) -> ErrorClass {
    match failure.api_error.as_deref() {
        Some("usage_limit_reached") => return ErrorClass::Quota,
        Some("connection_failed") => return ErrorClass::Network,
        _ => {}
    }
    if subtype == "error_during_execution" && word.is_none() {
        return ErrorClass::Aborted;
    }
    match word {
        Some("authentication_failed" | "oauth_org_not_allowed") => return ErrorClass::Auth,
        Some("billing_error") => return ErrorClass::Quota,
        Some("overloaded") => return ErrorClass::Capacity,
        Some("model_not_found") => return ErrorClass::ModelUnavailable,
        _ => {}
    }
    let status = status(failure.status);
    match status {
        Some(401 | 403) => ErrorClass::Auth,
        Some(402) => ErrorClass::Quota,
        Some(404) => ErrorClass::ModelUnavailable,
        Some(429) => by_code(failure.kind.as_deref(), None).unwrap_or_else(|| limit_by_text(&[message])),
        Some(529) => ErrorClass::Capacity,
        Some(500..) => ErrorClass::Server,
        Some(_) => ErrorClass::Other,
        // An answer that is not the API has no status here, whatever it had on the wire.
        None if contains(message, "empty or malformed response") => ErrorClass::Server,
        None if word == Some("server_error") => ErrorClass::Server,
        None if word == Some("rate_limit") => ErrorClass::RateLimit,
        None => by_message(message),
    }
}

/// Whether the error passes, or is told to pass, with time.
pub(crate) fn is_limit(class: ErrorClass) -> bool {
    matches!(class, ErrorClass::RateLimit | ErrorClass::Quota | ErrorClass::Capacity)
}

/// An HTTP status, when it can be one.
pub(crate) fn status(number: Option<f64>) -> Option<u16> {
    number.filter(|s| (100.0..1000.0).contains(s)).map(|s| s as u16)
}
