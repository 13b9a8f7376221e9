//! A tiny coding agent, for the demo on machines without a real one.
//!
//! What for: shows a whole job without installing anything. Called by `dx-runner demo`, with a [`crate::ScriptedModel`]
//! as its model. Must never talk to anything but loopback, never run a command and never write outside its worktree.

mod client;
mod files;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// How long one model call may take.
const CALL_DEADLINE: Duration = Duration::from_mins(1);
/// How many model calls one run may take.
const MAX_CALLS: usize = 50;
/// How much of a file the model gets to read.
const READ_LIMIT: u64 = 256 * 1024;

/// Why the agent gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The address is not plain HTTP on loopback.
    #[error("`{0}` is not an http address on loopback")]
    Address(String),
    /// The connection failed.
    #[error("no answer from the model")]
    Connection(#[source] std::io::Error),
    /// The model took too long.
    #[error("the model did not answer within {0:?}")]
    Deadline(Duration),
    /// The model answered with an error status.
    #[error("the model refused with status {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the model said.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("the model's answer is not understood: {0}")]
    Answer(String),
    /// The model goes on and on.
    #[error("the model did not finish within {MAX_CALLS} calls")]
    Endless,
    /// A line could not be written to the output.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

/// Runs until the model answers with text, doing the writes and reads it asks for below `worktree`.
///
/// Every step is a line on `out`. A call that is refused (a path outside the worktree) is told to the model and
/// printed; it is no error, as it is none for real agents.
pub fn run(
    base_url: &str,
    model: &str,
    prompt: &str,
    worktree: &Path,
    out: &mut dyn Write,
) -> Result<(), AgentError> {
    run_within(base_url, model, prompt, worktree, out, CALL_DEADLINE)
}

fn run_within(
    base_url: &str,
    model: &str,
    prompt: &str,
    worktree: &Path,
    out: &mut dyn Write,
    deadline: Duration,
) -> Result<(), AgentError> {
    let client = client::Client::new(base_url, deadline)?;
    let mut messages = vec![
        json!({ "role": "system", "content": "You are a coding agent. Paths are relative to the work tree." }),
        json!({ "role": "user", "content": prompt }),
    ];
    say(out, &format!("demo agent: asking {model}"))?;
    for _ in 0..MAX_CALLS {
        let body = json!({ "model": model, "stream": false, "messages": messages, "tools": tools() });
        let raw: Value = client.post("/chat/completions", &body)?;
        let answer = Answer::deserialize(&raw).map_err(|error| AgentError::Answer(error.to_string()))?;
        let Some(choice) = answer.choices.into_iter().next() else {
            return Err(AgentError::Answer("no choice in it".to_owned()));
        };
        if choice.message.tool_calls.is_empty() {
            say(out, &format!("model: {}", choice.message.content.unwrap_or_default()))?;
            return Ok(());
        }
        messages.push(raw["choices"][0]["message"].clone());
        for call in choice.message.tool_calls {
            let (line, result) = execute(worktree, &call.function);
            say(out, &line)?;
            messages.push(json!({ "role": "tool", "tool_call_id": call.id, "content": result }));
        }
    }
    Err(AgentError::Endless)
}

fn tools() -> Value {
    let path = json!({ "type": "string", "description": "path relative to the work tree" });
    json!([
        { "type": "function", "function": { "name": "write", "description": "Writes a whole file.", "parameters": {
            "type": "object", "required": ["path", "content"],
            "properties": { "path": path, "content": { "type": "string" } } } } },
        { "type": "function", "function": { "name": "read", "description": "Reads a whole file.", "parameters": {
            "type": "object", "required": ["path"], "properties": { "path": path } } } },
    ])
}

/// Does a call; gives the line for people and the result for the model.
fn execute(worktree: &Path, function: &Function) -> (String, String) {
    let arguments: Value = serde_json::from_str(&function.arguments).unwrap_or_default();
    let path = arguments["path"].as_str().unwrap_or_default();
    let outcome = match (function.name.as_str(), arguments["content"].as_str()) {
        ("write", Some(content)) => files::write(worktree, path, content.as_bytes())
            .map(|()| (format!("wrote {path} ({} bytes)", content.len()), "Wrote the file.".to_owned())),
        ("read", _) => files::read(worktree, path, READ_LIMIT)
            .map(|text| (format!("read {path} ({} bytes)", text.len()), text)),
        ("write", None) => Err(files::FileError::Refused("it has no content")),
        _ => Err(files::FileError::Refused("there is no such tool")),
    };
    outcome.unwrap_or_else(|error| (format!("{} {path}: {error}", function.name), format!("Error: {error}")))
}

/// Writes lines without the control characters a model may have put into them.
fn say(out: &mut dyn Write, text: &str) -> Result<(), AgentError> {
    let clean: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    writeln!(out, "{clean}").and_then(|()| out.flush()).map_err(AgentError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scenario, ScriptedModel, Step};

    #[test]
    fn a_deadline_ends_a_hanging_call() {
        let model = ScriptedModel::start(Scenario::hang()).unwrap();
        let mut out = Vec::new();
        let limit = Duration::from_millis(200);
        let error = run_within(&model.base_url(), "m1", "go", Path::new("/nonexistent"), &mut out, limit)
            .unwrap_err();
        assert!(matches!(error, AgentError::Deadline(_)), "{error:?}");
    }

    #[test]
    fn an_endless_model_is_left() {
        let model = ScriptedModel::start(Scenario::step(Step::Read("x".into()))).unwrap();
        let error =
            run(&model.base_url(), "m1", "go", Path::new("/nonexistent"), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, AgentError::Endless), "{error:?}");
    }

    #[test]
    fn only_loopback_is_called() {
        for url in [
            "https://127.0.0.1:1/v1",
            "http://192.0.2.1:1/v1",
            "http://example.org/v1",
            "http://127.0.0.1/v1",
        ] {
            let error = run(url, "m1", "go", Path::new("/"), &mut Vec::new()).unwrap_err();
            assert!(matches!(error, AgentError::Address(_)), "{url}: {error:?}");
        }
    }
}
