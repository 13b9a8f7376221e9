//! What is true after all events of one run: the fold that verdicts, status and reports read.
//!
//! Called with every event of the run, stdout's and stderr's, in the order seen; the order between the two streams
//! does not matter. Bounded whatever an agent prints. Never looks at exit codes or the work tree.

use std::collections::BTreeMap;

use dx_protocol::{AgentEvent, ErrorClass, Grammar, ProviderVerdict, Trouble, Usage};
use serde::{Deserialize, Serialize};

use crate::opencode_error::by_message;

/// Most tool names that are counted apart, and most calls that are remembered as running.
const NAMES_MAX: usize = 64;
/// Most refused paths that are kept.
const PATHS_MAX: usize = 100;
/// Where the tools beyond that are counted.
const OTHER: &str = "other";

/// The fold of a run's events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub grammar: Grammar,
    pub session: Option<String>,
    pub model: Option<String>,
    /// Events seen.
    pub events: u64,
    /// Kind of the last event.
    pub last: Option<EventKind>,
    /// Turns with the model begun.
    pub steps: u64,
    /// Consecutive turns, up to now, that brought no text, no tool and no output token. One that still runs does not
    /// count. No model at work does this; an agent that asks again and again because it cannot read the answers does.
    pub barren_steps: u32,
    /// Consecutive tool calls, up to now, that failed.
    pub failed_calls: u32,
    /// Sum over all turns.
    pub usage: Usage,
    /// Ended calls by tool name.
    pub tools: BTreeMap<String, ToolCount>,
    /// Begun and not ended: call id and tool name.
    pub in_flight: Vec<(String, String)>,
    /// Times that a file was reported as changed.
    pub files_changed: u64,
    /// What the agent waits for, if it said so.
    pub waiting: Waiting,
    /// Refusals reported. One refusal can show in both streams and count twice.
    pub permissions_refused: u32,
    /// The refusal that says most (the longest: one refusal shows differently in the two streams, in any order).
    pub refused: Option<String>,
    /// Paths that the system refused a tool to write.
    pub writes_refused: Vec<String>,
    pub last_error: Option<LastError>,
    /// The last error still stands: nothing ended well after it.
    pub error_stands: bool,
    /// The agent that was asked for does not exist: no later result makes that good.
    pub agent_missing: Option<String>,
    pub last_result: Option<LastResult>,
    /// The last result still stands: no further turn or tool after it.
    pub result_stands: bool,
    /// The present turn brought something.
    fruitful: bool,
    /// A turn is open.
    in_step: bool,
}

/// Ended calls of one tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCount {
    pub ok: u32,
    pub failed: u32,
}

/// The error that was reported last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    pub class: ErrorClass,
    pub status: Option<u16>,
    pub message: String,
}

/// The result that was reported last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastResult {
    pub ok: bool,
    pub detail: String,
}

/// What an agent said that it waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum Waiting {
    /// Nothing: it works, or says nothing.
    #[default]
    Nothing,
    /// A limit to pass.
    RateLimit { until_ms: Option<i64> },
    /// The next attempt.
    Retry {
        attempt: u32,
        delay_ms: Option<u64>,
        status: Option<u16>,
        #[serde(default)]
        message: String,
    },
    /// A person.
    Permission { what: String },
}

/// [`AgentEvent`] without its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Started,
    Text,
    StepStarted,
    Working,
    ToolStarted,
    ToolFinished,
    FileChanged,
    Usage,
    Retrying,
    RateLimited,
    PermissionAsked,
    PermissionRefused,
    WriteRefused,
    Error,
    Result,
}

impl Summary {
    /// Before any event.
    pub fn new(grammar: Grammar) -> Self {
        Self { grammar, ..Self::default() }
    }

    /// Adds one event.
    pub fn apply(&mut self, event: &AgentEvent) {
        self.events = self.events.saturating_add(1);
        self.last = Some(EventKind::of(event));
        self.note_progress(event);
        match event {
            AgentEvent::Started { session, model } => {
                self.session = session.clone().or(self.session.take());
                self.model = model.clone().or(self.model.take());
            }
            AgentEvent::Text { .. } | AgentEvent::Working => {}
            AgentEvent::StepStarted => self.steps = self.steps.saturating_add(1),
            AgentEvent::ToolStarted { call, name } => {
                if self.in_flight.len() < NAMES_MAX {
                    self.in_flight.push((call.clone(), name.clone()));
                }
            }
            AgentEvent::ToolFinished { call, name, ok } => self.tool(call, name, *ok),
            AgentEvent::FileChanged { .. } => self.files_changed = self.files_changed.saturating_add(1),
            AgentEvent::Usage(usage) => self.usage = self.usage.plus(*usage),
            AgentEvent::Retrying { attempt, delay_ms, status, message } => {
                self.waiting = Waiting::Retry {
                    attempt: *attempt,
                    delay_ms: *delay_ms,
                    status: *status,
                    message: message.clone(),
                };
            }
            AgentEvent::RateLimited { until_ms } => self.waiting = Waiting::RateLimit { until_ms: *until_ms },
            AgentEvent::PermissionAsked { what } => self.waiting = Waiting::Permission { what: what.clone() },
            AgentEvent::PermissionRefused { what } => {
                self.permissions_refused = self.permissions_refused.saturating_add(1);
                let says_more = |known: &String| (what.len(), what) > (known.len(), known);
                if self.refused.as_ref().is_none_or(says_more) {
                    self.refused = Some(what.clone());
                }
                if matches!(self.waiting, Waiting::Permission { .. }) {
                    self.waiting = Waiting::Nothing;
                }
            }
            AgentEvent::WriteRefused { path, .. } => {
                if self.writes_refused.len() < PATHS_MAX && !self.writes_refused.contains(path) {
                    self.writes_refused.push(path.clone());
                }
            }
            AgentEvent::Error { class, status, message } => {
                if *class == ErrorClass::AgentMissing {
                    self.agent_missing = Some(message.clone());
                } else {
                    self.last_error =
                        Some(LastError { class: *class, status: *status, message: message.clone() });
                    self.error_stands = true;
                }
            }
            AgentEvent::Result { ok, detail } => {
                self.last_result = Some(LastResult { ok: *ok, detail: detail.clone() });
                self.result_stands = true;
                self.error_stands &= !ok;
            }
        }
    }

    /// Turns that bear nothing, results that turn out not to be the last, waits that are over.
    fn note_progress(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::StepStarted => {
                if self.in_step && !self.fruitful {
                    self.barren_steps = self.barren_steps.saturating_add(1);
                }
                (self.in_step, self.fruitful) = (true, false);
                self.result_stands = false;
            }
            AgentEvent::ToolStarted { .. } | AgentEvent::ToolFinished { .. } => {
                self.bears();
                self.result_stands = false;
            }
            AgentEvent::Usage(usage) => {
                if usage.output_tokens > 0 {
                    self.bears();
                }
                self.result_stands = false;
            }
            AgentEvent::Text { .. } | AgentEvent::FileChanged { .. } => self.bears(),
            AgentEvent::Result { .. } | AgentEvent::Working => {}
            AgentEvent::Started { .. }
            | AgentEvent::Retrying { .. }
            | AgentEvent::RateLimited { .. }
            | AgentEvent::PermissionAsked { .. }
            | AgentEvent::PermissionRefused { .. }
            | AgentEvent::WriteRefused { .. }
            | AgentEvent::Error { .. } => return,
        }
        self.waiting = Waiting::Nothing;
    }

    fn bears(&mut self) {
        self.fruitful = true;
        self.barren_steps = 0;
    }

    fn tool(&mut self, call: &str, name: &str, ok: bool) {
        if let Some(at) = self.in_flight.iter().position(|(c, _)| c == call) {
            self.in_flight.remove(at);
        }
        let room = self.tools.len() < NAMES_MAX - 1 || self.tools.contains_key(name);
        let count = self.tools.entry(if room { name } else { OTHER }.to_owned()).or_default();
        let counter = if ok { &mut count.ok } else { &mut count.failed };
        *counter = counter.saturating_add(1);
        self.failed_calls = if ok { 0 } else { self.failed_calls.saturating_add(1) };
    }

    /// Whether the last turn has ended with a good result.
    fn done(&self) -> bool {
        self.result_stands && self.last_result.as_ref().is_some_and(|r| r.ok)
    }

    /// What the agent's output says about success so far.
    pub fn verdict(&self) -> ProviderVerdict {
        if self.grammar == Grammar::Text {
            return ProviderVerdict::NotApplicable;
        }
        if let Some(message) = self.agent_missing.clone() {
            return ProviderVerdict::Failed { class: ErrorClass::AgentMissing, status: None, message };
        }
        if let (true, Some(error)) = (self.error_stands, self.last_error.clone()) {
            return ProviderVerdict::Failed {
                class: error.class,
                status: error.status,
                message: error.message,
            };
        }
        match &self.last_result {
            Some(result) if self.result_stands && !result.ok => ProviderVerdict::Failed {
                class: ErrorClass::Other,
                status: None,
                message: result.detail.clone(),
            },
            _ if self.permissions_refused > 0 => {
                ProviderVerdict::Refused { what: self.refused.clone().unwrap_or_default() }
            }
            _ if self.done() => ProviderVerdict::Ok,
            _ => ProviderVerdict::NoResult,
        }
    }

    /// What the agent was still trying to get over when its output ended.
    pub fn trouble(&self) -> Option<Trouble> {
        // Others tell of it on standard error, and what came after that is not known.
        let in_order = matches!(self.grammar, Grammar::Claude | Grammar::Codex);
        let Waiting::Retry { status, message, .. } = &self.waiting else { return None };
        in_order.then(|| trouble_of(*status, message))
    }
}

/// What an agent tries again for.
pub fn trouble_of(status: Option<u16>, message: &str) -> Trouble {
    Trouble { class: class_of_retry(status, message), status, message: message.to_owned() }
}

fn class_of_retry(status: Option<u16>, message: &str) -> ErrorClass {
    match (status, message) {
        (_, "authentication_failed") | (Some(401 | 403), _) => ErrorClass::Auth,
        (Some(402), _) => ErrorClass::Quota,
        (Some(404), _) => ErrorClass::ModelUnavailable,
        (Some(429), _) => ErrorClass::RateLimit,
        (_, "overloaded") | (Some(529), _) => ErrorClass::Capacity,
        (Some(500..), _) => ErrorClass::Server,
        (Some(_), _) => ErrorClass::Other,
        (None, message) => by_message(message),
    }
}

impl EventKind {
    /// The kind of an event.
    pub fn of(event: &AgentEvent) -> Self {
        match event {
            AgentEvent::Started { .. } => Self::Started,
            AgentEvent::Text { .. } => Self::Text,
            AgentEvent::StepStarted => Self::StepStarted,
            AgentEvent::Working => Self::Working,
            AgentEvent::ToolStarted { .. } => Self::ToolStarted,
            AgentEvent::ToolFinished { .. } => Self::ToolFinished,
            AgentEvent::FileChanged { .. } => Self::FileChanged,
            AgentEvent::Usage(_) => Self::Usage,
            AgentEvent::Retrying { .. } => Self::Retrying,
            AgentEvent::RateLimited { .. } => Self::RateLimited,
            AgentEvent::PermissionAsked { .. } => Self::PermissionAsked,
            AgentEvent::PermissionRefused { .. } => Self::PermissionRefused,
            AgentEvent::WriteRefused { .. } => Self::WriteRefused,
            AgentEvent::Error { .. } => Self::Error,
            AgentEvent::Result { .. } => Self::Result,
        }
    }
}
