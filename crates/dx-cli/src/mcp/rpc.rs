//! Messages of the Model Context Protocol: JSON-RPC 2.0, one message on a line.
//!
//! Called by: the MCP server. Must never: panic on what a client sends, or answer a notification.

use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// Versions that are spoken, the newest first. None of them has batches of messages.
const VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2024-11-05"];

/// The line was no JSON.
pub(super) const PARSE: i64 = -32700;
/// It was JSON and no message.
pub(super) const INVALID: i64 = -32600;
pub(super) const NO_METHOD: i64 = -32601;
pub(super) const BAD_PARAMS: i64 = -32602;
pub(super) const INTERNAL: i64 = -32603;
/// There is no such resource.
pub(super) const NO_RESOURCE: i64 = -32002;

/// An error answer.
#[derive(Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    pub(super) message: String,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a line was.
#[derive(Debug)]
pub(super) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// An answer to something; we ask nothing.
    Answer,
    /// No message: told to whoever it may have been from.
    Wrong {
        id: Value,
        error: RpcError,
    },
}

/// Reads one line.
pub(super) fn read(line: &[u8]) -> Incoming {
    let wrong = |id: Value, code, message: &str| Incoming::Wrong { id, error: RpcError::new(code, message) };
    let message: Value = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => return wrong(Value::Null, PARSE, &format!("this line is no JSON: {error}")),
    };
    let Value::Object(mut message) = message else {
        return wrong(Value::Null, INVALID, "a message is a JSON object; batches are not spoken");
    };
    let id = message.remove("id");
    let named = |id: &Value| id.is_string() || id.is_i64() || id.is_u64();
    if message.contains_key("result") || message.contains_key("error") {
        return Incoming::Answer;
    }
    if id.as_ref().is_some_and(|id| !named(id)) {
        return wrong(Value::Null, INVALID, "`id` is a string or a whole number");
    }
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return wrong(id.unwrap_or_default(), INVALID, "`jsonrpc` is not \"2.0\"");
    }
    let Some(Value::String(method)) = message.remove("method") else {
        return wrong(id.unwrap_or_default(), INVALID, "`method` is missing, or no string");
    };
    let params = message.remove("params").unwrap_or_else(|| json!({}));
    if !params.is_object() {
        return wrong(id.unwrap_or_default(), INVALID, "`params` is a JSON object");
    }
    match id {
        Some(id) => Incoming::Request { id, method, params },
        None => Incoming::Notification { method, params },
    }
}

/// The version that both speak: the client's, else our newest.
pub(super) fn version(wanted: Option<&str>) -> &'static str {
    VERSIONS.into_iter().find(|version| Some(*version) == wanted).unwrap_or(VERSIONS[0])
}

/// Where answers go, whole lines from however many threads.
#[derive(Debug, Default)]
pub(super) struct Wire(Mutex<()>);

impl Wire {
    pub(super) fn answer(&self, id: &Value, result: Result<Value, RpcError>) {
        self.send(&match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => json!({ "jsonrpc": "2.0", "id": id,
                "error": { "code": error.code, "message": error.message } }),
        });
    }

    pub(super) fn notify(&self, method: &str, params: &Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn send(&self, message: &Value) {
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = std::io::stdout().lock();
        // A client that went away is seen at the end of its input.
        let _sent = writeln!(out, "{message}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_told_and_nothing_panics() {
        let code = |line: &str| match read(line.as_bytes()) {
            Incoming::Wrong { error, .. } => error.code,
            _ => 0,
        };
        for (line, expected) in [
            ("", PARSE),
            ("{", PARSE),
            ("[]", INVALID),
            ("7", INVALID),
            ("{}", INVALID),
            (r#"{"jsonrpc":"1.0","method":"ping","id":1}"#, INVALID),
            (r#"{"jsonrpc":"2.0","method":7,"id":1}"#, INVALID),
            (r#"{"jsonrpc":"2.0","method":"x","id":null}"#, INVALID),
            (r#"{"jsonrpc":"2.0","method":"x","id":{}}"#, INVALID),
            (r#"{"jsonrpc":"2.0","method":"x","id":1,"params":[1]}"#, INVALID),
            (r#"{"jsonrpc":"2.0","method":"x","id":"a"}"#, 0),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 0),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
        assert_eq!(code(&"[".repeat(100_000)), PARSE);
    }

    #[test]
    fn versions() {
        assert_eq!(version(Some("2024-11-05")), "2024-11-05");
        assert_eq!(version(Some("1999-01-01")), VERSIONS[0]);
        assert_eq!(version(None), VERSIONS[0]);
    }
}
