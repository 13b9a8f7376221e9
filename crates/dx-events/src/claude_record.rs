//! The fields of Claude Code's records that mean something to us.
//!
//! Called by the Claude grammar. Never interprets them.

use serde::de::MapAccess;

use crate::claude_error::Failure;
use crate::clean::{MESSAGE_MAX, PATH_MAX, line};
use crate::loose::{Fields, count, flag, list, nested, number, skip, text};

/// One line; which fields there are depends on its kind.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) kind: Option<String>,
    pub(crate) subtype: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) message: Message,
    pub(crate) failure: Failure,
    pub(crate) attempt: Option<f64>,
    pub(crate) delay_ms: Option<f64>,
    pub(crate) retry_status: Option<f64>,
    pub(crate) tool: Option<String>,
    pub(crate) call: Option<String>,
    pub(crate) limit: Limit,
    pub(crate) is_error: Option<bool>,
    pub(crate) result: Option<String>,
    pub(crate) stop_reason: Option<String>,
    pub(crate) denials: Vec<Denial>,
    pub(crate) usage: Tokens,
    pub(crate) by_model: ByModel,
    pub(crate) cost: Option<f64>,
}

#[derive(Default)]
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) content: Vec<Block>,
}

/// One block of a message, of whatever kind.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) kind: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) input: Input,
    pub(crate) call: Option<String>,
    pub(crate) is_error: Option<bool>,
    /// What a tool answered, where that is a plain text.
    pub(crate) answer: Option<String>,
}

#[derive(Default)]
pub(crate) struct Input {
    pub(crate) path: Option<String>,
    pub(crate) command: Option<String>,
}

#[derive(Default)]
pub(crate) struct Limit {
    pub(crate) status: Option<String>,
    pub(crate) resets_at: Option<f64>,
}

#[derive(Default)]
pub(crate) struct Denial {
    pub(crate) tool: Option<String>,
    pub(crate) call: Option<String>,
    pub(crate) input: Input,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_write: u64,
    pub(crate) cache_read: u64,
}

/// The session's tokens of all models together, subagents' too.
#[derive(Default)]
pub(crate) struct ByModel(pub(crate) Option<Tokens>);

impl Tokens {
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            cache_write: self.cache_write.saturating_sub(other.cache_write),
            cache_read: self.cache_read.saturating_sub(other.cache_read),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_read: self.cache_read.saturating_add(other.cache_read),
        }
    }
}

impl Input {
    /// What a call is about: its file or its command.
    pub(crate) fn object(&self) -> Option<String> {
        let path = self.path.as_deref().map(|p| line(p, PATH_MAX));
        path.or_else(|| self.command.as_deref().map(|c| line(c, MESSAGE_MAX)))
    }
}

impl Fields for Record {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "subtype" => self.subtype = text(map)?,
            "session_id" => self.session = text(map)?,
            "model" => self.model = text(map)?,
            "message" => self.message = nested(map)?,
            "error" => self.failure.word = text(map)?,
            "api_error" => self.failure.api_error = text(map)?,
            "api_error_type" => self.failure.kind = text(map)?,
            "api_error_status" => self.failure.status = number(map)?,
            "attempt" => self.attempt = number(map)?,
            "retry_delay_ms" => self.delay_ms = number(map)?,
            "error_status" => self.retry_status = number(map)?,
            "tool_name" => self.tool = text(map)?,
            "tool_use_id" => self.call = text(map)?,
            "rate_limit_info" => self.limit = nested(map)?,
            "is_error" => self.is_error = flag(map)?,
            "result" => self.result = text(map)?,
            "stop_reason" => self.stop_reason = text(map)?,
            "permission_denials" => self.denials = list(map)?,
            "usage" => self.usage = nested(map)?,
            "modelUsage" => self.by_model = nested(map)?,
            "total_cost_usd" => self.cost = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Message {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "id" => self.id = text(map)?,
            "model" => self.model = text(map)?,
            "content" => self.content = list(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Block {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "text" => self.text = text(map)?,
            "id" => self.id = text(map)?,
            "name" => self.name = text(map)?,
            "input" => self.input = nested(map)?,
            "tool_use_id" => self.call = text(map)?,
            "is_error" => self.is_error = flag(map)?,
            "content" => self.answer = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Input {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "file_path" | "notebook_path" => self.path = text(map)?,
            "command" => self.command = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Limit {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "status" => self.status = text(map)?,
            "resetsAt" => self.resets_at = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Denial {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "tool_name" => self.tool = text(map)?,
            "tool_use_id" => self.call = text(map)?,
            "tool_input" => self.input = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Tokens {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "input_tokens" | "inputTokens" => self.input = count(map)?,
            "output_tokens" | "outputTokens" => self.output = count(map)?,
            "cache_creation_input_tokens" | "cacheCreationInputTokens" => self.cache_write = count(map)?,
            "cache_read_input_tokens" | "cacheReadInputTokens" => self.cache_read = count(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for ByModel {
    fn field<'de, A: MapAccess<'de>>(&mut self, _model: &str, map: &mut A) -> Result<(), A::Error> {
        let tokens: Tokens = nested(map)?;
        self.0 = Some(self.0.unwrap_or_default().plus(tokens));
        Ok(())
    }
}
