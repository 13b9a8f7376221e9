//! Members of an OpenCode server: a session, a prompt, the answer; and what to do when none comes.
//!
//! The server waits for a model for minutes and says nothing about it. So the prompt is sent by one thread, the server's
//! events are read by another, and this one decides: an answer, a failure that the events show early, the deadline, or the
//! caller's wish to stop. Whatever ends it early is followed by an abort, which alone stops the work, and a deletion.
//!
//! Must never: leave work or a session behind.

use super::alone::Wait;
use super::answer::Raw;
use super::place::Place;
use super::routes::nearest;
use super::schema::{CORRECTIONS, correction};
use super::{Failure, Question};
use crate::server::is_connected;
use dx_events::{opencode_error_class, opencode_retry_class};
use dx_jobdir::StateDir;
use dx_opencode::{Client, Event, Message, MessageError, ModelRef, PATIENCE, Prompt, Status, TextPart};
use dx_protocol::{ErrorClass, ReasonCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a wait looks at its deadline and whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);
/// For abort and deletion, whatever the deadline said. What takes longer is left to the cleaner.
const CLEANING: Duration = Duration::from_secs(3);
/// The stream of events comes within this, or the question does without.
const STREAM: Duration = Duration::from_secs(3);
/// After this long without any event a prompt has an assistant's message, or nobody works on it.
const UNTOUCHED: Duration = Duration::from_secs(8);
/// A prompt may take so many times longer to be begun than the session took to be made.
const SLOWNESS: u32 = 8;
/// The server tries again by itself; beyond this attempt it only loses time.
const MOST_ATTEMPTS: u32 = 2;
/// Turns in a row without a word, a tool or a token. Something else than a model makes them, without end.
const MOST_BARREN: usize = 3;

/// Asks, and corrects an answer that does not fit.
pub(super) fn ask(
    client: &Client,
    state: Option<&StateDir>,
    provider: &str,
    model: &str,
    question: &Question<'_>,
) -> Result<Raw, Failure> {
    preflight(client, provider, model, question)?;
    let begun = Instant::now();
    let Place { client, session, is_new, turn: _held, mut open } = Place::find(client, state, question)?;
    let slowness = begun.elapsed() * SLOWNESS;
    let keeps = question.keep.unwrap_or(!is_new);
    let model = ModelRef { provider: provider.to_owned(), model: model.to_owned() };
    let mut raw = Raw::default();
    let asked = converse(&client, &session, &model, question, UNTOUCHED + slowness, &mut raw);
    let until = Instant::now() + CLEANING;
    let left = || until.saturating_duration_since(Instant::now());
    let ended = if asked.is_err() { client.abort(&session, left()) } else { Ok(()) };
    let ended = if keeps { ended } else { ended.and_then(|()| client.delete(&session, left())) };
    if let Err(error) = ended {
        let next = if let Some(open) = &mut open {
            open.leave();
            "is ended when the server answers"
        } else {
            "goes on"
        };
        raw.warnings.push(format!("session {session} could not be ended and {next}: {error}"));
        raw.session = Some(session);
    } else if keeps {
        raw.session = Some(session);
    }
    match asked {
        Ok(()) => Ok(raw),
        Err(mut failure) => {
            // Nobody else would tell of a session that is still there.
            let kept = raw.session.filter(|_| keeps && is_new);
            let kept = kept.map(|session| format!("session {session} is kept"));
            for also in raw.warnings.into_iter().chain(kept) {
                failure.message = format!("{}; {also}", failure.message);
            }
            Err(failure)
        }
    }
}

/// An unknown provider or model would come back as an error without words, or not at all.
fn preflight(client: &Client, provider: &str, model: &str, question: &Question<'_>) -> Result<(), Failure> {
    let offered = client.providers(question.left().min(PATIENCE)).map_err(|error| question.failed(error))?;
    let found = offered.all.iter().find(|entry| entry.id == provider);
    let Some(entry) = found.filter(|entry| is_connected(&offered, &entry.id)) else {
        let what = if found.is_some() { "has no credentials" } else { "is unknown" };
        let message = format!("model provider `{provider}` {what} on {}", client.url());
        let failure = Failure::new(ReasonCode::ProviderNotConnected, message);
        return Err(failure.with(format!("opencode auth login; connected: {}", offered.connected.join(", "))));
    };
    if entry.models.contains_key(model) {
        return Ok(());
    }
    let failure = Failure::new(ReasonCode::ModelNotFound, format!("`{provider}` has no model `{model}`"));
    let names: Vec<String> = entry.models.keys().cloned().collect();
    Err(match nearest(provider, model, &names) {
        Some(near) => {
            failure.with(format!("did you mean {provider}/{near}? dx-runner models --provider {provider}"))
        }
        None => failure,
    })
}

fn converse(
    client: &Client,
    session: &str,
    model: &ModelRef,
    question: &Question<'_>,
    untouched: Duration,
    raw: &mut Raw,
) -> Result<(), Failure> {
    let mut text = question.prompt.to_owned();
    loop {
        let format = question
            .schema
            .map(|schema| json!({ "type": "json_schema", "schema": schema.value, "retryCount": 0 }));
        let prompt = Prompt {
            message: None,
            model,
            agent: None,
            system: question.system,
            format,
            parts: [TextPart::new(&text)],
        };
        let refused = raw.corrections;
        let mut message = Exchange::new(client, session, question, untouched, raw).send(&prompt)?;
        if question.session.is_some() {
            message = own_answer(client, session, question, &text, message)?;
        }
        raw.tokens.0 += message.info.tokens.input as u64;
        raw.tokens.1 += message.info.tokens.output as u64;
        raw.cost = Some(raw.cost.unwrap_or(0.0) + message.info.cost);
        raw.text = message.text();
        let failed = message.info.error.as_ref();
        if let Some(error) = failed.filter(|error| error.name != "StructuredOutputError") {
            return Err(failure_of(error));
        }
        let Some(schema) = question.schema else { return Ok(()) };
        let tried = message.info.structured.is_some() || raw.corrections > refused;
        if !tried && raw.text.trim().is_empty() {
            // No value that does not fit, but nothing at all: to be corrected there is nothing.
            return Ok(());
        }
        let checked = match message.info.structured {
            Some(value) => {
                let problems = schema.problems(&value);
                if problems.is_empty() { Ok(value) } else { Err(problems) }
            }
            None => schema.value_in(&raw.text),
        };
        match checked {
            Ok(value) => {
                raw.structured = Some(value);
                return Ok(());
            }
            Err(problems) if raw.corrections >= CORRECTIONS => {
                return Err(Failure::new(ReasonCode::SchemaMismatch, problems.join("; ")));
            }
            Err(problems) => {
                raw.corrections += 1;
                text = correction(&problems);
            }
        }
    }
}

/// The answer to this prompt. A server gives the session's last answer to everybody who waits, and somebody else may have
/// prompted it, too.
fn own_answer(
    client: &Client,
    session: &str,
    question: &Question<'_>,
    text: &str,
    message: Message,
) -> Result<Message, Failure> {
    let patience = question.left().clamp(GLANCE, PATIENCE);
    let all = client.messages(session, patience).map_err(|error| question.failed(error))?;
    let is_ours = |said: &&Message| said.info.role == "user" && said.text() == text;
    // Something on the server may have changed the words; then there is nothing to tell by.
    let Some(ours) = all.iter().rfind(is_ours).map(|said| said.info.id.clone()) else { return Ok(message) };
    if message.info.parent.as_ref().is_none_or(|parent| *parent == ours) {
        return Ok(message);
    }
    let answers = |said: &Message| said.info.role == "assistant" && said.info.parent.as_ref() == Some(&ours);
    all.into_iter().rfind(answers).ok_or_else(|| {
        let message = format!("another prompt came to session {session}, and the model answered that one");
        Failure::new(ReasonCode::Aborted, message).with("ask again, or in a session of its own")
    })
}

/// What the two threads tell.
enum Told {
    Event(Event),
    Answer(Result<Message, Failure>),
}

/// One prompt and its answer.
struct Exchange<'a> {
    client: &'a Client,
    session: &'a str,
    question: &'a Question<'a>,
    /// How long a prompt may be left alone.
    untouched: Duration,
    raw: &'a mut Raw,
    /// Whether events come.
    hears: bool,
    /// Whether anybody works on the prompt.
    touched: bool,
    /// Whether the model has begun to answer.
    begun: bool,
    barren: usize,
    /// Calls of the tool for structured answers that were refused.
    refused: BTreeSet<String>,
}

impl<'a> Exchange<'a> {
    fn new(
        client: &'a Client,
        session: &'a str,
        question: &'a Question<'a>,
        untouched: Duration,
        raw: &'a mut Raw,
    ) -> Self {
        let refused = BTreeSet::new();
        Self {
            client,
            session,
            question,
            untouched,
            raw,
            hears: false,
            touched: false,
            begun: false,
            barren: 0,
            refused,
        }
    }

    fn send(mut self, prompt: &Prompt<'_>) -> Result<Message, Failure> {
        let (sender, receiver) = channel();
        self.listen(sender.clone());
        self.hear(&receiver)?;
        let body = json!(prompt);
        let (client, session, left) = (self.client.clone(), self.session.to_owned(), self.question.left());
        // Beyond the deadline: that is watched here, and an abort makes the answer come.
        let patience = left + CLEANING;
        std::thread::spawn(move || {
            let _gone = sender
                .send(Told::Answer(client.prompt_json(&session, &body, patience).map_err(Failure::from)));
        });
        let mut wait = Wait::new();
        loop {
            self.go_on()?;
            match receiver.recv_timeout(GLANCE) {
                Ok(Told::Answer(answer)) => return answer,
                Ok(Told::Event(event)) => {
                    wait.hear(&event);
                    self.judge(&event)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new(ReasonCode::Internal, "the threads that asked have failed"));
                }
            }
            if self.hears && !self.touched {
                self.touched = wait.look(self.client, self.session, prompt.parts[0].text, self.untouched)?;
            }
        }
    }

    /// Reads the server's events until the deadline, or until nobody listens.
    fn listen(&self, sender: Sender<Told>) {
        let events = self.client.events(self.question.until);
        std::thread::spawn(move || {
            for event in events {
                if sender.send(Told::Event(event)).is_err() {
                    return;
                }
            }
        });
    }

    /// Waits for the stream, so that nothing of the prompt is missed.
    fn hear(&mut self, receiver: &Receiver<Told>) -> Result<(), Failure> {
        let until = Instant::now() + STREAM;
        while Instant::now() < until {
            self.go_on()?;
            if let Ok(Told::Event(Event::Connected)) = receiver.recv_timeout(GLANCE) {
                self.hears = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), Failure> {
        self.question.still_wanted()?;
        if self.question.left().is_zero() {
            let what = if self.begun {
                "the model had begun to answer"
            } else if self.touched {
                "the prompt was sent, and not a byte of an answer came from the model"
            } else if self.hears {
                let late = self.question.late("the server had not begun to work on the prompt");
                return Err(
                    late.with("look at what the server does and at its log, or allow it more --timeout")
                );
            } else {
                "the server had not answered"
            };
            return Err(self.question.late(what));
        }
        Ok(())
    }

    /// What an event shows; an error when no answer is to be expected any more.
    fn judge(&mut self, event: &Event) -> Result<(), Failure> {
        let Event::Told { kind, properties } = event else {
            if let Event::Lost(_) = event {
                // What happens now is not told.
                self.hears = false;
            }
            return Ok(());
        };
        let info = &properties["info"];
        let ours = |value: &Value| value.as_str() == Some(self.session);
        if !ours(&properties["sessionID"])
            && !ours(&info["sessionID"])
            && !ours(&properties["part"]["sessionID"])
        {
            return Ok(());
        }
        match kind.as_str() {
            "message.updated" if info["role"] == "assistant" => self.touched = true,
            "message.part.updated" => self.judge_part(&properties["part"])?,
            "session.status" => {
                if let Ok(status) = serde_json::from_value::<Status>(properties["status"].clone()) {
                    self.judge_status(&status)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judge_part(&mut self, part: &Value) -> Result<(), Failure> {
        match part["type"].as_str() {
            Some("step-start") => self.begun = true,
            Some("text" | "reasoning") if part["text"].as_str().is_some_and(|text| !text.is_empty()) => {
                self.barren = 0;
            }
            Some("tool") => {
                self.barren = 0;
                let refused = part["tool"] == "StructuredOutput" && part["state"]["status"] == "error";
                let id = part["callID"].as_str().unwrap_or_default();
                if refused && self.refused.insert(id.to_owned()) {
                    if self.raw.corrections >= CORRECTIONS {
                        let why = part["state"]["error"].as_str().unwrap_or("no value fits").to_owned();
                        return Err(Failure::new(ReasonCode::SchemaMismatch, why));
                    }
                    // The server has told the model already.
                    self.raw.corrections += 1;
                }
            }
            Some("step-finish") if part["tokens"]["output"] == 0 && part["reason"] != "stop" => {
                self.barren += 1;
                if self.barren >= MOST_BARREN {
                    let message = "the model's address answers, but not as a model does: turn after turn without a word";
                    return Err(Failure::new(ReasonCode::ServerError, message)
                        .with("check the base URL of the provider in OpenCode's configuration"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn judge_status(&mut self, status: &Status) -> Result<(), Failure> {
        let Status::Retry { attempt, message, next } = status else { return Ok(()) };
        self.raw.retries = self.raw.retries.max(*attempt);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64;
        let too_late = next - now > self.question.left().as_millis() as f64;
        if *attempt < MOST_ATTEMPTS && !too_late {
            return Ok(());
        }
        let class = opencode_retry_class(message);
        let wait = ((next - now) / 1000.0).max(0.0);
        let message = match class {
            ErrorClass::Network if is_no_connection(message) => {
                format!("the prompt never reached a model: {message}")
            }
            ErrorClass::Network => {
                format!("the connection to the model's address broke, again and again: {message}")
            }
            _ => format!("{message} (attempt {attempt}; the server would wait {wait:.0} s)"),
        };
        let failure = Failure::new(reason_of(class), message);
        Err(if class == ErrorClass::Network {
            failure.with("check the base URL of the provider in OpenCode's configuration, and the network")
        } else {
            failure
        })
    }
}

/// Whether there was no connection at all, as the runtime of the server tells it. Of one that broke, nobody knows what came
/// through.
fn is_no_connection(message: &str) -> bool {
    const WORDS: [&str; 6] = [
        "unable to connect",
        "connectionrefused",
        "econnrefused",
        "enotfound",
        "eai_again",
        "failedtoopensocket",
    ];
    let message = message.to_lowercase();
    WORDS.iter().any(|word| message.contains(word))
}

fn reason_of(class: ErrorClass) -> ReasonCode {
    match class {
        ErrorClass::Auth => ReasonCode::AuthMissing,
        ErrorClass::RateLimit | ErrorClass::Quota | ErrorClass::Capacity => ReasonCode::RateLimited,
        ErrorClass::ModelUnavailable => ReasonCode::ModelNotFound,
        ErrorClass::Aborted => ReasonCode::Aborted,
        _ => ReasonCode::ServerError,
    }
}

fn failure_of(error: &MessageError) -> Failure {
    let status = error.status();
    let reason = reason_of(opencode_error_class(&error.name, status, error.message()));
    let status = status.map(|status| format!(" (status {status})")).unwrap_or_default();
    Failure::new(reason, format!("{}: {}{status}", error.name, error.message()))
}
