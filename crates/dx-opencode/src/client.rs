//! The calls of the 1.x API that are used here.
//!
//! Called by: `dx-engine`. Must never: make a call without a deadline, or take a page for an answer.

use crate::error::ClientError;
use crate::events::Events;
use crate::http::{Answer, Http, HttpError, basic};
use crate::types::{AgentEntry, Health, Message, Permission, Prompt, Providers, Session, Status};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The deadline of calls that ask no model. A first call in a directory sets up a project there.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The user that OpenCode has when only a password is set.
const USER: &str = "opencode";
/// So much of a body that cannot be read is shown.
const SHOWN: usize = 200;
/// Without a number a server lists a hundred.
const MOST_SESSIONS: usize = 100_000;

/// One server, and the directory whose project is meant.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
    has_password: bool,
    directory: Option<String>,
    /// `?directory=…`, or nothing.
    query: String,
}

impl Client {
    /// Makes no call.
    pub fn new(url: &str, password: Option<&str>) -> Result<Self, ClientError> {
        let http = Http::new(url, password.map(|password| basic(USER, password)))
            .map_err(|source| ClientError::Http { url: url.to_owned(), source })?;
        Ok(Self { http, has_password: password.is_some(), directory: None, query: String::new() })
    }

    /// The same server for a directory on its machine.
    pub fn in_directory(&self, directory: &str) -> Self {
        let query = format!("?directory={}", quoted(directory));
        Self { directory: Some(directory.to_owned()), query, ..self.clone() }
    }

    /// The directory that is meant, when it is not the server's own.
    pub fn directory(&self) -> Option<&str> {
        self.directory.as_deref()
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.http.base()
    }

    /// Whether a server of the 1.x API is there and well. Finds out what else it is.
    pub fn health(&self, deadline: Duration) -> Result<Health, ClientError> {
        let until = Instant::now() + deadline;
        let answer = self.raw("GET", "/global/health", None, deadline)?;
        let health = answer.json().and_then(|body| serde_json::from_value::<Health>(body).ok());
        match health {
            Some(health) if major(&health.version) >= 2 => {
                Err(ClientError::Api2 { url: self.url().to_owned(), version: health.version })
            }
            Some(health) if answer.status == 200 && health.healthy => Ok(health),
            Some(_) => Err(ClientError::Unhealthy { url: self.url().to_owned() }),
            None => Err(self.stranger(&answer, until.saturating_duration_since(Instant::now()))),
        }
    }

    /// What it is that does not know `/global/health`.
    fn stranger(&self, answer: &Answer, deadline: Duration) -> ClientError {
        let url = self.url().to_owned();
        if answer.status >= 500 {
            return ClientError::Unhealthy { url };
        }
        // The API of 2.x has everything below `/api`, and its page for everything else.
        let info = self.raw("GET", "/api/info", None, deadline).ok().and_then(|info| info.json());
        let version =
            info.as_ref().and_then(|info| info["version"].as_str().or(info["data"]["version"].as_str()));
        if let Some(version) = version.filter(|version| major(version) >= 2) {
            return ClientError::Api2 { url, version: version.to_owned() };
        }
        ClientError::NotOpencode { url, found: format!("status {}, {}", answer.status, shown(&answer.body)) }
    }

    /// Model providers and their models, as the directory's project has them.
    pub fn providers(&self, deadline: Duration) -> Result<Providers, ClientError> {
        self.get("list its model providers", "/provider", deadline)
    }

    /// The agents of the directory's project.
    pub fn agents(&self, deadline: Duration) -> Result<Vec<AgentEntry>, ClientError> {
        self.get("list its agents", "/agent", deadline)
    }

    /// Sessions of the directory's project, at most the hundred that were changed last.
    pub fn sessions(&self, deadline: Duration) -> Result<Vec<Session>, ClientError> {
        self.get("list its sessions", "/session", deadline)
    }

    /// All sessions of the directory's project with this title.
    pub fn sessions_titled(&self, title: &str, deadline: Duration) -> Result<Vec<Session>, ClientError> {
        let sign = if self.query.is_empty() { '?' } else { '&' };
        let path = format!("/session{}{sign}search={}&limit={MOST_SESSIONS}", self.query, quoted(title));
        let what = "list its sessions";
        let mut found: Vec<Session> = read(what, &self.raw("GET", &path, None, deadline)?)?;
        found.retain(|session| session.title == title);
        Ok(found)
    }

    /// Sessions of all directories, those of subagents too, that were changed since then (milliseconds since 1970).
    pub fn sessions_everywhere(&self, since: u64, deadline: Duration) -> Result<Vec<Session>, ClientError> {
        let path = format!("/experimental/session?start={since}&limit={MOST_SESSIONS}");
        read("list its sessions", &self.raw("GET", &path, None, deadline)?)
    }

    /// A new session. Its title is given, so that no model is asked for one; `mark`, a name and its value, comes back with
    /// the session.
    pub fn create_session(
        &self,
        title: &str,
        permissions: &[Permission],
        mark: Option<(&str, &str)>,
        deadline: Duration,
    ) -> Result<Session, ClientError> {
        let mut body = json!({ "title": title });
        if !permissions.is_empty() {
            body["permission"] = json!(permissions);
        }
        if let Some((name, value)) = mark {
            body["metadata"] = json!({ name: value });
        }
        self.post("make a session", "/session", &body, deadline)
    }

    /// A session that is there already.
    pub fn session(&self, id: &str, deadline: Duration) -> Result<Session, ClientError> {
        self.get("show a session", &format!("/session/{}", segment(id)), deadline)
    }

    /// Sends a prompt and waits for the answer, which may be a model's failure (`info.error`). Dropping the connection does
    /// not stop the work: whoever gives up calls [`Client::abort`].
    pub fn prompt(
        &self,
        session: &str,
        prompt: &Prompt<'_>,
        deadline: Duration,
    ) -> Result<Message, ClientError> {
        self.prompt_json(session, &json!(prompt), deadline)
    }

    /// The same with a [`Prompt`] that is JSON already, for threads.
    pub fn prompt_json(
        &self,
        session: &str,
        prompt: &Value,
        deadline: Duration,
    ) -> Result<Message, ClientError> {
        let path = format!("/session/{}/message", segment(session));
        self.post("answer a prompt", &path, prompt, deadline)
    }

    /// Sends a prompt and does not wait.
    pub fn prompt_async(
        &self,
        session: &str,
        prompt: &Prompt<'_>,
        deadline: Duration,
    ) -> Result<(), ClientError> {
        let what = "take a prompt";
        let path = format!("/session/{}/prompt_async{}", segment(session), self.query);
        let answer = self.raw("POST", &path, Some(&json!(prompt)), deadline)?;
        if answer.status == 204 { Ok(()) } else { Err(refusal(what, &answer)) }
    }

    /// Messages of a session, the oldest first.
    pub fn messages(&self, session: &str, deadline: Duration) -> Result<Vec<Message>, ClientError> {
        self.get("show messages", &format!("/session/{}/message", segment(session)), deadline)
    }

    /// What the directory's sessions do; those that do nothing are not listed.
    pub fn statuses(&self, deadline: Duration) -> Result<BTreeMap<String, Status>, ClientError> {
        self.get("tell what sessions do", "/session/status", deadline)
    }

    /// Stops a session's work, its tools too. The only thing that does.
    pub fn abort(&self, session: &str, deadline: Duration) -> Result<(), ClientError> {
        let path = format!("/session/{}/abort", segment(session));
        self.post::<Value>("abort a session", &path, &json!({}), deadline).map(drop)
    }

    /// Deletes a session. One that works goes on working: abort it first.
    pub fn delete(&self, session: &str, deadline: Duration) -> Result<(), ClientError> {
        let path = format!("/session/{}{}", segment(session), self.query);
        let answer = self.raw("DELETE", &path, None, deadline)?;
        match answer.status {
            200 | 204 | 404 => Ok(()),
            _ => Err(refusal("delete a session", &answer)),
        }
    }

    /// Lets go of what the server holds for the directory: watches, language servers, tools. Its sessions stay; one that
    /// works is aborted. Whoever asks there next has it set up again.
    pub fn dispose(&self, deadline: Duration) -> Result<(), ClientError> {
        self.post::<Value>("let go of a directory", "/instance/dispose", &json!({}), deadline).map(drop)
    }

    /// The same as the server has them.
    pub fn raw_messages(&self, session: &str, deadline: Duration) -> Result<Vec<Value>, ClientError> {
        self.get("show messages", &format!("/session/{}/message", segment(session)), deadline)
    }

    /// What the directory's sessions do, as the server has it.
    pub fn raw_statuses(&self, deadline: Duration) -> Result<Value, ClientError> {
        self.get("tell what sessions do", "/session/status", deadline)
    }

    /// Refuses what a session asks to be allowed.
    pub fn reject(&self, permission: &str, deadline: Duration) -> Result<(), ClientError> {
        let path = format!("/permission/{}/reply", segment(permission));
        self.post::<Value>("refuse a permission", &path, &json!({ "reply": "reject" }), deadline).map(drop)
    }

    /// What happens in the directory's project, from now on.
    pub fn events(&self, until: Instant) -> Events {
        Events::new(self.http.clone(), format!("/event{}", self.query), until)
    }

    fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let answer = self.raw("GET", &format!("{path}{}", self.query), None, deadline)?;
        read(what, &answer)
    }

    fn post<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        body: &Value,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let answer = self.raw("POST", &format!("{path}{}", self.query), Some(body), deadline)?;
        read(what, &answer)
    }

    fn raw(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let url = || self.url().to_owned();
        let answer = self.http.call(method, path, body, deadline);
        let answer = answer.map_err(|source: HttpError| ClientError::Http { url: url(), source })?;
        if answer.status == 401 {
            return Err(ClientError::Password { url: url(), given: self.has_password });
        }
        Ok(answer)
    }
}

fn read<T: DeserializeOwned>(what: &'static str, answer: &Answer) -> Result<T, ClientError> {
    if !(200..300).contains(&answer.status) {
        return Err(refusal(what, answer));
    }
    serde_json::from_slice(&answer.body).map_err(|_| unreadable(what, answer))
}

fn refusal(what: &'static str, answer: &Answer) -> ClientError {
    match answer.json() {
        Some(body) if body["name"].is_string() => {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let message = text(&body["data"]["message"]);
            ClientError::Refused { what, status: answer.status, name: text(&body["name"]), message }
        }
        _ => unreadable(what, answer),
    }
}

fn unreadable(what: &'static str, answer: &Answer) -> ClientError {
    ClientError::Unreadable { what, status: answer.status, body: shown(&answer.body) }
}

/// The beginning of a body, on one line.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]).into_owned();
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
    if line.is_empty() { "an empty body".to_owned() } else { format!("`{line}`") }
}

/// Text as a part of a query.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _fits = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

/// An id as a part of a path: one that is none leads nowhere.
fn segment(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect()
}

fn major(version: &str) -> u32 {
    version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
