//! Jobs whose tools run in an OpenCode server: lanes `server` and `attach`.
//!
//! A job has one session, found again by its title, which names the run. In lane `server` a driver of ours sends the prompt,
//! once, and prints what the session does in the words of `opencode run`; in lane `attach` OpenCode's own client does. Neither
//! the end of a driver nor that of a client stops a session, so the settler aborts and deletes it, whoever died.
//!
//! Called by: `start`, the settler, and the hidden entry of the driver. Must never: send a prompt twice.

mod driver;
mod events;
mod left;

pub use driver::{SESSION, session};

use crate::Engine;
use crate::api::StartRequest;
use crate::dispatch::leave_session;
use crate::error::EngineError;
use crate::providers::Provider;
use crate::server::{Access, is_old};
use crate::worktree::Place;
use dx_core::Run;
use dx_jobdir::StateDir;
use dx_opencode::{Client, ClientError};
use dx_proc::clock;
use dx_protocol::{AgentEvent, ExitCode, Grammar, Lane, ReasonCode, RunUuid};
use events::Told;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where a server's password travels.
pub(crate) const PASSWORD: &str = "OPENCODE_SERVER_PASSWORD";
/// A server that is well answers within this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// An aborted session is idle within this.
const ABORTED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// The server of a job's lane.
pub(crate) struct LaneServer {
    /// For the job's worktree.
    pub(crate) client: Client,
    pub(crate) password: Option<String>,
    pub(crate) lane: Lane,
    /// Of the job's session.
    pub(crate) title: String,
}

fn title(uuid: &RunUuid) -> String {
    format!("dx-runner job {uuid}")
}

impl Engine {
    /// The server for the lane that is asked for; `None` for the lane that needs none.
    pub(crate) fn lane_server(
        &self,
        request: &StartRequest,
        provider: &Provider,
        worktree: &Path,
        uuid: &RunUuid,
    ) -> Result<Option<LaneServer>, EngineError> {
        let lane = request.lane.unwrap_or_default();
        if !provider.is_service() && !provider.lanes.contains(&lane) {
            let lanes: Vec<&str> = provider.lanes.iter().map(|lane| lane.as_str()).collect();
            return Err(EngineError::Provider {
                reason: ReasonCode::ProviderLaneUnavailable,
                message: format!("provider {} has no lane `{}`", provider.name, lane.as_str()),
                next_action: Some(format!("--lane with one of: {}", lanes.join(", "))),
            });
        }
        if lane == Lane::Run {
            return Ok(None);
        }
        if request.pty {
            return Err(EngineError::Argument(format!("lane `{}` has no pseudo-terminal", lane.as_str())));
        }
        if !request.env.is_empty() {
            let message =
                format!("--env does not reach the tools of lane `{}`: they have the server's", lane.as_str());
            return Err(EngineError::Argument(message));
        }
        let (client, password) = self.access_for(lane, request.server.as_deref())?;
        self.sweep_server(&self.state()?, &client);
        let directory = worktree.to_str().ok_or_else(|| EngineError::PathNotUtf8(worktree.to_owned()))?;
        Ok(Some(LaneServer { client: client.in_directory(directory), password, lane, title: title(uuid) }))
    }

    /// A server that answers and can run jobs of this lane, and its password.
    pub(crate) fn access_for(
        &self,
        lane: Lane,
        url: Option<&str>,
    ) -> Result<(Client, Option<String>), EngineError> {
        let (client, password) = self.find_access(url)?;
        let health = client.health(PATIENCE)?;
        if lane == Lane::Attach && is_old(&health.version) {
            return Err(EngineError::Provider {
                reason: ReasonCode::AttachVersionUnsupported,
                message: format!("{} is OpenCode {}", client.url(), health.version),
                next_action: None,
            });
        }
        Ok((client, password))
    }
}

/// The reason, when it is the lane that cannot be used; another one may be.
pub(crate) fn is_of_lane(error: &EngineError) -> Option<ReasonCode> {
    let reason = error.reason();
    let of_server = matches!(
        reason,
        ReasonCode::ServerPasswordRefused
            | ReasonCode::ServerRefused
            | ReasonCode::AttachVersionUnsupported
            | ReasonCode::AttachNoContext
    );
    (of_server || reason.exit_code() == ExitCode::LaneUnavailable).then_some(reason)
}

/// Processes that a session's tools have left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Strays {
    pub(crate) ended: u32,
    /// They go on: they may be another session's, or nobody could tell.
    pub(crate) left: u32,
}

/// The server of a job's session, for its worktree, and the session's title.
fn server_of(state: &StateDir, run: &Run, password: Option<String>) -> Option<(Client, String)> {
    let created = &run.created;
    if created.spec.lane == Lane::Run {
        return None;
    }
    let url = created.contract.base_url.as_str();
    let ours = Access::at(state, url).map(|access| access.password);
    let password = ours.or(password).or_else(|| std::env::var(PASSWORD).ok());
    let client = Client::new(url, password.as_deref()).ok()?.in_directory(&created.spec.worktree);
    Some((client, title(&created.ids.run_uuid)))
}

/// What the server says that a job's session does; `None` when it says nothing.
pub(crate) fn status(state: &StateDir, run: &Run, password: Option<String>) -> Option<AgentEvent> {
    let (client, title) = server_of(state, run, password)?;
    let session = client.sessions_titled(&title, PATIENCE).ok()?.pop()?;
    let status = client.raw_statuses(PATIENCE).ok()?.get_mut(&session.id)?.take();
    let line = Told::new(&session.id).line("session_status", now(), "status", &status);
    let mut parser = dx_events::Parser::new(Grammar::Opencode);
    let mut told = None;
    parser.feed(format!("{line}\n").as_bytes(), &mut |_, event| match event {
        AgentEvent::Working | AgentEvent::Retrying { .. } | AgentEvent::RateLimited { .. } => {
            told = Some(event);
        }
        _ => {}
    });
    told
}

/// Stops and deletes what a job's session still does, and what its tools have left. What the server does not let us end is
/// left to whoever uses it next.
pub(crate) fn end_session(state: &StateDir, run: &Run, password: Option<String>) -> Strays {
    let Some((client, title)) = server_of(state, run, password) else { return Strays::default() };
    end_sessions(state, run, &client, &title).unwrap_or_else(|(strays, error)| {
        // A folder that cannot be written to leaves it in the server's list.
        let _noted = leave_session(state, &client, &title, &run.created.ids.run_uuid);
        // A server that is gone has no tools.
        if error.is_unreachable() && !error.is_deadline() { Strays::default() } else { strays }
    })
}

fn end_sessions(
    state: &StateDir,
    run: &Run,
    client: &Client,
    title: &str,
) -> Result<Strays, (Strays, ClientError)> {
    let unknown = |error| (left::unclear(state, run, client), error);
    let sessions = client.sessions_titled(title, PATIENCE).map_err(unknown)?;
    let ids: Vec<String> = sessions.into_iter().map(|session| session.id).collect();
    for session in &ids {
        rest(client, session);
    }
    // What they had called is only known as long as they are there.
    let strays = left::end(state, run, client, &ids).map_err(unknown)?;
    for session in &ids {
        client.delete(session, PATIENCE).map_err(|error| (strays, error))?;
    }
    if !ids.is_empty() {
        let_go(run, client);
    }
    Ok(strays)
}

/// A server keeps watches and memory for each folder it worked in, for ever. The worktree was made for this job, which is
/// over; in a folder of the user's others may be about to ask, and it is one of few.
fn let_go(run: &Run, client: &Client) {
    let made = Place::is_at(Path::new(&run.created.spec.worktree));
    // What works there would be aborted.
    if made && client.statuses(PATIENCE).is_ok_and(|statuses| statuses.is_empty()) {
        // It only costs the server something.
        let _kept = client.dispose(PATIENCE);
    }
}

/// Abort, await idle, delete: a session that is deleted while it works goes on working.
pub(crate) fn end(client: &Client, session: &str) -> Result<(), ClientError> {
    rest(client, session);
    client.delete(session, PATIENCE)
}

/// Abort, await idle.
fn rest(client: &Client, session: &str) {
    // One that does nothing needs no abort.
    let _aborted = client.abort(session, PATIENCE);
    let until = Instant::now() + ABORTED;
    while Instant::now() < until
        && client.statuses(PATIENCE).is_ok_and(|statuses| statuses.contains_key(session))
    {
        std::thread::sleep(PAUSE);
    }
}

fn now() -> u64 {
    u64::try_from(clock::now_ms()).unwrap_or_default()
}
