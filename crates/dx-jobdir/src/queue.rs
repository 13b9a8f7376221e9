//! Places in the queue of a provider: `queue/<provider>.<number>`, each locked by the process that waits, so that the place
//! of a dead one is nobody's, however it died. Who looks removes it. Everything here but [`Ticket`]'s end happens under
//! the lock of claims.

use crate::claim::ClaimLock;
use crate::disk::{self, DiskError, DiskFile};
use crate::layout::StateDir;
use dx_protocol::ProviderName;
use rustix::fs::FlockOperation;
use std::cell::Cell;
use std::path::{Path, PathBuf};

/// No note of a waiter is read beyond this.
const MAX_NOTE: u64 = 4096;

/// The place of one start that waits; given up with the value.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    file: DiskFile,
    left: Cell<bool>,
}

impl Ticket {
    /// The place at the end of the queue. `note` is for people and for those behind it.
    pub fn draw(
        state: &StateDir,
        provider: &ProviderName,
        note: &[u8],
        _lock: &ClaimLock,
    ) -> Result<Self, DiskError> {
        let number = places(state, provider).last().map_or(1, |(last, _)| last + 1);
        let file = DiskFile::create_new(&place(state, provider, number))?;
        // From here on it goes with the value, also after a failure.
        let ticket = Self { number, file, left: Cell::new(false) };
        rustix::fs::flock(&ticket.file, FlockOperation::NonBlockingLockExclusive).map_err(|e| DiskError {
            op: "lock",
            path: ticket.file.path().to_owned(),
            source: e.into(),
        })?;
        ticket.file.append(note)?;
        Ok(ticket)
    }

    /// Gives the place up, once: somebody else may have its number soon.
    pub fn leave(&self) {
        if !self.left.replace(true) {
            // One that stays is nobody's when we have ended.
            let _stays = disk::remove(self.file.path());
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The notes of those who wait before this one, or of all; the places of dead ones are removed.
pub fn ahead(
    state: &StateDir,
    provider: &ProviderName,
    ticket: Option<&Ticket>,
    _lock: &ClaimLock,
) -> Vec<Vec<u8>> {
    let own = ticket.map_or(u64::MAX, |ticket| ticket.number);
    let before = places(state, provider).into_iter().filter(|(number, _)| *number < own);
    before.filter_map(|(_, path)| note_of_living(&path)).collect()
}

/// Removes the places of the dead, of all providers.
pub fn clear(state: &StateDir, _lock: &ClaimLock) {
    for entry in std::fs::read_dir(state.queue_dir()).into_iter().flatten().flatten() {
        let _living = note_of_living(&entry.path());
    }
}

/// What the one who waits there has noted; a dead one's place is removed.
fn note_of_living(path: &Path) -> Option<Vec<u8>> {
    let file = match DiskFile::open_append(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        // What cannot be told dead keeps its place.
        Err(_) => return Some(Vec::new()),
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // It counts no more; whoever looks next tries again.
        let _stays = disk::remove(path);
        return None;
    }
    Some(crate::read_bounded(path, MAX_NOTE).unwrap_or_default())
}

/// All places of a provider in their order, taken or dead.
fn places(state: &StateDir, provider: &ProviderName) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(state.queue_dir()) else { return Vec::new() };
    let mut places: Vec<(u64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let (of, number) = name.to_str()?.split_once('.')?;
            let number = number.parse().ok().filter(|_| of == provider.as_str())?;
            Some((number, entry.path()))
        })
        .collect();
    places.sort();
    places
}

fn place(state: &StateDir, provider: &ProviderName, number: u64) -> PathBuf {
    state.queue_dir().join(format!("{provider}.{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_order_and_those_of_the_dead_are_free() {
        let tmp = tempfile::tempdir().unwrap();
        let state = StateDir::open(&tmp.path().join("state")).unwrap();
        let (exec, other) = ("exec".parse().unwrap(), "other".parse().unwrap());
        let lock = ClaimLock::take(&state).unwrap();
        let draw = |note: &[u8]| Ticket::draw(&state, &exec, note, &lock).unwrap();
        let notes = |ticket: Option<&Ticket>| ahead(&state, &exec, ticket, &lock);
        let tickets: Vec<Ticket> = (0..12).map(|n| draw(format!("{n}").as_bytes())).collect();
        assert_eq!(notes(None).len(), 12);
        assert_eq!(notes(Some(&tickets[11])).last().unwrap(), b"10", "11 comes after 10, not after 1");
        assert_eq!(ahead(&state, &other, None, &lock), Vec::<Vec<u8>>::new());
        // One that died without a word: its file is there, and nobody holds it.
        std::fs::write(place(&state, &exec, 2).with_file_name("exec.0"), "dead").unwrap();
        assert_eq!(notes(Some(&tickets[0])), Vec::<Vec<u8>>::new());
        assert!(!state.queue_dir().join("exec.0").exists());
        // A number that was given up belongs to the next.
        tickets[11].leave();
        let next = draw(b"next");
        drop(tickets);
        assert!(notes(Some(&next)).is_empty() && place(&state, &exec, 12).exists());
        drop(next);
        assert_eq!(std::fs::read_dir(state.queue_dir()).unwrap().count(), 0);
    }
}
