//! From a request to the step that answers it.
//!
//! What for: finds the API, the scenario (URL, then the prompt's directive, then its words, then the server's own) and the step. Called by `server`
//! for each request. Must never let a housekeeping call of the client use up a step.

use std::borrow::Cow;
use std::io;

use serde_json::{Value, json};

use crate::api::{self, Api, Ask};
use crate::calls::{CallRecord, Calls};
use crate::hold::Hold;
use crate::http::Request;
use crate::percent;
use crate::play::{Stage, refusal};
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::workdir;

/// Words after this are looked for in what tools gave back.
const READ: &str = "read:";

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Words of a prompt, and what is played for it.
    pub(crate) by_prompt: Vec<(String, Scenario)>,
    pub(crate) default: Scenario,
    pub(crate) calls: Calls,
    pub(crate) progress: Progress,
    pub(crate) hold: Hold,
}

impl Shared {
    /// Answers one request; an error means that the connection is gone.
    pub(crate) fn answer(&self, stream: &mut std::net::TcpStream, request: &Request) -> io::Result<()> {
        let target = request.target.split('?').next().unwrap_or_default();
        let (plain, target) = match target.strip_prefix("/plain") {
            Some(rest) => (true, rest),
            None => (false, target),
        };
        let (prefix, path) = split_prefix(target);
        let found = if request.method == "POST" { api::for_path(path) } else { None };
        let mut record = CallRecord {
            method: request.method.clone(),
            path: request.target.clone(),
            ..CallRecord::default()
        };
        let Some(api) = found else {
            let number = self.calls.add(record);
            let mut stage = Stage { stream, calls: &self.calls, number };
            return self.finish(number, other(&mut stage, &request.method, path));
        };
        let body = serde_json::from_slice::<Value>(&request.body);
        let ask = body.as_ref().map(|body| api.ask(path, body)).unwrap_or_default();
        fill(&mut record, api, &ask);
        record.side_call &= !plain;
        let planned = match body {
            Err(_) => Err("scripted model: the body is not JSON".to_owned()),
            Ok(_) if record.side_call => Ok(None),
            Ok(_) => self.turn(prefix, &ask).map(Some).map_err(|error| format!("scripted model: {error}")),
        };
        if let Ok(Some((turn, _))) = &planned {
            record.step = turn.step.to_string();
        }
        let number = self.calls.add(record);
        let mut stage = Stage { stream, calls: &self.calls, number };
        let result = match planned {
            Err(message) => stage.refuse(api, &crate::api::Refusal { message, ..refusal(400, &ask.model) }),
            Ok(None) => stage.side_call(api, &ask),
            Ok(Some((turn, workdir))) => {
                self.hold.pass(stage.stream).and_then(|()| stage.play(api, &ask, &turn, workdir.as_deref()))
            }
        };
        self.finish(number, result)
    }

    fn turn(
        &self,
        prefix: Option<&str>,
        ask: &Ask,
    ) -> Result<(crate::progress::Turn, Option<String>), crate::scenario::ScenarioError> {
        let scenario = match prefix {
            Some(encoded) => Cow::Owned(percent::decode(encoded).parse()?),
            None => match ask.users.iter().rev().find_map(|text| directive(text)) {
                Some(text) => Cow::Owned(text.parse()?),
                None => Cow::Borrowed(self.by_words(ask)),
            },
        };
        let workdir = workdir::find(&ask.text);
        let first = ask.users.first().map(String::as_str).unwrap_or_default();
        let conversation = [first, workdir.as_deref().unwrap_or_default()];
        let turn = self.progress.next(&scenario, &conversation, ask.tool_results);
        Ok((turn, workdir))
    }

    fn by_words(&self, ask: &Ask) -> &Scenario {
        let fits = |words: &str| match words.strip_prefix(READ) {
            Some(words) => ask.read.contains(words),
            None => ask.users.iter().any(|text| text.contains(words)),
        };
        let found = self.by_prompt.iter().find(|(words, _)| fits(words));
        found.map_or(&self.default, |(_, scenario)| scenario)
    }

    fn finish(&self, number: u64, result: io::Result<()>) -> io::Result<()> {
        self.calls.update(number, |record| {
            record.done = true;
            // A dropped line is the server's own doing.
            record.client_gone = result.is_err() && record.step != "drop";
        });
        result
    }
}

/// So much of a request is kept as text.
const MOST_TEXT: usize = 64 << 10;

fn fill(record: &mut CallRecord, api: &dyn Api, ask: &Ask) {
    record.api = Some(api.name());
    record.model.clone_from(&ask.model);
    record.has_tools = !ask.tools.is_empty();
    record.side_call = ask.tools.is_empty();
    record.stream = ask.stream;
    record.tool_results = ask.tool_results;
    record.after_tool_result = ask.after_tool_result;
    record.prompt = ask.users.last().map(String::as_str).unwrap_or_default().into();
    let end = (0..=ask.text.len().min(MOST_TEXT)).rev().find(|at| ask.text.is_char_boundary(*at));
    record.text = ask.text[..end.unwrap_or(0)].into();
}

/// Everything that is not a model call.
fn other(stage: &mut Stage<'_>, method: &str, path: &str) -> io::Result<()> {
    if method == "GET" && path.trim_end_matches('/').ends_with("/models") {
        let model = |id: &str| json!({ "id": id, "object": "model", "created": 0, "owned_by": "scripted" });
        return stage.json(200, &[], &json!({ "object": "list", "data": [model("m1"), model("m2")] }));
    }
    if let Some(answer) = api::without_model(path).filter(|_| method == "POST") {
        return stage.json(200, &[], &answer);
    }
    let message = format!("scripted model: nothing is served at {method} {path}");
    stage.json(404, &[], &json!({ "error": { "message": message } }))
}

/// `/s/SCENARIO/v1/...` as the encoded scenario and the rest.
fn split_prefix(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/s/") else { return (None, path) };
    match rest.find('/') {
        Some(at) => (Some(&rest[..at]), &rest[at..]),
        None => (Some(rest), "/"),
    }
}

/// The last `[[mock:...]]` in a text; brackets that close inside belong to the scenario.
fn directive(text: &str) -> Option<&str> {
    let start = text.rfind("[[mock:")? + "[[mock:".len();
    let rest = &text[start..];
    // `]]]` holds two closing pairs: the scenario keeps the first bracket.
    let end = rest
        .as_bytes()
        .windows(2)
        .enumerate()
        .position(|(at, pair)| pair == b"]]" && rest.as_bytes().get(at + 2) != Some(&b']'))?;
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_directives() {
        assert_eq!(split_prefix("/s/401/v1/models"), (Some("401"), "/v1/models"));
        assert_eq!(split_prefix("/v1/models"), (None, "/v1/models"));
        assert_eq!(directive("go [[mock:text:A]] or [[mock:text:B]] now"), Some("text:B"));
        assert_eq!(directive("[[mock:tool:t:[[1]]]]"), Some("tool:t:[[1]]"));
        assert_eq!(directive("[[mock:tool:t:[1]]]"), Some("tool:t:[1]"));
        assert_eq!(directive("[[mock:open"), None);
    }
}
