//! `claude -p --output-format stream-json --verbose`: one line to events.
//!
//! Called by [`crate::Parser`] for every line of stdout. Recorded with 2.1.329 (`fixtures/claude`). A `result` record
//! ends each turn that was asked for, and `is_error` in it decides: its `subtype` says `success` for failed calls of the
//! API too. Never keeps more than the calls that are under way.

use dx_protocol::{AgentEvent, Usage};

use crate::claude_error;
use crate::claude_record::{Block, Record, Tokens};
use crate::clean::{MESSAGE_MAX, NAME_MAX, block, line};
use crate::instant;
use crate::loose;

/// Tools whose success means that the file in their input changed.
const FILE_TOOLS: [&str; 4] = ["Write", "Edit", "MultiEdit", "NotebookEdit"];
/// What the answer of such a tool holds when the kernel refused it; Node.js names the error.
const SYSTEM_REFUSALS: [&str; 3] = ["EACCES", "EPERM", "EXDEV"];
/// The model of messages that Claude Code writes itself, about errors.
const SYNTHETIC: &str = "<synthetic>";
/// Kinds of records that tell nothing we keep.
const SILENT: [&str; 9] = [
    "stream_event",
    "tool_progress",
    "tool_use_summary",
    "auth_status",
    "prompt_suggestion",
    "control_request",
    "control_response",
    "control_cancel_request",
    "keep_alive",
];
/// Most calls that are remembered as under way, and most refusals that are known to be told.
const CALLS_MAX: usize = 64;

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claude {
    session: String,
    model: String,
    /// The message that the model writes; it comes in one record for each of its blocks.
    message: String,
    calls: Vec<Call>,
    /// Calls whose refusal was told.
    refused: Vec<String>,
    /// What the message about an error calls it; the result that follows does not.
    error_word: Option<String>,
    /// A limit was told, with the time it ends where that is known.
    limited: bool,
    /// The session's tokens and cost so far, as the last result told them.
    spent: Spent,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    tokens: Tokens,
    cost: f64,
}

#[derive(Debug, Clone)]
struct Call {
    id: String,
    name: String,
    path: Option<String>,
}

impl Claude {
    /// Events of one line; `false` when the line is none of this grammar.
    pub(crate) fn line(&mut self, bytes: &[u8], text_max: usize, sink: &mut dyn FnMut(AgentEvent)) -> bool {
        let Some(record) = loose::record::<Record>(bytes) else { return false };
        let Some(kind) = record.kind.as_deref() else { return false };
        match kind {
            "system" => self.system(&record, sink),
            "assistant" => self.assistant(&record, text_max, sink),
            "user" => self.user(&record, sink),
            "rate_limit_event" => {
                self.started(&record, None, sink);
                // Others of these tell that a limit is near, or how much of it is left.
                if record.limit.status.as_deref() == Some("rejected") {
                    let until_ms = record.limit.resets_at.and_then(instant::of_either);
                    self.limited = true;
                    sink(AgentEvent::RateLimited { until_ms });
                }
            }
            "result" => self.result(&record, sink),
            other => return SILENT.contains(&other),
        }
        true
    }

    /// Tells session and model when they are new.
    fn started(&mut self, record: &Record, model: Option<&str>, sink: &mut dyn FnMut(AgentEvent)) {
        let session = record.session.as_deref().map(|id| line(id, NAME_MAX)).unwrap_or_default();
        let model = model.filter(|m| *m != SYNTHETIC).map(|m| line(m, NAME_MAX)).unwrap_or_default();
        let is_new = |new: &str, known: &str| !new.is_empty() && new != known;
        // Subagents may use other models: the first one told is the session's.
        let new_model = self.model.is_empty() && !model.is_empty();
        if !is_new(&session, &self.session) && !new_model {
            return;
        }
        if !session.is_empty() {
            self.session = session;
        }
        if new_model {
            self.model = model;
        }
        let told = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
        sink(AgentEvent::Started { session: told(&self.session), model: told(&self.model) });
    }

    fn system(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        self.started(record, record.model.as_deref(), sink);
        match record.subtype.as_deref() {
            Some("api_retry") => sink(AgentEvent::Retrying {
                attempt: record.attempt.unwrap_or(0.0) as u32,
                delay_ms: record.delay_ms.filter(|ms| *ms >= 0.0).map(|ms| ms as u64),
                status: claude_error::status(record.retry_status),
                message: line(record.failure.word.as_deref().unwrap_or("unknown"), MESSAGE_MAX),
            }),
            Some("permission_denied") => {
                let call = record.call.clone().unwrap_or_default();
                let name = record.tool.clone().unwrap_or_default();
                let path = self.calls.iter().find(|c| c.id == call).and_then(|c| c.path.clone());
                self.refuse(&call, &name, path.as_deref(), sink);
            }
            _ => {}
        }
    }

    fn refuse(&mut self, call: &str, name: &str, object: Option<&str>, sink: &mut dyn FnMut(AgentEvent)) {
        if !call.is_empty() {
            if self.refused.iter().any(|c| c == call) {
                return;
            }
            if self.refused.len() == CALLS_MAX {
                self.refused.remove(0);
            }
            self.refused.push(line(call, NAME_MAX));
        }
        let what = object.map_or_else(|| name.to_owned(), |object| format!("{name} {object}"));
        sink(AgentEvent::PermissionRefused { what: line(&what, MESSAGE_MAX) });
    }

    fn assistant(&mut self, record: &Record, text_max: usize, sink: &mut dyn FnMut(AgentEvent)) {
        let message = &record.message;
        self.started(record, message.model.as_deref(), sink);
        if message.model.as_deref() == Some(SYNTHETIC) {
            // Its words come again as the result.
            self.error_word.clone_from(&record.failure.word);
            return;
        }
        let id = line(message.id.as_deref().unwrap_or_default(), NAME_MAX);
        if id != self.message {
            self.message = id;
            sink(AgentEvent::StepStarted);
        }
        for part in &message.content {
            match part.kind.as_deref() {
                Some("text") => {
                    let said = part.text.as_deref().unwrap_or_default();
                    if !said.trim().is_empty() {
                        sink(AgentEvent::Text { text: block(said, text_max) });
                    }
                }
                Some("tool_use") => self.tool_started(part, sink),
                _ => {}
            }
        }
    }

    fn tool_started(&mut self, part: &Block, sink: &mut dyn FnMut(AgentEvent)) {
        let id = line(part.id.as_deref().unwrap_or_default(), NAME_MAX);
        let name = line(part.name.as_deref().unwrap_or("unknown"), NAME_MAX);
        if self.calls.len() == CALLS_MAX {
            self.calls.remove(0);
        }
        let path = part.input.object();
        self.calls.push(Call { id: id.clone(), name: name.clone(), path });
        sink(AgentEvent::ToolStarted { call: id, name });
    }

    fn user(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        self.started(record, None, sink);
        for part in &record.message.content {
            if part.kind.as_deref() != Some("tool_result") {
                continue;
            }
            let id = line(part.call.as_deref().unwrap_or_default(), NAME_MAX);
            let known = self.calls.iter().position(|c| c.id == id).map(|at| self.calls.remove(at));
            let (name, path) = known.map_or_else(|| ("unknown".to_owned(), None), |c| (c.name, c.path));
            let ok = part.is_error != Some(true);
            let file = path.filter(|_| FILE_TOOLS.contains(&name.as_str()));
            let says = |code: &str| part.answer.as_deref().is_some_and(|answer| answer.contains(code));
            sink(AgentEvent::ToolFinished { call: id, name: name.clone(), ok });
            match file {
                Some(path) if ok => sink(AgentEvent::FileChanged { path }),
                Some(path) if SYSTEM_REFUSALS.into_iter().any(says) => {
                    sink(AgentEvent::WriteRefused { tool: name, path });
                }
                _ => {}
            }
        }
    }

    fn result(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        self.started(record, None, sink);
        for denial in &record.denials {
            let call = denial.call.as_deref().unwrap_or_default();
            let name = denial.tool.as_deref().unwrap_or_default();
            self.refuse(call, name, denial.input.object().as_deref(), sink);
        }
        let usage = self.spend(record);
        let counts = [usage.input_tokens, usage.output_tokens, usage.cached_tokens];
        if counts != [0; 3] || usage.cost_usd.is_some_and(|c| c > 0.0) {
            sink(AgentEvent::Usage(usage));
        }
        let said = line(record.result.as_deref().unwrap_or_default(), MESSAGE_MAX);
        let subtype = record.subtype.as_deref().unwrap_or("unknown");
        let word = self.error_word.take();
        if record.is_error == Some(true) || subtype != "success" {
            let detail = if said.is_empty() { line(subtype, NAME_MAX) } else { said };
            let class = claude_error::class(&record.failure, word.as_deref(), subtype, &detail);
            if claude_error::is_limit(class) && !std::mem::take(&mut self.limited) {
                sink(AgentEvent::RateLimited { until_ms: None });
            }
            let status = claude_error::status(record.failure.status);
            sink(AgentEvent::Error { class, status, message: detail.clone() });
            return sink(AgentEvent::Result { ok: false, detail });
        }
        match record.stop_reason.as_deref() {
            Some(reason @ ("refusal" | "max_tokens" | "model_context_window_exceeded")) => {
                sink(AgentEvent::Result { ok: false, detail: format!("the model stopped: {reason}") });
            }
            _ => sink(AgentEvent::Result { ok: true, detail: said }),
        }
    }
}

impl Claude {
    /// What was spent since the last result. `usage` is told for this result alone, but without subagents; the
    /// models' tokens and the cost are told for the session so far.
    fn spend(&mut self, record: &Record) -> Usage {
        let (before, total) = (self.spent.tokens, record.by_model.0);
        let tokens = total.map_or(record.usage, |total| total.minus(before));
        let cost = record.cost.filter(|c| *c >= 0.0);
        let cost_usd = cost.map(|cost| (cost - self.spent.cost).max(0.0));
        self.spent = Spent { tokens: total.unwrap_or(before), cost: cost.unwrap_or(self.spent.cost) };
        Usage {
            input_tokens: tokens.input.saturating_add(tokens.cache_write),
            output_tokens: tokens.output,
            cached_tokens: tokens.cache_read,
            cost_usd,
        }
    }
}
