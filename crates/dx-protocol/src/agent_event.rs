//! What an agent's output means, in one vocabulary for all agent command lines.
//!
//! Parsers (`dx-events`) produce these, the monitor journals the ones for which [`AgentEvent::is_journalled`] holds,
//! and the fold reads them back. Nothing here is specific to one provider.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One normalised event out of an agent's own output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AgentEvent {
    /// The agent told its session and, where it does, its model.
    Started { session: Option<String>, model: Option<String> },
    /// Text for people. Never journalled: readers take it from the log.
    Text { text: String },
    /// One turn with the model began.
    StepStarted,
    /// The agent's server says that it works. Never journalled: a sign of life and nothing else.
    Working,
    /// A tool began. `call` pairs it with its [`AgentEvent::ToolFinished`].
    ToolStarted { call: String, name: String },
    /// A tool ended. An agent that reports tools only when done sends this one alone.
    ToolFinished { call: String, name: String, ok: bool },
    /// The agent says that it changed a file (its own claim, path as printed).
    FileChanged { path: String },
    /// Tokens and cost of one turn, to be added up.
    Usage(Usage),
    /// The agent waits before it asks its model again.
    Retrying { attempt: u32, delay_ms: Option<u64>, status: Option<u16>, message: String },
    /// The model refused for its rate; `until_ms` (Unix time) only when the structured error names a time.
    RateLimited { until_ms: Option<i64> },
    /// The agent waits for a person.
    PermissionAsked { what: String },
    /// A permission was refused (by the agent's own rules or because nobody can answer).
    PermissionRefused { what: String },
    /// The system refused a tool to write here; the tool's own structured error says so.
    WriteRefused { tool: String, path: String },
    /// The agent reported an error of this class.
    Error { class: ErrorClass, status: Option<u16>, message: String },
    /// The agent's own result: the last one counts.
    Result { ok: bool, detail: String },
}

/// Tokens and cost of one model turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Prompt tokens, cached ones not included.
    pub input_tokens: u64,
    /// Generated tokens, reasoning included.
    pub output_tokens: u64,
    /// Prompt tokens read from a cache.
    pub cached_tokens: u64,
    /// US dollars as the agent told them; `None` when it told nothing.
    pub cost_usd: Option<f64>,
}

impl Usage {
    /// Sum of two turns; a cost that only one of them told is kept.
    pub fn plus(self, other: Self) -> Self {
        let cost_usd = match (self.cost_usd, other.cost_usd) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0.0) + b.unwrap_or(0.0)),
        };
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cost_usd,
        }
    }
}

/// Why an agent failed, whatever its provider; providers map this to their reason codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// 401 or 403, no or bad credentials.
    Auth,
    /// The agent found no credentials and asked nobody.
    AuthMissing,
    /// The agent refuses to work in a directory that it was not told to trust.
    UntrustedDirectory,
    /// 429 that passes by itself.
    RateLimit,
    /// 429 or 402 that does not pass soon: plan or balance used up.
    Quota,
    /// The model has no capacity at the moment.
    Capacity,
    /// 5xx, or an answer that is not the API.
    Server,
    /// The model does not exist or is not offered.
    ModelUnavailable,
    /// The agent definition asked for does not exist.
    AgentMissing,
    /// No connection, or it broke.
    Network,
    /// Stopped from outside.
    Aborted,
    /// Anything else the agent calls an error.
    Other,
}

impl ErrorClass {
    /// Whether it passes by itself, or when a plan begins anew.
    pub fn is_limit(self) -> bool {
        matches!(self, Self::RateLimit | Self::Quota | Self::Capacity)
    }
}

impl AgentEvent {
    /// Whether the monitor writes this event to the journal. Text and bare turn starts are not worth the bytes.
    pub fn is_journalled(&self) -> bool {
        !matches!(self, Self::Text { .. } | Self::StepStarted | Self::Working)
    }
}
