//! One question at a time in a session that goes on. A server puts a prompt that comes while it works to the one before, and
//! gives the last answer to both; a question that is given up then takes the other with it.
//!
//! Questions of one state directory wait for each other. For what others do in the session the server is asked.
//!
//! Must never: stop what another question has begun.

use super::{Failure, Question};
use dx_jobdir::{DiskFile, StateDir, disk};
use dx_opencode::{Client, PATIENCE};
use rustix::fs::FlockOperation;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the files are named; whoever sweeps knows them by it.
const PREFIX: &str = "turn-";
const PAUSE: Duration = Duration::from_millis(100);

/// The right to ask; it goes with the value.
pub(super) struct Turn {
    path: PathBuf,
    _file: DiskFile,
}

/// Whether that is such a file. One that nobody holds may be removed: who opened it meanwhile sees that it is gone.
pub(super) fn is_turn(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
}

impl Turn {
    /// Waits until nobody else asks in the session, and until it does nothing. Without a folder that can be written to, for
    /// the latter only.
    pub(super) fn wait(
        state: Option<&StateDir>,
        client: &Client,
        session: &str,
        question: &Question<'_>,
    ) -> Result<Option<Self>, Failure> {
        let turn = match state {
            Some(state) => Self::among_ours(state, session, question)?,
            None => None,
        };
        loop {
            let works = client
                .statuses(question.left().min(PATIENCE))
                .map_err(|error| question.failed(error))?
                .contains_key(session);
            if !works {
                return Ok(turn);
            }
            pause(question)?;
        }
    }

    fn among_ours(state: &StateDir, session: &str, question: &Question<'_>) -> Result<Option<Self>, Failure> {
        let folder = state.questions_dir();
        let name: String = session.chars().filter(char::is_ascii_alphanumeric).collect();
        let path = folder.join(format!("{PREFIX}{name}"));
        if disk::make_dir(&folder).is_err() {
            return Ok(None);
        }
        loop {
            let Ok(file) = DiskFile::open_append_or_create(&path) else { return Ok(None) };
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // Its last holder may have removed it before this one had it.
                if is_at(&file, &path) {
                    return Ok(Some(Self { path, _file: file }));
                }
                continue;
            }
            pause(question)?;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // One that stays is taken by the next.
        let _stays = disk::remove(&self.path);
    }
}

fn is_at(file: &DiskFile, path: &Path) -> bool {
    let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let held = file.file().metadata().map(place).ok();
    held.is_some() && held == std::fs::symlink_metadata(path).map(place).ok()
}

fn pause(question: &Question<'_>) -> Result<(), Failure> {
    question.still_wanted()?;
    if question.left().is_zero() {
        let late = question.late("the session was at work on something else, and the prompt was not sent");
        return Err(late.with("ask again when it has done, or allow it more --timeout"));
    }
    std::thread::sleep(PAUSE);
    Ok(())
}
