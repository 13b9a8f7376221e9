//! Questions that are being asked: a record of each, locked by the process that asks. What a killed one leaves is found by
//! it and ended: a session that works on, an agent's processes and its folder.
//!
//! A session is made with the record's mark, so there is no moment in which one could be lost between its making and a note
//! of it. An old server keeps no marks; for its sessions a note is all there is. The cleaner looks for records that nobody
//! holds, and so does whoever asks next.
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
    /// Whether that is the shared server, which has another address after each start.
    ours: bool,
    directory: Option<String>,
    title: String,
    /// One that was there before: it is stopped and stays.
    reused: Option<String>,
}

/// What is added to the record of a session that has not kept its mark (tried: 1.2.6).
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    unmarked: String,
}

/// A question while it is asked; the record goes with the value.
pub(super) struct Open {
    mark: RunUuid,
    path: PathBuf,
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
        let place = Place {
            url: client.url().to_owned(),
            ours: Access::shared(state).is_some_and(|access| access.url == client.url()),
            directory: client.directory().map(str::to_owned),
            title: title.to_owned(),
            reused: reused.map(str::to_owned),
        };
        Self::new(state, Some(place))
    }

    fn new(state: &StateDir, session: Option<Place>) -> Result<Self, EngineError> {
        let folder = state.questions_dir();
        disk::make_dir(&folder)?;
        let mark: RunUuid = uuid::Uuid::now_v7().to_string().parse()?;
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
        Ok(Self { mark: record.mark, path, file })
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
        // One that stays tells of a session that is gone already.
        let _stays = disk::remove(&self.path);
    }
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
    /// Ends what killed processes have left.
    pub(super) fn sweep_questions(&self, state: &StateDir, sessions: Sessions<'_>) {
        let ours = Access::shared(state).map(|access| access.url);
        for entry in std::fs::read_dir(state.questions_dir()).into_iter().flatten().flatten() {
            let Some(left) = left(&entry.path()) else { continue };
            let wanted = match (&left.record.session, sessions) {
                (None, _) | (Some(_), Sessions::All) => true,
                (Some(_), Sessions::None) => false,
                (Some(place), Sessions::Of(server)) => {
                    place.url == server.url() || (place.ours && ours.as_deref() == Some(server.url()))
                }
            };
            if wanted && (self.end_left(state, &left).is_ok() || age(&left.path) > GIVEN_UP) {
                let _stays = disk::remove(&left.path);
            }
        }
    }

    fn end_left(&self, state: &StateDir, left: &Left) -> Result<(), EngineError> {
        let Left { record, note, .. } = left;
        let Some(place) = &record.session else {
            sweep_marked(&record.mark, GRACE_MS);
            drop(Folder::of(state, &record.mark));
            return Ok(());
        };
        let ours = place.ours.then(|| Access::shared(state)).flatten();
        let client = self.client(ours.as_ref().map_or(&place.url, |access| &access.url))?;
        let client = match &place.directory {
            Some(directory) => client.in_directory(directory),
            None => client,
        };
        if let Some(session) = &place.reused {
            return match client.abort(session, lanes::PATIENCE) {
                // It is gone, and with it the work.
                Ok(()) | Err(ClientError::Refused { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        for session in client.sessions_titled(&place.title, lanes::PATIENCE)? {
            let noted = note.as_ref().is_some_and(|note| note.unmarked == session.id);
            if noted || has_mark(&session, &record.mark) {
                lanes::end(&client, &session.id)?;
            }
        }
        Ok(())
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
