//! `gemini -o stream-json`: one line to events.
//!
//! Called by [`crate::Parser`] for every line of stdout. Recorded with 0.61.0 (`fixtures/gemini`). One `result` record
//! ends a run; its `status` decides, but for a run that an `error` record broke off: Gemini CLI calls that a success.
//! What the model says comes in pieces of a word or more; they are put together to lines. Never keeps more than the
//! calls that are under way and one line of text.

use dx_protocol::{AgentEvent, Usage};

use crate::clean::{MESSAGE_MAX, NAME_MAX, PATH_MAX, block, line};
use crate::gemini_error;
use crate::gemini_record::Record;
use crate::loose;

/// Tools whose success means that the file in their input changed.
const FILE_TOOLS: [&str; 2] = ["write_file", "replace"];
/// Tools that are taken away where they are not allowed: the model's call of one is refused as one of an unknown tool.
const TAKEN_AWAY: [&str; 5] = ["write_file", "replace", "run_shell_command", "web_fetch", "activate_skill"];
/// What a tool's error is called when permission was what it lacked.
const REFUSALS: [&str; 2] = ["policy_violation", "path_not_in_workspace"];
/// The same, told as a wrong parameter by the tools that check it first.
const OUTSIDE: &str = "Path not in workspace";
/// Most calls that are remembered as under way.
const CALLS_MAX: usize = 64;

/// What has to be remembered from line to line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gemini {
    calls: Vec<Call>,
    /// What the model says and has not ended the line of.
    said: String,
    /// The model's turn has begun.
    in_turn: bool,
    /// What broke the turn off.
    broken: Option<String>,
}

#[derive(Debug, Clone)]
struct Call {
    id: String,
    name: String,
    object: Option<String>,
}

impl Gemini {
    /// Events of one line; `false` when the line is none of this grammar.
    pub(crate) fn line(&mut self, bytes: &[u8], text_max: usize, sink: &mut dyn FnMut(AgentEvent)) -> bool {
        let Some(record) = loose::record::<Record>(bytes) else { return false };
        let kind = record.kind.as_deref().unwrap_or_default();
        if kind == "message" && record.role.as_deref() == Some("assistant") {
            self.begin_turn(sink);
            self.say(record.content.as_deref().unwrap_or_default(), text_max, sink);
            return true;
        }
        self.finish(text_max, sink);
        match kind {
            "init" => {
                let name = |text: Option<&String>| text.map(|t| line(t, NAME_MAX)).filter(|t| !t.is_empty());
                let (session, model) = (name(record.session.as_ref()), name(record.model.as_ref()));
                sink(AgentEvent::Started { session, model });
            }
            // The prompt.
            "message" => self.in_turn = false,
            "tool_use" => self.tool_started(&record, sink),
            "tool_result" => self.tool_finished(&record, sink),
            "error" => {
                let message = record.message.as_deref().unwrap_or("an error without words");
                self.broken = Some(line(message, MESSAGE_MAX));
            }
            "result" => self.result(&record, sink),
            _ => return false,
        }
        true
    }

    /// Whether words wait for the end of their line.
    pub(crate) fn is_mid_text(&self) -> bool {
        !self.said.trim().is_empty()
    }

    /// Tells what waits for the end of its line.
    pub(crate) fn finish(&mut self, text_max: usize, sink: &mut dyn FnMut(AgentEvent)) {
        let said = std::mem::take(&mut self.said);
        if !said.trim().is_empty() {
            sink(AgentEvent::Text { text: block(&said, text_max) });
        }
    }

    fn begin_turn(&mut self, sink: &mut dyn FnMut(AgentEvent)) {
        if !std::mem::replace(&mut self.in_turn, true) {
            self.broken = None;
            sink(AgentEvent::StepStarted);
        }
    }

    fn say(&mut self, words: &str, text_max: usize, sink: &mut dyn FnMut(AgentEvent)) {
        // A line that is too long loses its end, and the next one begins in good order.
        let mut rest = words;
        while let Some(at) = rest.find('\n') {
            self.keep(&rest[..at], text_max);
            self.finish(text_max, sink);
            rest = &rest[at + 1..];
        }
        self.keep(rest, text_max);
    }

    fn keep(&mut self, words: &str, text_max: usize) {
        let room = text_max.saturating_sub(self.said.len());
        self.said.push_str(&words[..words.floor_char_boundary(room)]);
    }

    fn tool_started(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        self.begin_turn(sink);
        let id = line(record.call.as_deref().unwrap_or_default(), NAME_MAX);
        let name = line(record.tool.as_deref().unwrap_or("unknown"), NAME_MAX);
        if self.calls.len() == CALLS_MAX {
            self.calls.remove(0);
        }
        let input = &record.input;
        let path = input.path.as_deref().map(|path| line(path, PATH_MAX));
        let object = path.or_else(|| input.command.as_deref().map(|command| line(command, MESSAGE_MAX)));
        self.calls.push(Call { id: id.clone(), name: name.clone(), object });
        sink(AgentEvent::ToolStarted { call: id, name });
    }

    fn tool_finished(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        // What the model says next is about this.
        self.in_turn = false;
        let id = line(record.call.as_deref().unwrap_or_default(), NAME_MAX);
        let known = self.calls.iter().position(|c| c.id == id).map(|at| self.calls.remove(at));
        let (name, object) = known.map_or_else(|| ("unknown".to_owned(), None), |c| (c.name, c.object));
        let ok = record.status.as_deref() == Some("success");
        let failure = record.error.kind.as_deref().unwrap_or_default();
        let outside = record.error.message.as_deref().is_some_and(|message| message.starts_with(OUTSIDE));
        let taken_away = failure == "tool_not_registered" && TAKEN_AWAY.contains(&name.as_str());
        let refused = !ok && (outside || taken_away || REFUSALS.contains(&failure));
        let what = object.as_ref().map_or_else(|| name.clone(), |object| format!("{name} {object}"));
        let changed = object.filter(|_| ok && FILE_TOOLS.contains(&name.as_str()));
        sink(AgentEvent::ToolFinished { call: id, name, ok });
        if let Some(path) = changed {
            sink(AgentEvent::FileChanged { path });
        }
        if refused {
            sink(AgentEvent::PermissionRefused { what: line(&what, MESSAGE_MAX) });
        }
    }

    fn result(&mut self, record: &Record, sink: &mut dyn FnMut(AgentEvent)) {
        let stats = &record.stats;
        if [stats.input, stats.output, stats.cached] != [0; 3] {
            sink(AgentEvent::Usage(Usage {
                input_tokens: stats.input,
                output_tokens: stats.output,
                cached_tokens: stats.cached,
                cost_usd: None,
            }));
        }
        let broken = self.broken.take();
        if record.status.as_deref() == Some("success") {
            let detail = broken.clone().unwrap_or_default();
            return sink(AgentEvent::Result { ok: broken.is_none(), detail });
        }
        let message =
            record.error.message.as_deref().or(broken.as_deref()).unwrap_or("an error without words");
        let failure = gemini_error::failure(message);
        if failure.is_limit() {
            sink(AgentEvent::RateLimited { until_ms: failure.until_ms(record.timestamp.as_deref()) });
        }
        let (class, status, detail) = (failure.class, failure.status, failure.message);
        sink(AgentEvent::Error { class, status, message: detail.clone() });
        sink(AgentEvent::Result { ok: false, detail });
    }
}
