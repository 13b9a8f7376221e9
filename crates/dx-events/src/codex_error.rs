//! What a failure of Codex means.
//!
//! Called by the Codex grammar. Codex tells failures in words alone, the status among them. Its own fixed sentences and
//! the status come first, then what the API's body says where Codex hands it on. Never gives a reset time.

use dx_protocol::ErrorClass;

use crate::loose;
use crate::opencode_error::{Body, by_code, by_message, contains, limit_by_text};

/// Codex's own sentences, in parts that do not change with what failed.
const SENTENCES: [(&str, ErrorClass); 13] = [
    ("quota exceeded", ErrorClass::Quota),
    ("hit your usage limit", ErrorClass::Quota),
    ("at capacity", ErrorClass::Capacity),
    // All it says about a status 500.
    ("experiencing high demand", ErrorClass::Server),
    ("does not exist or you do not have access", ErrorClass::ModelUnavailable),
    ("model is not supported", ErrorClass::ModelUnavailable),
    // The variable that the configuration names for the key.
    ("missing environment variable", ErrorClass::Auth),
    ("not logged in", ErrorClass::Auth),
    ("access token could not be refreshed", ErrorClass::Auth),
    ("connection failed", ErrorClass::Network),
    ("failed to lookup address", ErrorClass::Network),
    ("transport error", ErrorClass::Network),
    // An answer that ends without its last event: no API answers so.
    ("stream closed before response.completed", ErrorClass::Server),
];

/// The class of a failure, and its status where one is told.
pub(crate) fn class(message: &str) -> (ErrorClass, Option<u16>) {
    let status = status(message);
    let class = match status {
        Some(401 | 403) => ErrorClass::Auth,
        Some(402) => ErrorClass::Quota,
        Some(429) => limit_by_text(&[message]),
        Some(529) => ErrorClass::Capacity,
        Some(500..) => ErrorClass::Server,
        // 404 too: a model that does not exist has a sentence of its own, this is a wrong address.
        Some(_) => ErrorClass::Other,
        None => by_words(message),
    };
    (class, status)
}

/// `unexpected status 401 …`, `last status: 429 …`.
pub(crate) fn status(message: &str) -> Option<u16> {
    let (_, after) = message.split_once("status")?;
    let digits = after.trim_start_matches([':', ' ']).split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|status| (400..600).contains(status))
}

/// Whether a tool's error is a refusal and no failure.
pub(crate) fn is_refusal(message: &str) -> bool {
    [
        "approval policy is never",
        "requires approval",
        "rejected by user approval",
        "user rejected",
        "user cancelled",
    ]
    .iter()
    .any(|words| contains(message, words))
}

fn by_words(message: &str) -> ErrorClass {
    // The API's answer can be the whole message.
    let body: Body = loose::record(message.as_bytes()).unwrap_or_default();
    if let Some(class) = by_code(body.error.kind.as_deref(), body.error.code.as_deref()) {
        return class;
    }
    let known = SENTENCES.into_iter().find(|(words, _)| contains(message, words));
    known.map_or_else(|| by_message(message), |(_, class)| class)
}
