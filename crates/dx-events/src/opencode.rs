//! `opencode run --format json`: one line to events.
//!
//! Called by [`crate::Parser`] for every line of stdout. Recorded with 1.18.33 (`fixtures/opencode`). The stream has
//! no final record: a turn that finished for the reason `stop` is the result. Never keeps more than one text.

use dx_protocol::{AgentEvent, Usage};
use serde::de::MapAccess;

use crate::clean::{MESSAGE_MAX, NAME_MAX, PATH_MAX, block, line};
use crate::loose::{self, Fields, count, list, nested, number, skip, text};
use crate::opencode_error::{self, Report};
use crate::opencode_status::Status;

/// Tools whose success means that the file in their input changed.
const FILE_TOOLS: [&str; 5] = ["write", "edit", "multiedit", "patch", "apply_patch"];
/// What a tool says that was refused: by a person or in their place, by a rule of the configuration, by a plugin.
const REFUSALS: [&str; 3] = [
    "The user rejected permission",
    "The user has specified a rule which prevents",
    // By the plugin of our pack.
    "Refused by the boundary of this role",
];

/// What a file tool's error says when the system refused: OpenCode's word, and the system's.
const SYSTEM_REFUSALS: [&str; 4] = ["PermissionDenied: FileSystem.", "EACCES", "EPERM", "EXDEV"];

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opencode {
    session: String,
    last_text: String,
}

#[derive(Default)]
struct Record {
    kind: Option<String>,
    session: Option<String>,
    timestamp: Option<f64>,
    part: Part,
    error: Report,
    status: Status,
}

#[derive(Default)]
struct Part {
    tool: Option<String>,
    call: Option<String>,
    state: State,
    text: Option<String>,
    reason: Option<String>,
    tokens: Tokens,
    cost: Option<f64>,
}

#[derive(Default)]
struct State {
    status: Option<String>,
    error: Option<String>,
    input: Input,
    metadata: Metadata,
}

#[derive(Default)]
struct Input {
    path: Option<String>,
}

#[derive(Default)]
struct Metadata {
    path: Option<String>,
    diff: File,
    files: Vec<File>,
}

#[derive(Default)]
struct File {
    path: Option<String>,
}

#[derive(Default)]
struct Tokens {
    input: u64,
    output: u64,
    reasoning: u64,
    cache: Cache,
}

#[derive(Default)]
struct Cache {
    read: u64,
    write: u64,
}

impl Opencode {
    /// Events of one line; `false` when the line is none of this grammar.
    pub(crate) fn line(&mut self, bytes: &[u8], text_max: usize, sink: &mut dyn FnMut(AgentEvent)) -> bool {
        let Some(record) = loose::record::<Record>(bytes) else { return false };
        let Some(kind) = record.kind.as_deref() else { return false };
        if !matches!(
            kind,
            "step_start" | "tool_use" | "text" | "reasoning" | "step_finish" | "error" | "session_status"
        ) {
            return false;
        }
        self.session(record.session.as_deref(), sink);
        match kind {
            "step_start" => sink(AgentEvent::StepStarted),
            "tool_use" => tool(&record.part, sink),
            "text" => {
                let text = record.part.text.as_deref().unwrap_or_default();
                if !text.trim().is_empty() {
                    self.last_text = line(text, MESSAGE_MAX);
                    sink(AgentEvent::Text { text: block(text, text_max) });
                }
            }
            "step_finish" => self.step_finish(&record.part, sink),
            "error" => opencode_error::events(&record.error, record.timestamp, sink),
            // A driver of ours prints what the server says of the session.
            "session_status" => record.status.events(record.timestamp, sink),
            _ => {}
        }
        true
    }

    fn session(&mut self, id: Option<&str>, sink: &mut dyn FnMut(AgentEvent)) {
        let Some(id) = id.map(|id| line(id, NAME_MAX)).filter(|id| !id.is_empty()) else { return };
        if id != self.session {
            sink(AgentEvent::Started { session: Some(id.clone()), model: None });
            self.session = id;
        }
    }

    fn step_finish(&mut self, part: &Part, sink: &mut dyn FnMut(AgentEvent)) {
        let tokens = &part.tokens;
        let usage = Usage {
            input_tokens: tokens.input.saturating_add(tokens.cache.write),
            output_tokens: tokens.output.saturating_add(tokens.reasoning),
            cached_tokens: tokens.cache.read,
            cost_usd: part.cost.filter(|c| *c >= 0.0),
        };
        // Nothing used: no event. An agent in a loop would fill the journal with them.
        let counts = [usage.input_tokens, usage.output_tokens, usage.cached_tokens];
        if counts != [0; 3] || usage.cost_usd.is_some_and(|c| c > 0.0) {
            sink(AgentEvent::Usage(usage));
        }
        let said = std::mem::take(&mut self.last_text);
        match part.reason.as_deref() {
            Some("stop") => sink(AgentEvent::Result { ok: true, detail: said }),
            // The turn goes on with another one (after `unknown` too: that is how it loops on garbage).
            None | Some("tool-calls" | "unknown") => {}
            Some(other) => {
                sink(AgentEvent::Result {
                    ok: false,
                    detail: line(&format!("the model stopped: {other}"), MESSAGE_MAX),
                });
            }
        }
    }
}

fn tool(part: &Part, sink: &mut dyn FnMut(AgentEvent)) {
    let name = line(part.tool.as_deref().unwrap_or("unknown"), NAME_MAX);
    let call = line(part.call.as_deref().unwrap_or_default(), NAME_MAX);
    let completed = match part.state.status.as_deref() {
        Some("pending" | "running") => return sink(AgentEvent::ToolStarted { call, name }),
        status => status == Some("completed"),
    };
    // Its stand-in for calls of tools that do not exist or with bad arguments "completes".
    let ok = completed && name != "invalid";
    let state = &part.state;
    if state.error.as_deref().is_some_and(|e| REFUSALS.iter().any(|r| e.starts_with(r))) {
        let what = state.input.path.as_deref().map_or_else(|| name.clone(), |path| format!("{name} {path}"));
        sink(AgentEvent::PermissionRefused { what: line(&what, MESSAGE_MAX) });
    }
    if let Some(path) = state.error.as_deref().and_then(|error| refused_path(error, &name, &state.input)) {
        sink(AgentEvent::WriteRefused { tool: name.clone(), path: line(path, PATH_MAX) });
    }
    let files = if ok && FILE_TOOLS.contains(&name.as_str()) { changed(state) } else { Vec::new() };
    sink(AgentEvent::ToolFinished { call, name, ok });
    for path in files {
        sink(AgentEvent::FileChanged { path: line(path, PATH_MAX) });
    }
}

/// Where the system refused a file tool to write: its error says so, its input says where.
fn refused_path<'a>(error: &str, name: &str, input: &'a Input) -> Option<&'a str> {
    let says = |word: &str| error.contains(word);
    let refused = SYSTEM_REFUSALS.into_iter().any(says) && !REFUSALS.iter().any(|r| error.starts_with(r));
    input.path.as_deref().filter(|path| refused && FILE_TOOLS.contains(&name) && path.starts_with('/'))
}

/// Paths that a file tool tells: what it reports (absolute) rather than what it was given.
fn changed(state: &State) -> Vec<&str> {
    let metadata = &state.metadata;
    let listed: Vec<&str> = metadata.files.iter().filter_map(|f| f.path.as_deref()).collect();
    if !listed.is_empty() {
        return listed;
    }
    let one = [&metadata.path, &metadata.diff.path, &state.input.path].into_iter().find_map(Option::as_deref);
    one.into_iter().collect()
}

impl Fields for Record {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "type" => self.kind = text(map)?,
            "sessionID" => self.session = text(map)?,
            "timestamp" => self.timestamp = number(map)?,
            "part" => self.part = nested(map)?,
            "error" => self.error = nested(map)?,
            "status" => self.status = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Part {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "tool" => self.tool = text(map)?,
            "callID" => self.call = text(map)?,
            "state" => self.state = nested(map)?,
            "text" => self.text = text(map)?,
            "reason" => self.reason = text(map)?,
            "tokens" => self.tokens = nested(map)?,
            "cost" => self.cost = number(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for State {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "status" => self.status = text(map)?,
            "error" => self.error = text(map)?,
            "input" => self.input = nested(map)?,
            "metadata" => self.metadata = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Input {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "filePath" => self.path = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Metadata {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "filepath" => self.path = text(map)?,
            "filediff" => self.diff = nested(map)?,
            "files" => self.files = list(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for File {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "file" | "filePath" => self.path = text(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Tokens {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "input" => self.input = count(map)?,
            "output" => self.output = count(map)?,
            "reasoning" => self.reasoning = count(map)?,
            "cache" => self.cache = nested(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}

impl Fields for Cache {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "read" => self.read = count(map)?,
            "write" => self.write = count(map)?,
            _ => skip(map)?,
        }
        Ok(())
    }
}
