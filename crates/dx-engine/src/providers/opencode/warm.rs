//! A home that OpenCode has set up. Its first run makes a database in its data folder, and of several that do so at once
//! some fail; so the first question of a binary in a data folder is asked alone, whichever state directory asks. The lock
//! is the data folder's, and the program that sets it up holds it too: it goes with the last of them.
//!
//! Called by `lists`. Must never: write into OpenCode's folders, or wait where the folder is as it was left.

use crate::environment;
use crate::error::EngineError;
use crate::prompt::sha256_hex;
use crate::providers::Wish;
use dx_jobdir::{DiskError, disk};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::FdFlags;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than a question may take.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The data folder of a start, and what is known of it.
pub(super) struct Home {
    data: PathBuf,
    mark: PathBuf,
}

impl Home {
    /// `binary` is whatever changes with the program.
    pub(super) fn of(wish: &Wish<'_>, cache_dir: &Path, binary: &str) -> Self {
        let base = environment::dir_in(wish.env, "XDG_DATA_HOME", ".local/share").unwrap_or_default();
        let data = base.join("opencode");
        let hash = sha256_hex(format!("{binary}{}", data.display()).as_bytes());
        Self { mark: cache_dir.join(format!("opencode-warm-{}", &hash[..24])), data }
    }

    /// Whether this binary has set it up, and it is all there still.
    pub(super) fn is_warm(&self) -> bool {
        let Ok(mark) = std::fs::read_to_string(&self.mark) else { return false };
        let now = self.seen();
        !mark.is_empty() && mark.lines().all(|line| now.lines().any(|seen| seen == line))
    }

    pub(super) fn set_warm(&self) -> Result<(), EngineError> {
        Ok(disk::replace(&self.mark, self.seen().as_bytes())?)
    }

    /// The folder and its databases. A number alone may be given to another one later.
    fn seen(&self) -> String {
        let mut text = String::new();
        let mut note = |name: &str, path: &Path| {
            let Ok(meta) = std::fs::symlink_metadata(path) else { return };
            let made = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let made = made.map_or(0, |at| at.as_nanos());
            let _fits = writeln!(text, "{name} {}:{}:{made}", meta.dev(), meta.ino());
        };
        note(".", &self.data);
        for entry in std::fs::read_dir(&self.data).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "db") {
                note(&entry.file_name().to_string_lossy(), &path);
            }
        }
        text
    }

    /// Waits until nobody sets it up.
    pub(super) fn lock(&self) -> Result<Setup, EngineError> {
        let failed = |source: std::io::Error| {
            EngineError::Disk(DiskError { op: "lock", path: self.data.clone(), source })
        };
        std::fs::create_dir_all(&self.data).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&self.data, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Setup(fd)),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR)
                    if began.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(LOOK_AGAIN);
                }
                Err(e) => return Err(failed(e.into())),
            }
        }
    }
}

/// The right to set the folder up.
pub(super) struct Setup(OwnedFd);

impl Setup {
    /// A second handle, which a program that is started while it lives keeps.
    pub(super) fn hand_down(&self) -> Result<OwnedFd, EngineError> {
        let failed = |source| EngineError::Io { what: "share the lock of OpenCode's data folder", source };
        let fd = self.0.try_clone().map_err(failed)?;
        rustix::io::fcntl_setfd(&fd, FdFlags::empty()).map_err(|e| failed(e.into()))?;
        Ok(fd)
    }
}
