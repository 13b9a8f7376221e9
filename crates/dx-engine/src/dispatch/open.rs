//! Questions that are being asked: a record of each, locked by the process that asks. What a killed one leaves is found by
//! it and ended: a session that works on, an agent's processes and its folder. So is a session, a job's too, that its server
//! did not let anybody end.
//!
//! A session is made with the record's mark, so there is no moment in which one could be lost between its making and a note
//! of it. An old server keeps no marks; for its sessions a note is all there is. The title of a job's session ends with the
//! mark. The cleaner looks for records that nobody holds, and so does whoever uses the server next.
//!
//! Must never: end what belongs to a question that somebody still asks.

use super::headless::Folder;
use super::turn::is_turn;
use crate::Engine;
use crate::error::EngineError;
use crate::lanes;
use crate::server::Access;
use dx_jobdir::{DiskFile, StateDir, disk};
use dx_monitor::sweep_marked;
use dx_opencode::{Client, ClientError, Session};
use dx_protocol::RunUuid;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const SCHEMA: &str = "dx-runner/question/1";
/// The name of the mark in a session's metadata.
const MARK: &str = "dx-runner";
/// What is left of an agent has this long to end.
const GRACE_MS: u64 = 500;
/// A server that cannot be asked for so long is gone for good.
const GIVEN_UP: Duration = Duration::from_hours(24 * 7);
/// A record has its name after this, or its writer died over it.
const UNNAMED: Duration = Duration::from_mins(1);

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: String,
    /// In the metadata of a session, and in the environment of an agent.
    mark: RunUuid,
    /// `None`: an agent is asked.
    session: Option<Place>,
}

/// Where a session is.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    url: String,
    /// Whether that is a server of ours, which has another address after each start.
    ours: bool,
    directory: Option<String>,
    title: String,
    /// One that was there before: it is stopped and stays.
    reused: Option<String>,
}

impl Place {
    fn of(state: &StateDir, client: &Client, title: &str) -> Self {
        Self {
            url: client.url().to_owned(),
            ours: Access::is_ours(state, client.url()),
            directory: client.directory().map(str::to_owned),
            title: title.to_owned(),
            reused: None,
        }
    }
}

/// What is added to the record of a session that has not kept its mark (tried: 1.2.6).
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    unmarked: String,
}

/// A question while it is asked; the record goes with the value, unless something is left.
pub(super) struct Open {
    mark: RunUuid,
    path: PathBuf,
    left: bool,
    /// Holds the lock.
    file: DiskFile,
}

impl Open {
    /// For a question to an agent.
    pub(super) fn of_agent(state: &StateDir) -> Result<Self, EngineError> {
        Self::new(state, None)
    }

    /// For a question in a session of that server, a new one or one that was there before.
    pub(super) fn of_session(
        state: &StateDir,
        client: &Client,
        title: &str,
        reused: Option<&str>,
    ) -> Result<Self, EngineError> {
        let place = Place { reused: reused.map(str::to_owned), ..Place::of(state, client, title) };
        Self::new(state, Some(place))
    }

    fn new(state: &StateDir, session: Option<Place>) -> Result<Self, EngineError> {
        Self::marked(state, uuid::Uuid::now_v7().to_string().parse()?, session)
    }

    fn marked(state: &StateDir, mark: RunUuid, session: Option<Place>) -> Result<Self, EngineError> {
        let folder = state.questions_dir();
        disk::make_dir(&folder)?;
        let path = folder.join(format!("{mark}.json"));
        // It has its name once it is whole and locked.
        let unnamed = folder.join(format!(".{mark}"));
        let record = Record { schema: SCHEMA.to_owned(), mark, session };
        let text = serde_json::to_vec(&record).map_err(|e| EngineError::Argument(e.to_string()))?;
        let file = DiskFile::create_new(&unnamed)?;
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked.map_err(|e| disk::DiskError { op: "lock", path: unnamed.clone(), source: e.into() })?;
        file.append(&text)?;
        disk::rename(&unnamed, &path)?;
        Ok(Self { mark: record.mark, path, left: false, file })
    }

    /// Its session could not be ended, which is left to others.
    pub(super) fn leave(&mut self) {
        self.left = true;
    }

    /// Adds the session that was made, when it could not be found by its mark.
    pub(super) fn note(&self, session: &Session) {
        if has_mark(session, &self.mark) {
            return;
        }
        let note = serde_json::to_vec(&Note { unmarked: session.id.clone() }).unwrap_or_default();
        // One that cannot be noted is still deleted by who asks.
        let _noted = self.file.append(&note);
    }

    pub(super) fn mark(&self) -> &RunUuid {
        &self.mark
    }

    /// What a session is made with.
    pub(super) fn metadata(&self) -> (&'static str, &str) {
        (MARK, self.mark.as_str())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // One that stays though nothing is left tells of a session that is gone already.
        let _stays = (!self.left).then(|| disk::remove(&self.path));
    }
}

/// Notes a job's session that its server did not let us end: whoever uses the server next does. Its title ends with `mark`.
pub(crate) fn leave_session(
    state: &StateDir,
    client: &Client,
    title: &str,
    mark: &RunUuid,
) -> Result<(), EngineError> {
    Open::marked(state, mark.clone(), Some(Place::of(state, client, title))).map(|mut open| open.leave())
}

/// Whether there is a session that nobody ends at this moment.
pub(super) fn is_session_left(state: &StateDir) -> bool {
    let entries = std::fs::read_dir(state.questions_dir()).into_iter().flatten().flatten();
    entries.filter_map(|entry| left(&entry.path())).any(|left| left.record.session.is_some())
}

fn has_mark(session: &Session, mark: &RunUuid) -> bool {
    session.metadata.get(MARK).and_then(|value| value.as_str()) == Some(mark.as_str())
}

/// A record that nobody holds any more; held now.
struct Left {
    record: Record,
    note: Option<Note>,
    path: PathBuf,
    _file: DiskFile,
}

/// Beside what agents have left.
#[derive(Clone, Copy)]
pub(super) enum Sessions<'a> {
    None,
    Of(&'a Client),
    All,
}

impl Engine {
    /// Ends the sessions that were left in a server which answers now.
    pub(crate) fn sweep_server(&self, state: &StateDir, server: &Client) {
        self.sweep_questions(state, Sessions::Of(server));
    }

    /// Ends what has been left.
    pub(super) fn sweep_questions(&self, state: &StateDir, sessions: Sessions<'_>) {
        let ours = Access::shared(state).map(|access| access.url);
        for entry in std::fs::read_dir(state.questions_dir()).into_iter().flatten().flatten() {
            let Some(left) = left(&entry.path()) else { continue };
            let ended = if let Some(place) = &left.record.session {
                // A server of ours has another address after each start, and the same sessions.
                let mut servers = BTreeSet::from([place.url.as_str()]);
                servers.extend(ours.as_deref());
                if let Sessions::Of(server) = sessions {
                    servers.retain(|url| *url == server.url());
                }
                !matches!(sessions, Sessions::None)
                    && servers.into_iter().any(|url| self.end_left(&left, place, url).unwrap_or(false))
            } else {
                sweep_marked(&left.record.mark, GRACE_MS);
                drop(Folder::of(state, &left.record.mark));
                true
            };
            if ended || age(&left.path) > GIVEN_UP {
                let _stays = disk::remove(&left.path);
            }
        }
    }

    /// Whether the session that was left does nothing any more and is gone, as that server tells.
    fn end_left(&self, left: &Left, place: &Place, url: &str) -> Result<bool, EngineError> {
        let Left { record, note, .. } = left;
        let is_there = place.ours || place.url == url;
        let client = self.client(url)?;
        let client = match &place.directory {
            Some(directory) => client.in_directory(directory),
            None => client,
        };
        if let Some(session) = &place.reused {
            return match client.abort(session, lanes::PATIENCE) {
                // It is gone, and with it the work.
                Ok(()) | Err(ClientError::Refused { .. }) => Ok(is_there),
                Err(error) => Err(error.into()),
            };
        }
        let of_job = place.title.ends_with(record.mark.as_str());
        let mut is_found = false;
        for session in client.sessions_titled(&place.title, lanes::PATIENCE)? {
            let noted = note.as_ref().is_some_and(|note| note.unmarked == session.id);
            if of_job || noted || has_mark(&session, &record.mark) {
                lanes::end(&client, &session.id)?;
                is_found = true;
            }
        }
        Ok(is_found || is_there)
    }
}

/// The record at `path` when nobody holds it.
fn left(path: &Path) -> Option<Left> {
    let file = DiskFile::open_append(path).ok()?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let named = path.extension().is_some_and(|extension| extension == "json");
    if !named {
        // Nothing was begun under it.
        let _stays = (is_turn(path) || age(path) > UNNAMED).then(|| disk::remove(path));
        return None;
    }
    // Somebody else may have removed it in between, which is fine: what it names is ended already then.
    let text = std::fs::read(path).ok()?;
    let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>().map_while(Result::ok);
    let record = serde_json::from_value(values.next()?).ok()?;
    let note = values.next().and_then(|value| serde_json::from_value(value).ok());
    Some(Left { record, note, path: path.to_owned(), _file: file })
}

fn age(path: &Path) -> Duration {
    let written = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    written.ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
}
