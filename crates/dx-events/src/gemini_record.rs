//! The fields of Gemini CLI's records that mean something to us.
//!
//! Called by the Gemini grammar. Never interprets them.

use serde::de::MapAccess;

use crate::loose::{Fields, count, nested, skip, text};

/// One line; which fields there are depends on its kind.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) kind: Option<String>,
    pub(crate) timestamp: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) content: Option<String>,
    pub(crate) tool: Option<String>,
    pub(crate) call: Option<String>,
    pub(crate) input: Input,
    pub(crate) status: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) error: Failure,
    pub(crate) stats: Stats,
}

#[derive(Default)]
pub(crate) struct Input {
    pub(crate) path: Option<String>,
    pub(crate) command: Option<String>,
}

#[derive(Default)]
pub(crate) struct Failure {
    pub(crate) kind: Option<String>,
    pub(crate) message: Option<String>,
}

/// Tokens of all models together.
#[derive(Default)]
pub(crate) struct Stats {
    /// Without the cached ones.
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached: u64,
}

impl Fields for Record {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "timestamp" => self.timestamp = text(map)?,
            "session_id" => self.session = text(map)?,
            "model" => self.model = text(map)?,
            "role" => self.role = text(map)?,
            "content" => self.content = text(map)?,
            "tool_name" => self.tool = text(map)?,
            "tool_id" => self.call = text(map)?,
            "parameters" => self.input = nested(map)?,
            "status" => self.status = text(map)?,
            "message" => self.message = text(map)?,
            "error" => self.error = nested(map)?,
            "stats" => self.stats = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Input {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "file_path" => self.path = text(map)?,
            "command" => self.command = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Failure {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "message" => self.message = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Stats {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "input" => self.input = count(map)?,
            "output_tokens" => self.output = count(map)?,
            "cached" => self.cached = count(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
