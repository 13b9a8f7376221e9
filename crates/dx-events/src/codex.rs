//! `codex exec --json`: one line to events.
//!
//! Called by [`crate::Parser`] for every line of stdout. Recorded with 0.169.0 (`fixtures/codex`). `turn.completed` and
//! `turn.failed` end what was asked for; an `error` before them may be a retry, and an item of the type `error` is a
//! warning that good runs have too. Never keeps more than one text and one error.

use dx_protocol::{AgentEvent, Usage};
use serde::de::MapAccess;

use crate::clean::{MESSAGE_MAX, NAME_MAX, PATH_MAX, block, line};
use crate::codex_error;
use crate::loose::{self, Fields, count, list, nested, skip, text};

/// How an `error` begins that is a retry.
const RETRY: &str = "Reconnecting... ";
/// Items that tell nothing we keep.
const SILENT: [&str; 3] = ["reasoning", "todo_list", "error"];

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Codex {
    last_text: String,
    /// It comes again as the failure of the turn.
    last_error: String,
    /// The tokens of the session so far, as the last turn told them.
    spent: Tokens,
}

#[derive(Default)]
struct Record {
    kind: Option<String>,
    thread: Option<String>,
    item: Item,
    usage: Tokens,
    message: Option<String>,
    error: Failure,
}

#[derive(Default)]
struct Item {
    id: Option<String>,
    kind: Option<String>,
    status: Option<String>,
    text: Option<String>,
    command: Option<String>,
    changes: Vec<Change>,
    server: Option<String>,
    tool: Option<String>,
    error: Failure,
}

#[derive(Default)]
struct Change {
    path: Option<String>,
}

#[derive(Default)]
struct Failure {
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tokens {
    /// Cached ones included.
    input: u64,
    cached: u64,
    /// Reasoning included.
    output: u64,
}

impl Codex {
    /// Events of one line; `false` when the line is none of this grammar.
    pub(crate) fn line(&mut self, bytes: &[u8], text_max: usize, sink: &mut dyn FnMut(AgentEvent)) -> bool {
        let Some(record) = loose::record::<Record>(bytes) else { return false };
        match record.kind.as_deref() {
            Some("thread.started") => {
                let session =
                    record.thread.as_deref().map(|id| line(id, NAME_MAX)).filter(|id| !id.is_empty());
                if session.is_some() {
                    sink(AgentEvent::Started { session, model: None });
                }
            }
            Some("turn.started") => sink(AgentEvent::StepStarted),
            Some("item.started") => {
                let Some(name) = tool_name(&record.item) else { return is_silent(&record.item) };
                sink(AgentEvent::ToolStarted { call: call(&record.item), name });
            }
            Some("item.updated") => return true,
            Some("item.completed") => return self.completed(&record.item, text_max, sink),
            Some("error") => self.error(record.message.as_deref().unwrap_or_default(), sink),
            Some("turn.completed") => {
                self.spend(record.usage, sink);
                sink(AgentEvent::Result { ok: true, detail: std::mem::take(&mut self.last_text) });
            }
            Some("turn.failed") => {
                let message = line(record.error.message.as_deref().unwrap_or("unknown"), MESSAGE_MAX);
                if message != self.last_error {
                    self.error(&message, sink);
                }
                sink(AgentEvent::Result { ok: false, detail: message });
            }
            _ => return false,
        }
        true
    }

    fn completed(&mut self, item: &Item, text_max: usize, sink: &mut dyn FnMut(AgentEvent)) -> bool {
        if item.kind.as_deref() == Some("agent_message") {
            let said = item.text.as_deref().unwrap_or_default();
            if !said.trim().is_empty() {
                self.last_text = line(said, MESSAGE_MAX);
                sink(AgentEvent::Text { text: block(said, text_max) });
            }
            return true;
        }
        let Some(name) = tool_name(item) else { return is_silent(item) };
        // Items without a status have no way to fail.
        let ok = item.status.as_deref().is_none_or(|status| status == "completed");
        if let Some(what) = refused(item, &name) {
            sink(AgentEvent::PermissionRefused { what: line(&what, MESSAGE_MAX) });
        }
        sink(AgentEvent::ToolFinished { call: call(item), name, ok });
        for path in item.changes.iter().filter(|_| ok).filter_map(|change| change.path.as_deref()) {
            sink(AgentEvent::FileChanged { path: line(path, PATH_MAX) });
        }
        true
    }

    fn error(&mut self, message: &str, sink: &mut dyn FnMut(AgentEvent)) {
        if let Some(retry) = message.strip_prefix(RETRY) {
            return sink(retrying(retry));
        }
        let (class, status) = codex_error::class(message);
        self.last_error = line(message, MESSAGE_MAX);
        // The time at which a plan is as good as new is told in words for people, without a date or a zone.
        if class.is_limit() {
            sink(AgentEvent::RateLimited { until_ms: None });
        }
        sink(AgentEvent::Error { class, status, message: self.last_error.clone() });
    }

    /// Tells what was spent since the last turn.
    fn spend(&mut self, total: Tokens, sink: &mut dyn FnMut(AgentEvent)) {
        let before = std::mem::replace(&mut self.spent, total);
        let cached_tokens = total.cached.saturating_sub(before.cached);
        let input = total.input.saturating_sub(before.input);
        let usage = Usage {
            input_tokens: input.saturating_sub(cached_tokens),
            output_tokens: total.output.saturating_sub(before.output),
            cached_tokens,
            cost_usd: None,
        };
        if usage != Usage::default() {
            sink(AgentEvent::Usage(usage));
        }
    }
}

/// `2/5 (why)`, or `waiting for network (why)`.
fn retrying(text: &str) -> AgentEvent {
    let (count, why) = text.split_once(" (").unwrap_or((text, text));
    let attempt = count.split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let why = why.strip_suffix(')').unwrap_or(why);
    AgentEvent::Retrying {
        attempt,
        delay_ms: None,
        status: codex_error::status(why),
        message: line(why, MESSAGE_MAX),
    }
}

/// What a tool is called in the counts; `None` for items that are no tools.
fn tool_name(item: &Item) -> Option<String> {
    let kind = item.kind.as_deref()?;
    match kind {
        "command_execution" | "file_change" | "web_search" | "collab_tool_call" => Some(kind.to_owned()),
        "mcp_tool_call" => {
            let (server, tool) = (item.server.as_deref(), item.tool.as_deref());
            Some(line(&format!("{}.{}", server.unwrap_or("mcp"), tool.unwrap_or("unknown")), NAME_MAX))
        }
        _ => None,
    }
}

fn is_silent(item: &Item) -> bool {
    item.kind.as_deref().is_some_and(|kind| SILENT.contains(&kind) || kind == "agent_message")
}

fn call(item: &Item) -> String {
    line(item.id.as_deref().unwrap_or_default(), NAME_MAX)
}

/// What Codex did not allow: nobody is there to approve it, or a rule forbids it.
fn refused(item: &Item, name: &str) -> Option<String> {
    if item.error.message.as_deref().is_some_and(codex_error::is_refusal) {
        return Some(name.to_owned());
    }
    let paths = || item.changes.iter().find_map(|change| change.path.clone());
    let object = item.command.clone().or_else(paths);
    let declined = item.status.as_deref() == Some("declined");
    declined.then(|| object.map_or_else(|| name.to_owned(), |object| format!("{name} {object}")))
}

impl Fields for Record {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "thread_id" => self.thread = text(map)?,
            "item" => self.item = nested(map)?,
            "usage" => self.usage = nested(map)?,
            "message" => self.message = text(map)?,
            "error" => self.error = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Item {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "id" => self.id = text(map)?,
            "type" => self.kind = text(map)?,
            "status" => self.status = text(map)?,
            "text" => self.text = text(map)?,
            "command" => self.command = text(map)?,
            "changes" => self.changes = list(map)?,
            "server" => self.server = text(map)?,
            "tool" => self.tool = text(map)?,
            "error" => self.error = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Change {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "path" => self.path = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Failure {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "message" => self.message = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Tokens {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "input_tokens" => self.input = count(map)?,
            "cached_input_tokens" => self.cached = count(map)?,
            "output_tokens" => self.output = count(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
