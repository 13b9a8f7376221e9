//! What a member said, and what is made of it.
//!
//! Must never: take nothing, or a tool call that nobody could read, for an answer.

use super::{Failure, Member};
use dx_protocol::{DispatchDocument, ReasonCode};
use serde_json::Value;
use std::time::Duration;

/// What models print when their server did not understand that they call a tool.
const MARKUP: [&str; 9] = [
    "<tool_call>",
    "<|tool_call",
    "<|tool_calls",
    "<｜tool",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "<function_calls>",
    "<function=",
    "<invoke name=",
];

/// An answer as it came.
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) text: String,
    /// The value, when a schema was asked for.
    pub(crate) structured: Option<Value>,
    /// The session that stays.
    pub(crate) session: Option<String>,
    pub(crate) corrections: u32,
    pub(crate) retries: u32,
    pub(crate) tokens: (u64, u64),
    pub(crate) cost: Option<f64>,
    /// What the caller should know.
    pub(crate) warnings: Vec<String>,
}

impl Raw {
    /// The same, if it is an answer.
    pub(crate) fn checked(self) -> Result<Self, Failure> {
        if self.structured.is_some() {
            return Ok(self);
        }
        if self.text.trim().is_empty() {
            return Err(Failure::new(ReasonCode::EmptyResponse, "the model ended its answer without a word"));
        }
        match markup(&self.text) {
            Some(mark) => {
                let message = format!("the answer holds `{mark}`: a tool call that nobody could parse");
                Err(Failure::new(ReasonCode::UnparsedToolMarkup, message))
            }
            None => Ok(self),
        }
    }

    pub(crate) fn document(
        self,
        member: &Member,
        mut mods: Vec<String>,
        max_chars: usize,
        took: Duration,
    ) -> DispatchDocument {
        let text = self.structured.as_ref().map_or(self.text, Value::to_string);
        let chars = text.chars().count();
        let (answer, truncated) = truncate(text, chars, max_chars);
        if truncated {
            mods.push("truncated".to_owned());
        }
        DispatchDocument {
            schema: "dx-runner/dispatch/1".to_owned(),
            member: member.spec(),
            provider: member.provider().to_owned(),
            model: member.model().to_owned(),
            mods,
            answer,
            structured: self.structured,
            chars: chars as u64,
            truncated,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            session: self.session.unwrap_or_else(|| "-".to_owned()),
            corrections: self.corrections,
            retries: self.retries,
            tokens_in: self.tokens.0,
            tokens_out: self.tokens.1,
            cost_usd: self.cost,
            warnings: self.warnings,
        }
    }
}

/// Cut between characters; says how much is missing.
fn truncate(text: String, chars: usize, max: usize) -> (String, bool) {
    if max == 0 || chars <= max {
        return (text, false);
    }
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    (format!("{}\n[cut: {} more characters]", &text[..end], chars - max), true)
}

/// Markup of a tool call outside of quoted code.
fn markup(text: &str) -> Option<&'static str> {
    let outside: String = text.split("```").step_by(2).collect::<Vec<_>>().concat();
    let outside: String = outside.split('`').step_by(2).collect::<Vec<_>>().concat();
    MARKUP.into_iter().find(|mark| outside.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_and_markup_are_no_answers() {
        let reason = |text: &str| {
            Raw { text: text.to_owned(), ..Raw::default() }
                .checked()
                .map(drop)
                .map_err(|failure| failure.reason)
        };
        assert_eq!(reason("yes"), Ok(()));
        assert_eq!(reason(" \n"), Err(ReasonCode::EmptyResponse));
        assert_eq!(reason("<tool_call>{\"name\":\"read\"}"), Err(ReasonCode::UnparsedToolMarkup));
        assert_eq!(reason("write `<tool_call>` and\n```\n[TOOL_CALLS]\n```\n"), Ok(()));
    }

    #[test]
    fn cuts_are_between_characters() {
        assert_eq!(truncate("äöü".to_owned(), 3, 3), ("äöü".to_owned(), false));
        assert_eq!(truncate("äöü".to_owned(), 3, 2), ("äö\n[cut: 1 more characters]".to_owned(), true));
        assert_eq!(truncate("äöü".to_owned(), 3, 0), ("äöü".to_owned(), false));
    }
}
