//! Plays one step on one connection.
//!
//! What for: this is where a scenario becomes bytes, delays and broken connections. Called by `route`. Must never
//! choose a step itself, and must end when the connection does.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, Ask, Refusal, Reply, Usage, words};
use crate::calls::Calls;
use crate::http::{Sse, wait, write_page, write_partial};
use crate::progress::Turn;
use crate::sample::sample;
use crate::scenario::{RateLimit, Step};
use crate::tools::calls_for;

const USAGE: Usage = Usage { input: 100, output: 10 };
const HTML: &[u8] = b"<html><body>this is not the API you are looking for</body></html>";
const JSON: &str = "application/json";

/// Where and for whom a step is played.
pub(crate) struct Stage<'a> {
    pub(crate) stream: &'a mut TcpStream,
    pub(crate) calls: &'a Calls,
    pub(crate) number: u64,
}

/// How an answer ends before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Hang,
    Drop,
}

/// An answer and its manners.
struct Answer {
    reply: Reply,
    pause: Option<Duration>,
    cut: Option<Cut>,
}

impl Stage<'_> {
    /// Plays the turn; `workdir` is the client's directory if its prompt told it.
    pub(crate) fn play(
        &mut self,
        api: &dyn Api,
        ask: &Ask,
        turn: &Turn,
        workdir: Option<&str>,
    ) -> io::Result<()> {
        if turn.delay > Duration::ZERO {
            wait(self.stream, Some(turn.delay))?;
        }
        match &turn.step {
            Step::Status(status) => self.refuse(api, &refusal(*status, &ask.model)),
            Step::RateLimit(limit) => self.refuse(api, &rate_limit(*limit, &ask.model)),
            Step::Hang => wait(self.stream, None),
            Step::Garbage => {
                self.status(200);
                write_page(self.stream, 200, "text/html", &[], HTML)
            }
            step => {
                let answer = self.answer(step, ask, workdir);
                self.send(api, ask, &answer)
            }
        }
    }

    /// Answers with plain text, for housekeeping calls.
    pub(crate) fn side_call(&mut self, api: &dyn Api, ask: &Ask) -> io::Result<()> {
        let text = ask
            .schema
            .as_ref()
            .map_or_else(|| "Scripted title".to_owned(), |schema| sample(schema).to_string());
        let answer = Answer { reply: self.reply(text), pause: None, cut: None };
        self.send(api, ask, &answer)
    }

    /// Sends an error in the API's own form.
    pub(crate) fn refuse(&mut self, api: &dyn Api, refusal: &Refusal) -> io::Result<()> {
        self.json(refusal.status, &api.refusal_headers(refusal), &api.refusal(refusal))
    }

    /// Sends JSON.
    pub(crate) fn json(&mut self, status: u16, extra: &[(&str, String)], body: &Value) -> io::Result<()> {
        self.status(status);
        write_page(self.stream, status, JSON, extra, body.to_string().as_bytes())
    }

    fn status(&self, status: u16) {
        self.calls.update(self.number, |record| record.status = Some(status));
    }

    fn reply(&self, text: String) -> Reply {
        Reply { number: self.number, text, calls: Vec::new(), usage: USAGE }
    }

    fn answer(&self, step: &Step, ask: &Ask, workdir: Option<&str>) -> Answer {
        let (mut pause, mut cut, mut calls) = (None, None, Vec::new());
        let text = match step {
            Step::Text(text) => text.clone(),
            Step::Json => {
                // OpenCode asks for structured output through a tool of this name.
                let tool = ask.tools.iter().find(|tool| tool.name == "StructuredOutput");
                calls.extend(tool.map(|tool| crate::api::ToolCall {
                    name: tool.name.clone(),
                    arguments: sample(&tool.parameters),
                }));
                if calls.is_empty() {
                    let any = serde_json::json!({ "type": "object" });
                    sample(ask.schema.as_ref().unwrap_or(&any)).to_string()
                } else {
                    String::new()
                }
            }
            Step::Slow { pause: between, text } => {
                pause = Some(*between);
                text.clone()
                    .unwrap_or_else(|| (1..=20).map(|n| format!("word{n}")).collect::<Vec<_>>().join(" "))
            }
            Step::HangStream => {
                cut = Some(Cut::Hang);
                "partial answer then silence".to_owned()
            }
            Step::Drop => {
                cut = Some(Cut::Drop);
                "partial answer then the line drops".to_owned()
            }
            step if step.tool_calls() > 0 => {
                calls = calls_for(step, &ask.tools, workdir);
                if calls.is_empty() {
                    let names: Vec<_> = ask.tools.iter().map(|tool| tool.name.as_str()).collect();
                    format!("SCRIPTED-NO-SUITABLE-TOOL among {}", names.join(" "))
                } else {
                    String::new()
                }
            }
            _ => String::new(),
        };
        Answer { reply: Reply { calls, ..self.reply(text) }, pause, cut }
    }

    fn send(&mut self, api: &dyn Api, ask: &Ask, answer: &Answer) -> io::Result<()> {
        self.status(200);
        if ask.stream { self.send_events(api, ask, answer) } else { self.send_whole(api, ask, answer) }
    }

    fn send_whole(&mut self, api: &dyn Api, ask: &Ask, answer: &Answer) -> io::Result<()> {
        if let Some(pause) = answer.pause {
            let count = u32::try_from(words(&answer.reply.text).len()).unwrap_or(u32::MAX);
            wait(self.stream, Some(pause.saturating_mul(count)))?;
        }
        let body = api.whole(ask, &answer.reply).to_string();
        match answer.cut {
            None => write_page(self.stream, 200, JSON, &[], body.as_bytes()),
            Some(cut) => {
                write_partial(self.stream, JSON, body.as_bytes())?;
                match cut {
                    Cut::Hang => wait(self.stream, None),
                    Cut::Drop => self.drop_line(),
                }
            }
        }
    }

    fn send_events(&mut self, api: &dyn Api, ask: &Ask, answer: &Answer) -> io::Result<()> {
        let mut sse = Sse::start(self.stream)?;
        let mut sent = 0;
        for event in api.events(ask, &answer.reply) {
            if event.word {
                if sent == 2 && answer.cut.is_some() {
                    break;
                }
                if let Some(pause) = answer.pause.filter(|_| sent > 0) {
                    sse.pause(pause)?;
                }
                sent += 1;
            }
            sse.event(event.name, &event.data)?;
        }
        match answer.cut {
            None => sse.end(),
            Some(Cut::Hang) => sse.hang(),
            Some(Cut::Drop) => self.drop_line(),
        }
    }

    /// Closes the connection; the error ends the connection loop.
    fn drop_line(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Both)?;
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// The refusal for a status.
pub(crate) fn refusal(status: u16, model: &str) -> Refusal {
    let (kind, code, message) = match status {
        400 => ("invalid_request_error", None, "Bad request (scripted)".to_owned()),
        401 => ("authentication_error", Some("invalid_api_key"), "Invalid API key (scripted)".to_owned()),
        403 => ("permission_error", None, "Permission denied (scripted)".to_owned()),
        404 => (
            "not_found_error",
            Some("model_not_found"),
            format!("The model `{model}` does not exist or you do not have access to it."),
        ),
        500 => ("api_error", None, "Internal server error (scripted)".to_owned()),
        502 => ("api_error", None, "Bad gateway (scripted)".to_owned()),
        503 => ("api_error", None, "The model is overloaded. Please try again later. (scripted)".to_owned()),
        529 => ("overloaded_error", None, "Overloaded".to_owned()),
        _ => ("api_error", None, format!("Error {status} (scripted)")),
    };
    Refusal { status, message, kind, code, limit: None }
}

fn rate_limit(limit: RateLimit, model: &str) -> Refusal {
    let quota = "You exceeded your current quota, please check your plan and billing details. (scripted)";
    let (kind, code, message) = match limit {
        RateLimit::After(_) => (
            "rate_limit_error",
            "rate_limit_exceeded",
            "Rate limit reached for requests (scripted)".to_owned(),
        ),
        RateLimit::Quota => ("insufficient_quota", "insufficient_quota", quota.to_owned()),
        RateLimit::Plan(_) => (
            "usage_limit_reached",
            "usage_limit_reached",
            "The usage limit has been reached (scripted)".to_owned(),
        ),
        RateLimit::Capacity => {
            let message = format!("No capacity available for model {model} on the server");
            ("rate_limit_error", "rate_limit_exceeded", message)
        }
    };
    Refusal { status: 429, message, kind, code: Some(code), limit: Some(limit) }
}
