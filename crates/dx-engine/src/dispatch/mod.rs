//! Questions to models: one prompt, one model, the answer at once.
//!
//! A question is a member (who is asked), a prompt and its conditions. Members differ in how they are asked; what is made
//! of an answer is the same for all.
//!
//! Called by: `dispatch` and `batch`. Must never: leave a session or work behind that nobody asked to keep, or call
//! nothing an answer.

mod alone;
mod answer;
mod batch;
mod cancel;
mod cleaner;
mod cli;
mod detach;
mod headless;
mod judge;
mod member;
mod open;
mod openai;
mod opencode;
mod place;
mod routes;
mod schema;
mod store;
mod turn;

pub use batch::{BatchNews, BatchRequest, Members};
pub use cancel::Cancel;
pub use cleaner::CLEANER;
pub use detach::{BATCH, tell_begun};
pub use member::Member;
pub(crate) use open::leave_session;
pub use schema::SchemaSource;

use crate::Engine;
use crate::api::PromptSource;
use crate::error::EngineError;
use crate::prompt::Prompt;
use crate::server::in_directory;
use answer::Raw;
use dx_opencode::{ClientError, PATIENCE};
use dx_protocol::{DispatchDocument, ReasonCode};
use schema::Schema;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The deadline when nobody names one.
pub const DISPATCH_TIMEOUT: Duration = Duration::from_mins(2);
/// So much of an answer is shown when nobody says otherwise.
pub const DISPATCH_MAX_CHARS: usize = 50_000;

/// Who is asked.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub member: Option<Member>,
    pub task_type: Option<String>,
    /// Each replaces its part of the route.
    pub provider: Option<String>,
    pub model: Option<String>,
}

/// The conditions of a question.
#[derive(Debug, Clone)]
pub struct Conditions {
    pub prompt: PromptSource,
    pub system: Option<String>,
    /// A JSON schema that the answer must fit.
    pub schema: Option<SchemaSource>,
    /// `None`: [`DISPATCH_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// 0: all.
    pub max_chars: usize,
    pub directory: Option<PathBuf>,
    /// Address of an OpenCode server.
    pub server: Option<String>,
}

/// `dispatch`.
#[derive(Debug, Clone)]
pub struct DispatchRequest {
    pub target: Target,
    pub conditions: Conditions,
    /// A session to go on with.
    pub session: Option<String>,
    /// Whether the session stays; `None`: one that was named does, a new one does not.
    pub keep: Option<bool>,
}

/// Why a member gave no answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: ReasonCode,
    pub(crate) message: String,
    pub(crate) next_action: Option<String>,
}

impl Failure {
    fn new(reason: ReasonCode, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), next_action: None }
    }

    fn with(self, next_action: impl Into<String>) -> Self {
        Self { next_action: Some(next_action.into()), ..self }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let reason = if error.is_deadline() { ReasonCode::Timeout } else { crate::server::reason_of(&error) };
        Self::new(reason, error.to_string())
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(error.reason(), error.to_string()).with(error.next_action())
    }
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        let Failure { reason, message, next_action } = failure;
        Self::Provider { reason, message, next_action }
    }
}

/// A question, read and checked.
pub(crate) struct Question<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) system: Option<&'a str>,
    pub(crate) schema: Option<&'a Schema>,
    pub(crate) title: &'a str,
    /// Whether the member may look at files.
    pub(crate) reads: bool,
    pub(crate) limit: Duration,
    pub(crate) until: Instant,
    pub(crate) cancel: &'a Cancel,
    pub(crate) session: Option<&'a str>,
    pub(crate) keep: Option<bool>,
}

impl Question<'_> {
    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Fails when nobody waits for the answer any more.
    fn still_wanted(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::new(ReasonCode::Aborted, "the question was given up"));
        }
        Ok(())
    }

    fn late(&self, what: &str) -> Failure {
        let message = format!("no whole answer within {} s: {what}", self.limit.as_secs());
        Failure::new(ReasonCode::Timeout, message)
    }

    /// A call before the prompt that failed; it had what was left of the time.
    fn failed(&self, error: ClientError) -> Failure {
        if error.is_deadline() && self.left().is_zero() {
            return self.late("the server was not ready for the prompt");
        }
        error.into()
    }
}

/// Conditions, read once for however many members.
pub(crate) struct Ready {
    pub(crate) prompt: String,
    pub(crate) schema: Option<Schema>,
    pub(crate) limit: Duration,
}

impl Conditions {
    pub(crate) fn read(&self) -> Result<Ready, EngineError> {
        // An endpoint has no use for it, but who named a wrong one is to know.
        if let Some(directory) = self.directory.as_deref().filter(|directory| !directory.is_dir()) {
            return Err(EngineError::Provider {
                reason: ReasonCode::WorktreeMissing,
                message: format!("there is no directory {}", directory.display()),
                next_action: Some("name one that is there with --directory, or leave it out".to_owned()),
            });
        }
        let prompt = Prompt::read(Some(&self.prompt))?;
        let prompt =
            String::from_utf8(prompt.bytes).map_err(|_| EngineError::PromptInvalid("is not valid UTF-8"))?;
        let schema = self.schema.as_ref().map(Schema::read).transpose()?;
        let limit = self.timeout.unwrap_or(DISPATCH_TIMEOUT);
        if limit.is_zero() {
            return Err(EngineError::Argument("--timeout is at least 1 second".to_owned()));
        }
        Ok(Ready { prompt, schema, limit })
    }

    /// What was asked for beside the prompt, in the order in which it is shown.
    fn mods(&self, routed: Option<&str>) -> Vec<String> {
        let mut mods: Vec<String> = routed.iter().map(|task| format!("routed: {task}")).collect();
        mods.extend(self.system.as_ref().map(|_| "custom-system".to_owned()));
        mods.extend(self.schema.as_ref().map(|_| "structured-json".to_owned()));
        mods.extend(self.timeout.map(|timeout| format!("timeout-{}s", timeout.as_secs())));
        mods
    }
}

impl Engine {
    /// Asks one member and waits for its answer.
    pub fn dispatch(
        &self,
        request: &DispatchRequest,
        cancel: &Cancel,
    ) -> Result<DispatchDocument, EngineError> {
        let (member, routed) = self.member_of(&request.target)?;
        let ready = request.conditions.read()?;
        let begun = Instant::now();
        let title = format!("dispatch → {member}");
        let question = Question {
            prompt: &ready.prompt,
            system: request.conditions.system.as_deref(),
            schema: ready.schema.as_ref(),
            title: &title,
            reads: request.conditions.directory.is_some(),
            limit: ready.limit,
            until: begun + ready.limit,
            cancel,
            session: request.session.as_deref(),
            keep: request.keep,
        };
        let mods = request.conditions.mods(routed.as_deref());
        let raw = std::thread::scope(|scope| {
            // Beside the first calls, which begin nothing that would have to be ended.
            let cleaner = scope.spawn(|| self.cleaner(std::slice::from_ref(&member)));
            let raw = self.ask(&member, &question, &request.conditions);
            drop(cleaner.join());
            raw
        })?;
        Ok(raw.document(&member, mods, request.conditions.max_chars, begun.elapsed()))
    }

    /// Asks a member in the way that it is asked.
    fn ask(&self, member: &Member, question: &Question<'_>, conditions: &Conditions) -> Result<Raw, Failure> {
        if question.session.is_some() && !matches!(member, Member::Opencode { .. }) {
            return Err(Failure::new(ReasonCode::NotSupported, "only members `opencode:` have sessions"));
        }
        let raw = match member {
            Member::Opencode { provider, model } => {
                let patience = question.left().min(PATIENCE);
                let found = self.find_server_within(conditions.server.as_deref(), patience);
                let client = found.map_err(|error| match error {
                    EngineError::Server(error) if error.is_deadline() => question.failed(error),
                    error => error.into(),
                })?;
                let client = in_directory(client, conditions.directory.as_deref())?;
                // A folder that cannot be written to keeps nobody from asking.
                let state = self.state().ok();
                if let Some(state) = &state {
                    self.sweep_server(state, &client);
                }
                opencode::ask(&client, state.as_ref(), provider, model, question)?
            }
            Member::Openai { endpoint, model } => openai::ask(&self.endpoint(endpoint)?, model, question)?,
            Member::Cli { cli, model } => {
                headless::ask(self, *cli, model, question, conditions.directory.as_deref())?
            }
        };
        raw.checked()
    }
}
