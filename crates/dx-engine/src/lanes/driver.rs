//! The driver of a session: one prompt, and what the session does, printed as it happens.
//!
//! It is the job's agent as far as the monitor is concerned. It sends the prompt once and never again: when it is killed, the
//! run has ended, and the settler stops what the session still does; it deletes the session in any case.
//!
//! Called by: the hidden entry. Must never: print a password, or go on when its standard output is gone.

use super::events::Told;
use super::{PASSWORD, now, rest};
use dx_opencode::{Client, ClientError, Event, Message, ModelRef, PATIENCE, Prompt, TextPart};
use dx_proc::SignalFd;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// The hidden entry: `dx-runner __session <url> <directory> <provider/model> <title> <agent or ->`.
pub const SESSION: &str = "__session";

/// Limits are the monitor's; this only has to be longer.
const FOR_EVER: Duration = Duration::from_hours(24 * 30);
/// The stream of events comes within this, or the session is looked at when it has ended.
const STREAM: Duration = Duration::from_secs(5);
/// So often the server is asked whether it still works, while it says nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// What the end of a process by a signal looks like.
const ENDED_BY_TERM: i32 = 143;

/// What the threads tell.
enum Heard {
    Event(Event),
    Answer(Result<Message, ClientError>),
    Stop,
}

/// Runs the driver; its exit code.
pub fn session(args: &[OsString]) -> i32 {
    let words: Option<Vec<&str>> = args.iter().map(|word| word.to_str()).collect();
    let Some([url, directory, model, title, agent]) = words.as_deref() else { return 64 };
    let ends = [Signal::TERM, Signal::INT, Signal::HUP].map(Signal::as_raw);
    // Blocked before any thread is there, so that all of them inherit it. It is not taken: when the session rests, the driver
    // ends by it, as an agent does.
    let driven = SignalFd::during(&ends, |signals| {
        let signals = signals.as_fd().try_clone_to_owned();
        signals.map_or(1, |signals| drive([url, directory, model, title, agent], signals))
    });
    driven.unwrap_or(1)
}

fn drive([url, directory, model, title, agent]: [&str; 5], signals: OwnedFd) -> i32 {
    let password = std::env::var(PASSWORD).ok();
    let begun = Client::new(url, password.as_deref())
        .map(|client| client.in_directory(directory))
        .and_then(|client| Ok((client.create_session(title, &[], None, PATIENCE)?.id, client)));
    let (session, client) = match begun {
        Ok(begun) => begun,
        Err(error) => return refused(&Told::new("-"), &error),
    };
    let mut prompt = String::new();
    if std::io::stdin().lock().read_to_string(&mut prompt).is_err() {
        return 1;
    }
    let mut driver = Driver {
        told: Told::new(&session),
        client,
        session,
        hears: false,
        status: Value::Null,
        told_at: Instant::now(),
    };
    let (sender, receiver) = channel();
    driver.listen(&sender, signals);
    driver.hear(&receiver);
    let (provider, name) = model.split_once('/').unwrap_or((model, ""));
    let model = ModelRef { provider: provider.to_owned(), model: name.to_owned() };
    let agent = Some(agent).filter(|agent| *agent != "-");
    let parts = [TextPart::new(&prompt)];
    let body = json!(Prompt { message: None, model: &model, agent, system: None, format: None, parts });
    driver.send(body, sender);
    driver.follow(&receiver)
}

struct Driver {
    client: Client,
    session: String,
    told: Told,
    /// Whether events come.
    hears: bool,
    /// What the server last said that the session does.
    status: Value,
    /// When the session, or the server about it, last said something. The server has more to say, of itself and of others.
    told_at: Instant,
}

impl Driver {
    fn listen(&self, sender: &Sender<Heard>, signals: OwnedFd) {
        let (events, theirs) = (self.client.events(Instant::now() + FOR_EVER), sender.clone());
        std::thread::spawn(move || {
            for event in events {
                if theirs.send(Heard::Event(event)).is_err() {
                    return;
                }
            }
        });
        let theirs = sender.clone();
        std::thread::spawn(move || {
            if dx_proc::poll::poll(&[signals.as_fd()], None).is_ok() {
                let _gone = theirs.send(Heard::Stop);
            }
        });
    }

    /// Waits for the stream, so that nothing is missed.
    fn hear(&mut self, receiver: &Receiver<Heard>) {
        let until = Instant::now() + STREAM;
        while !self.hears && Instant::now() < until {
            if let Ok(Heard::Event(Event::Connected)) = receiver.recv_timeout(STREAM) {
                self.hears = true;
            }
        }
    }

    fn send(&self, body: Value, sender: Sender<Heard>) {
        let (client, session) = (self.client.clone(), self.session.clone());
        std::thread::spawn(move || {
            let _gone = sender.send(Heard::Answer(client.prompt_json(&session, &body, FOR_EVER)));
        });
    }

    fn follow(&mut self, receiver: &Receiver<Heard>) -> i32 {
        loop {
            let well = match receiver.recv_timeout(SILENCE.saturating_sub(self.told_at.elapsed())) {
                Ok(Heard::Event(Event::Told { kind, properties })) => self.event(&kind, &properties),
                Ok(Heard::Event(_)) => true,
                Ok(Heard::Stop) => {
                    rest(&self.client, &self.session);
                    return ENDED_BY_TERM;
                }
                Ok(Heard::Answer(answer)) => return self.answered(answer),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return 1,
            };
            if !well {
                // Nobody keeps a record any more.
                rest(&self.client, &self.session);
                return 1;
            }
        }
    }

    fn event(&mut self, kind: &str, properties: &Value) -> bool {
        let ours = properties["sessionID"] == self.session.as_str();
        match kind {
            "message.part.updated" => match self.told.part(&properties["part"], now()) {
                Some(line) => self.tell(&line),
                None => true,
            },
            // The server says it again with each turn.
            "session.status" if ours && properties["status"] != self.status => {
                self.tell_status(properties["status"].clone())
            }
            "permission.asked" if ours => {
                self.reject(properties);
                true
            }
            _ => true,
        }
    }

    fn tell(&mut self, line: &Value) -> bool {
        self.told_at = Instant::now();
        print(line)
    }

    fn tell_status(&mut self, status: Value) -> bool {
        let line = self.told.line("session_status", now(), "status", &status);
        self.status = status;
        self.tell(&line)
    }

    /// There is nobody to ask: refused, and told in the words of `opencode run`.
    fn reject(&self, asked: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let patterns: Vec<String> = asked["patterns"].as_array().into_iter().flatten().map(text).collect();
        let what = format!("{} ({})", text(&asked["permission"]), patterns.join(", "));
        let _told = writeln!(std::io::stderr(), "! permission requested: {what}; auto-rejecting");
        // When it fails the session waits on, which is seen as a stall.
        let _rejected = self.client.reject(&text(&asked["id"]), PATIENCE);
    }

    /// A sign of life while the session says nothing, as the server tells it. Whatever comes of it, the next look is later.
    fn look(&mut self) -> bool {
        self.told_at = Instant::now();
        let Ok(mut statuses) = self.client.raw_statuses(PATIENCE) else { return true };
        let status = statuses[&self.session].take();
        // A wait that was told is known until it is over.
        let known = status["type"] == "retry" && status == self.status;
        known || status.is_null() || self.tell_status(status)
    }

    fn answered(&mut self, answer: Result<Message, ClientError>) -> i32 {
        let message = match answer {
            Ok(message) => message,
            Err(error) => return refused(&self.told, &error),
        };
        // Whatever the stream has not told yet, or lost.
        for message in self.client.raw_messages(&self.session, PATIENCE).unwrap_or_default() {
            for part in message["parts"].as_array().into_iter().flatten() {
                if let Some(line) = self.told.part(part, now()) {
                    print(&line);
                }
            }
        }
        match message.info.error {
            None => 0,
            Some(error) => {
                print(&self.told.error(&json!({ "name": error.name, "data": error.data }), now()));
                1
            }
        }
    }
}

/// A call that failed, as an agent's own error.
fn refused(told: &Told, error: &ClientError) -> i32 {
    let name = match error {
        ClientError::Refused { name, .. } => name.as_str(),
        _ if error.is_unreachable() => dx_events::SERVER_LOST,
        _ => "ServerAnswer",
    };
    let message = if error.is_unreachable() {
        format!("the OpenCode server is gone: {error}")
    } else {
        error.to_string()
    };
    print(&told.error(&json!({ "name": name, "data": { "message": message } }), now()));
    1
}

/// Whether somebody still takes it.
fn print(line: &Value) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
