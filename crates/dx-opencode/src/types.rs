//! What is sent to an OpenCode server and what of its answers is read. Unknown fields are passed over.
//!
//! Called by: the client and its users. Must never: read the options of a provider, which hold keys.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `GET /global/health`.
#[derive(Debug, Clone, Deserialize)]
pub struct Health {
    pub healthy: bool,
    #[serde(default)]
    pub version: String,
}

/// `GET /provider`.
#[derive(Debug, Clone, Deserialize)]
pub struct Providers {
    pub all: Vec<ProviderEntry>,
    /// Those that have credentials.
    #[serde(default)]
    pub connected: Vec<String>,
}

/// One model provider.
#[derive(Debug, Clone, Deserialize)]
pub struct ProviderEntry {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub models: BTreeMap<String, ModelEntry>,
}

/// One model.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelEntry {
    #[serde(default)]
    pub name: String,
}

/// One entry of `GET /agent`.
#[derive(Debug, Clone, Deserialize)]
pub struct AgentEntry {
    pub name: String,
    #[serde(default)]
    pub mode: String,
}

/// A model in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelRef {
    #[serde(rename = "providerID")]
    pub provider: String,
    #[serde(rename = "modelID")]
    pub model: String,
}

/// One rule of a session's permissions; the last that fits counts.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Permission {
    pub permission: &'static str,
    pub pattern: &'static str,
    pub action: &'static str,
}

/// A session.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    pub id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub directory: String,
    #[serde(default)]
    pub time: SessionTime,
    /// Whose part it is: that of a subagent is a session of its own.
    #[serde(default, rename = "parentID")]
    pub parent: Option<String>,
    /// What it was made with.
    #[serde(default)]
    pub metadata: Value,
    /// Its rules, as [`Permission`]s.
    #[serde(default)]
    pub permission: Value,
}

/// When a session was changed, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct SessionTime {
    #[serde(default)]
    pub updated: f64,
}

/// One prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Prompt<'a> {
    #[serde(rename = "messageID", skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
    pub model: &'a ModelRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Value>,
    pub parts: [TextPart<'a>; 1],
}

/// The text of a prompt.
#[derive(Debug, Clone, Serialize)]
pub struct TextPart<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub text: &'a str,
}

impl<'a> TextPart<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { kind: "text", text }
    }
}

/// A message with its parts.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    pub info: MessageInfo,
    #[serde(default)]
    pub parts: Vec<Part>,
}

/// What is known of a message.
#[derive(Debug, Clone, Deserialize)]
pub struct MessageInfo {
    pub id: String,
    #[serde(default)]
    pub role: String,
    #[serde(default, rename = "parentID")]
    pub parent: Option<String>,
    #[serde(default)]
    pub finish: Option<String>,
    #[serde(default)]
    pub error: Option<MessageError>,
    #[serde(default)]
    pub structured: Option<Value>,
    #[serde(default)]
    pub tokens: Tokens,
    #[serde(default)]
    pub cost: f64,
}

/// Tokens of one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Tokens {
    pub input: f64,
    pub output: f64,
}

/// A model's failure; it comes with status 200.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct MessageError {
    pub name: String,
    #[serde(default)]
    pub data: Value,
}

impl MessageError {
    /// Its words.
    pub fn message(&self) -> &str {
        self.data["message"].as_str().unwrap_or_default()
    }

    /// The status that the model's server gave.
    pub fn status(&self) -> Option<u16> {
        self.data["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok())
    }
}

/// A part of a message.
#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub text: String,
    /// Made by the server and not by the model.
    #[serde(default)]
    pub synthetic: bool,
}

impl Message {
    /// What the model said.
    pub fn text(&self) -> String {
        let said = self.parts.iter().filter(|part| part.kind == "text" && !part.synthetic);
        said.map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// What a session does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Status {
    Idle,
    Busy,
    /// It will ask its model again.
    Retry {
        #[serde(default)]
        attempt: u32,
        #[serde(default)]
        message: String,
        /// Milliseconds since 1970.
        #[serde(default)]
        next: f64,
    },
    #[serde(other)]
    Unknown,
}
