//! The model APIs, each behind the same small interface.
//!
//! What for: one scenario player for every API a coding agent may speak. Called by `route` and `play`. An API turns a
//! request into a neutral [`Ask`] and a neutral [`Reply`] into its wire form; it must never decide what is answered.
//! A new API is one more file here and one more line in [`for_path`].

mod chat;
mod generate;
mod messages;
mod responses;

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use crate::scenario::RateLimit;

/// A tool the client offers.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Its JSON schema.
    pub(crate) parameters: Value,
}

/// A model call, whatever the API.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    pub(crate) stream: bool,
    pub(crate) tools: Vec<Tool>,
    /// The texts of the user messages, in order.
    pub(crate) users: Vec<String>,
    /// Everything readable in the request, system prompt first.
    pub(crate) text: String,
    /// What tools gave back since the last prompt.
    pub(crate) read: String,
    /// How many.
    pub(crate) tool_results: usize,
    /// Whether the last message is a tool result.
    pub(crate) after_tool_result: bool,
    /// The schema a structured answer must fit; null for "any JSON".
    pub(crate) schema: Option<Value>,
}

/// A tool call in an answer.
#[derive(Debug, Clone)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// Tokens, as the model counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

/// An answer; it ends for its tool calls if there are some, and else because the model is done.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// Makes the ids in the answer differ from call to call.
    pub(crate) number: u64,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) usage: Usage,
}

impl Reply {
    /// The calls, each with what makes its id differ from all others'.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (String, &ToolCall)> {
        let id = |index| match index {
            0 => format!("scripted{}", self.number),
            more => format!("scripted{}_{more}", self.number),
        };
        self.calls.iter().enumerate().map(move |(index, call)| (id(index), call))
    }
}

/// One server-sent event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: Option<&'static str>,
    pub(crate) data: String,
    /// Whether it carries a word of the text: where a slow answer pauses and a cut one ends.
    pub(crate) word: bool,
}

/// A refusal, whatever the API.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// The kind in words of the OpenAI family (`rate_limit_error`).
    pub(crate) kind: &'static str,
    /// A finer code, if there is one (`invalid_api_key`).
    pub(crate) code: Option<&'static str>,
    /// For status 429: which one.
    pub(crate) limit: Option<RateLimit>,
}

impl Refusal {
    /// Whether it will not pass soon.
    pub(crate) fn is_quota(&self) -> bool {
        matches!(self.limit, Some(RateLimit::Quota | RateLimit::Plan(_)))
    }

    /// The seconds after which it passes, where that is told.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        if let Some(RateLimit::After(seconds)) = self.limit { Some(seconds) } else { None }
    }

    /// For how many seconds a plan is used up.
    pub(crate) fn plan(&self) -> Option<u64> {
        if let Some(RateLimit::Plan(seconds)) = self.limit { Some(seconds) } else { None }
    }

    /// What OpenAI tells of that in its error.
    pub(crate) fn with_reset(&self, mut error: Value) -> Value {
        if let Some(seconds) = self.plan() {
            let resets_at = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs() + seconds;
            error["resets_at"] = json!(resets_at);
            error["resets_in_seconds"] = json!(seconds);
            error["plan_type"] = json!("plus");
        }
        error
    }
}

/// How one API looks on the wire.
pub(crate) trait Api: Sync {
    /// For records.
    fn name(&self) -> &'static str;
    /// Reads a request.
    fn ask(&self, path: &str, body: &Value) -> Ask;
    /// An answer in one piece.
    fn whole(&self, ask: &Ask, reply: &Reply) -> Value;
    /// An answer as events.
    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Event>;
    /// The body of an error answer.
    fn refusal(&self, refusal: &Refusal) -> Value;
    /// The headers of an error answer.
    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        refusal.retry_after().iter().map(|seconds| ("retry-after", seconds.to_string())).collect()
    }
}

/// The API that is spoken at a path (without scenario prefix and query).
pub(crate) fn for_path(path: &str) -> Option<&'static dyn Api> {
    if path.ends_with("/chat/completions") {
        Some(&chat::Chat)
    } else if path.ends_with("/messages") {
        Some(&messages::Messages)
    } else if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") {
        Some(&generate::Generate)
    } else if path.ends_with("/responses") {
        Some(&responses::Responses)
    } else {
        None
    }
}

/// The answer to a question about a request that asks no model, such as its count of tokens.
pub(crate) fn without_model(path: &str) -> Option<Value> {
    if path.ends_with("/messages/count_tokens") {
        Some(json!({ "input_tokens": 100 }))
    } else if path.ends_with(":countTokens") {
        Some(json!({ "totalTokens": 100 }))
    } else {
        None
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a user message is a person's words and not only the harness's own reminder blocks.
pub(crate) fn is_prompt(text: &str) -> bool {
    const BLOCKS: [&str; 4] =
        ["system-reminder", "environment_context", "user_instructions", "session_context"];
    let mut rest = text.trim();
    while !rest.is_empty() {
        let after = BLOCKS.iter().find_map(|block| {
            let inner = rest.strip_prefix('<')?.strip_prefix(block)?.strip_prefix('>')?;
            let end = format!("</{block}>");
            inner.find(&end).and_then(|at| inner.get(at + end.len()..))
        });
        match after {
            Some(after) => rest = after.trim(),
            None => return true,
        }
    }
    false
}

/// The words of a text, each with the blanks after it.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut blank = false;
    for (at, c) in text.char_indices() {
        if blank && !c.is_whitespace() && at > start {
            out.push(&text[start..at]);
            start = at;
        }
        blank = c.is_whitespace();
    }
    if start < text.len() {
        out.push(&text[start..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reminders_are_not_prompts() {
        assert!(is_prompt("go"));
        assert!(is_prompt("<system-reminder>x</system-reminder> go"));
        assert!(!is_prompt("<system-reminder>x</system-reminder>\n<user_instructions>y</user_instructions>"));
        assert!(!is_prompt("  "));
    }

    #[test]
    fn words_join_back() {
        assert_eq!(words("a bc\n\nd "), ["a ", "bc\n\n", "d "]);
        assert_eq!(words(" a").concat(), " a");
        assert!(words("").is_empty());
    }
}
