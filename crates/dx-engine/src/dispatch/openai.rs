//! Members of OpenAI-compatible endpoints: one call of `/chat/completions`, one more when the rate was too high.
//!
//! Must never: show a key, or send one to another address than the configured one.

use super::answer::Raw;
use super::schema::{CORRECTIONS, correction};
use super::{Failure, Question};
use crate::Engine;
use crate::error::EngineError;
use crate::secrets;
use crate::settings::ENDPOINTS;
use dx_opencode::{Answer, Http, HttpError};
use dx_protocol::ReasonCode;
use serde_json::{Value, json};
use std::sync::mpsc;
use std::time::Duration;

/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);
/// Before the one retry, when the endpoint does not say how long.
const RETRY: Duration = Duration::from_secs(2);

/// An endpoint of the configuration.
pub(super) struct Endpoint {
    http: Http,
    name: String,
}

impl Engine {
    /// The endpoint of this name: `endpoints` in the configuration.
    pub(super) fn endpoint(&self, name: &str) -> Result<Endpoint, Failure> {
        let entries = self.endpoints()?;
        if let Some(entry) = entries.iter().find(|entry| entry.name == name) {
            let auth = entry.variable.as_deref().map(key).transpose()?;
            let http =
                Http::new(&entry.url, auth).map_err(|error| EngineError::Argument(error.to_string()))?;
            return Ok(Endpoint { http, name: name.to_owned() });
        }
        let failure =
            Failure::new(ReasonCode::ProviderNotConnected, format!("there is no endpoint `{name}`"));
        Err(failure.with(if entries.is_empty() {
            "add NAME=URL to `endpoints` in your configuration".to_owned()
        } else {
            let known: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
            format!("one of {}", known.join(", "))
        }))
    }

    /// What the configuration says of endpoints.
    fn endpoints(&self) -> Result<Vec<Entry>, EngineError> {
        let layers = self.layers(None, None)?;
        let entries = layers.list(&ENDPOINTS)?;
        let read = |entry: &String| {
            Entry::read(entry).ok_or_else(|| {
                let why = format!("has `{entry}`, which is not NAME=URL or NAME=URL VARIABLE");
                layers.wrong(&ENDPOINTS, why).into()
            })
        };
        entries.iter().map(read).collect()
    }

    /// The variables that hold the keys of endpoints.
    pub fn endpoint_variables(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.endpoints()?.into_iter().filter_map(|entry| entry.variable).collect())
    }
}

/// One entry of `endpoints`: NAME=URL, and perhaps the name of the variable with the key behind a blank.
struct Entry {
    name: String,
    url: String,
    variable: Option<String>,
}

impl Entry {
    fn read(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('=')?;
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (url, variable) = (words.next()?, words.next());
        words.next().is_none().then(|| Self { name: name.trim().to_owned(), url, variable })
    }
}

fn key(variable: &str) -> Result<String, Failure> {
    // Written to a file and read from it, a key often has a line's end.
    let value = std::env::var(variable).ok().map(|value| value.trim().to_owned());
    let value = value.filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| {
        Failure::new(ReasonCode::AuthMissing, format!("variable {variable} is not set"))
            .with(format!("set {variable} to the endpoint's key"))
    })?;
    secrets::also(&[value.clone().into_bytes()]);
    Ok(format!("Bearer {value}"))
}

/// Asks, and corrects an answer that does not fit.
pub(super) fn ask(endpoint: &Endpoint, model: &str, question: &Question<'_>) -> Result<Raw, Failure> {
    let mut messages: Vec<Value> = Vec::new();
    messages.extend(question.system.map(|system| json!({ "role": "system", "content": system })));
    messages.push(json!({ "role": "user", "content": question.prompt }));
    let mut raw = Raw::default();
    loop {
        let mut body = json!({ "model": model, "messages": messages, "stream": false });
        if let Some(schema) = question.schema {
            let named = json!({ "name": "answer", "schema": schema.value });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": named });
        }
        let answer = call(endpoint, &body, question, &mut raw)?;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        raw.tokens.0 += answer["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
        raw.tokens.1 += answer["usage"]["completion_tokens"].as_u64().unwrap_or(0);
        text.clone_into(&mut raw.text);
        raw.warnings.clear();
        if answer["choices"][0]["finish_reason"] == "length" {
            raw.warnings.push("the endpoint cut the answer off: its length reached a limit".to_owned());
        }
        let Some(schema) = question.schema else { return Ok(raw) };
        match schema.value_in(text) {
            Ok(value) => {
                raw.structured = Some(value);
                return Ok(raw);
            }
            Err(_) if text.trim().is_empty() => return Ok(raw),
            Err(problems) if raw.corrections >= CORRECTIONS => {
                return Err(Failure::new(ReasonCode::SchemaMismatch, problems.join("; ")));
            }
            Err(problems) => {
                raw.corrections += 1;
                messages.push(json!({ "role": "assistant", "content": text }));
                messages.push(json!({ "role": "user", "content": correction(&problems) }));
            }
        }
    }
}

/// One call, and another one when the rate was too high.
fn call(endpoint: &Endpoint, body: &Value, question: &Question<'_>, raw: &mut Raw) -> Result<Value, Failure> {
    loop {
        let answer = wait(endpoint, body, question)?;
        let pause = answer.retry_after.unwrap_or(RETRY);
        if answer.status == 429 && raw.retries == 0 && pause < question.left() {
            raw.retries += 1;
            let until = std::time::Instant::now() + pause;
            while std::time::Instant::now() < until {
                question.still_wanted()?;
                std::thread::sleep(GLANCE);
            }
            continue;
        }
        return judged(endpoint, &answer);
    }
}

/// The call is in a thread of its own, so that giving up needs no answer. Its deadline ends it.
fn wait(endpoint: &Endpoint, body: &Value, question: &Question<'_>) -> Result<Answer, Failure> {
    let (sender, receiver) = mpsc::channel();
    let (http, body, left) = (endpoint.http.clone(), body.clone(), question.left());
    std::thread::spawn(move || {
        let _gone = sender.send(http.call("POST", "/chat/completions", Some(&body), left));
    });
    loop {
        question.still_wanted()?;
        match receiver.recv_timeout(GLANCE) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(HttpError::Deadline(_))) => {
                return Err(question.late(&format!("the endpoint {} did not answer", endpoint.name)));
            }
            Ok(Err(error)) => {
                let failure =
                    Failure::new(ReasonCode::ServerError, format!("{}: {error}", endpoint.http.base()));
                return Err(match error {
                    HttpError::Unreachable(_) => failure.with(format!(
                        "check the address of endpoint {}, and whether it runs",
                        endpoint.name
                    )),
                    _ => failure,
                });
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(ReasonCode::Internal, "the thread that asked has failed"));
            }
        }
    }
}

fn judged(endpoint: &Endpoint, answer: &Answer) -> Result<Value, Failure> {
    let body = answer.json();
    let said = body.as_ref().and_then(|body| body["error"]["message"].as_str()).unwrap_or("no message");
    let reason = match answer.status {
        200..300 => {
            return body.clone().filter(|body| body["choices"].is_array()).ok_or_else(|| {
                let base = endpoint.http.base();
                let message = format!("{base} answers, but not as a model does: {said}");
                Failure::new(ReasonCode::ServerError, message)
            });
        }
        401 | 403 => ReasonCode::AuthMissing,
        404 => ReasonCode::ModelNotFound,
        429 => ReasonCode::RateLimited,
        _ => ReasonCode::ServerError,
    };
    let failure = Failure::new(reason, format!("status {}: {said}", answer.status));
    Err(match reason {
        ReasonCode::AuthMissing => failure.with(format!("check the key of endpoint {}", endpoint.name)),
        _ => failure,
    })
}
