//! Following files without polling, and being told of Ctrl-C while doing so.
//!
//! Called by: `log_view`, `events`, `status --watch`. Must never: write, signal, or wait for ever for a dead job: every
//! wait has an end after which the caller looks again.

use dx_proc::SignalFd;
use dx_proc::inotify::{MODIFY, Watch};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Longest sleep when every file is watched; a job whose processes all died is noticed after this.
const WATCHED_MS: u64 = 2_000;
/// Longest sleep when some file cannot be watched.
const POLLED_MS: u64 = 250;
/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// Ctrl-C.
    Interrupted,
    /// Something may have changed.
    Look,
}

/// Waits for changes of files and for Ctrl-C.
#[derive(Debug)]
pub(crate) struct Waiter {
    signals: SignalFd,
    watch: Option<Watch>,
    unwatched: bool,
}

impl Waiter {
    /// From here on Ctrl-C no longer ends the process by itself. Start no thread before.
    pub(crate) fn new() -> Result<Self, CliError> {
        let signals = SignalFd::new(&[rustix::process::Signal::INT.as_raw()])?;
        Ok(Self { signals, watch: Watch::new().ok(), unwatched: false })
    }

    /// Adds a file; one that cannot be watched is looked at more often instead.
    pub(crate) fn watch(&mut self, path: &Path) {
        let added = self.watch.as_ref().is_some_and(|watch| watch.add(path, MODIFY).is_ok());
        self.unwatched |= !added;
    }

    /// Sleeps until a file changed, or long enough that a look is due anyway.
    pub(crate) fn wait(&mut self) -> Result<Wake, CliError> {
        let polled = self.unwatched || self.watch.is_none();
        self.wait_ms(if polled { POLLED_MS } else { WATCHED_MS })
    }

    /// The same with a limit of one's own.
    pub(crate) fn wait_ms(&mut self, limit_ms: u64) -> Result<Wake, CliError> {
        let mut descriptors = vec![self.signals.as_fd()];
        descriptors.extend(self.watch.as_ref().map(AsFd::as_fd));
        dx_proc::poll::poll(&descriptors, Some(limit_ms))?;
        if let Some(watch) = &mut self.watch {
            watch.read_events(|_, _, _| {})?;
        }
        Ok(if self.signals.drain()?.is_empty() { Wake::Look } else { Wake::Interrupted })
    }
}

/// What [`Tail::read`] hands out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    /// The next bytes.
    Bytes(&'a [u8]),
    /// The file was cut; the next bytes begin at its start.
    Cut,
}

/// A growing file and how far it has been read. It may not exist yet.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
}

impl Tail {
    /// Begins at `offset`.
    pub(crate) fn new(path: &Path, offset: u64) -> Self {
        Self { path: path.to_owned(), file: None, offset }
    }

    /// Hands out everything that is new. The sink says `false` to stop early.
    pub(crate) fn read(
        &mut self,
        sink: &mut dyn FnMut(Piece<'_>) -> Result<bool, CliError>,
    ) -> Result<(), CliError> {
        let Some(file) = self.open()? else { return Ok(()) };
        let failed = |error| CliError::reading(&self.path, error);
        let len = file.metadata().map_err(failed)?.len();
        if len < self.offset {
            self.offset = 0;
            sink(Piece::Cut)?;
        }
        let mut buffer = vec![0; PIECE];
        loop {
            let got = match file.read_at(&mut buffer, self.offset) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CliError::reading(&self.path, error)),
            };
            self.offset += got as u64;
            if got == 0 || !sink(Piece::Bytes(&buffer[..got]))? {
                return Ok(());
            }
        }
    }

    fn open(&mut self) -> Result<Option<File>, CliError> {
        if self.file.is_none() {
            self.file = open_existing(&self.path)?;
        }
        let copy = self.file.as_ref().map(File::try_clone).transpose();
        copy.map_err(|error| CliError::reading(&self.path, error))
    }
}

/// Opens a record's file for reading; `None` when it does not exist (yet).
pub(crate) fn open_existing(path: &Path) -> Result<Option<File>, CliError> {
    match dx_jobdir::open_regular(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::reading(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_tail_sees_what_is_appended_and_what_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut tail = Tail::new(&path, 0);
        let mut read = || {
            let mut seen = String::new();
            tail.read(&mut |piece| {
                match piece {
                    Piece::Bytes(bytes) => seen.push_str(std::str::from_utf8(bytes).unwrap()),
                    Piece::Cut => seen.push('|'),
                }
                Ok(true)
            })
            .unwrap();
            seen
        };
        assert_eq!(read(), "");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        file.write_all(b"one").unwrap();
        assert_eq!(read(), "one");
        assert_eq!(read(), "");
        file.set_len(0).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(read(), "|x");
    }
}
