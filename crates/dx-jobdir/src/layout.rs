//! Where everything is, and whether the place may be trusted.
//!
//! ```text
//! <state dir>/
//!   live/<provider>.<id>        the claim: a second name of the run's journal
//!   ended/<day>.jsonl           one line per ended run
//!   queue/<provider>.<number>   the place of a start that waits for its turn, locked by it
//!   runs/<uuid>/                one run: journal exit log err prompt tree repository check.log request.*
//!   <provider>/<id>.<suffix>    published views of the newest run
//!   tmp/<short>/                one run's TMPDIR
//!   waves/<id>/                 one wave: journal prompt.* review.* cancel
//!   pools.jsonl                 providers' accounts that take nothing before a time
//!   watchdog.lock, watchdog.json  held by the watchdog; what it has decided and not finished
//!   history/<month>.jsonl       one line per ended run, for ever; of the default place: ../history/
//!   server.json, server.lock    address and password of the shared OpenCode server; server.<id>.json of one of its own
//!   batches/<id>.json           questions to several models, and their answers
//!   questions/<mark>.json       what is being asked, locked by who asks
//!   claims.lock, waves.lock
//! ```

use crate::disk::{self, DiskError};
use dx_protocol::{BeadsId, ProviderName, RunUuid};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a state directory is refused.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("{} is not a directory, or is reached by a symbolic link", .0.display())]
    NotADirectory(PathBuf),
    #[error("{} belongs to user {owner}, not to {expected}", path.display())]
    ForeignOwner { path: PathBuf, owner: u32, expected: u32 },
    #[error("{} is open to others (mode {mode:o})", path.display())]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A checked state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// The id of the server that everything shares.
const SHARED_SERVER: &str = "server";

const FOLDERS: [&str; 5] = ["live", "queue", "ended", "runs", "tmp"];

impl StateDir {
    /// Opens for writing: makes what is missing (0700), refuses what is not ours or not private.
    pub fn open(root: &Path) -> Result<Self, StateDirError> {
        if !root.exists() {
            let mut missing: Vec<&Path> = root.ancestors().take_while(|p| !p.exists()).collect();
            while let Some(dir) = missing.pop() {
                disk::make_dir(dir)?;
                // A claim is worth nothing below a folder that a power cut takes away.
                disk::sync_dir(dir.parent().unwrap_or(dir))?;
            }
        }
        let this = Self { root: root.to_owned() };
        this.check()?;
        let mut made = false;
        for folder in FOLDERS {
            made |= disk::make_dir(&root.join(folder))?;
            check_directory(&root.join(folder))?;
        }
        if made {
            disk::sync_dir(root)?;
        }
        Ok(this)
    }

    /// Opens for reading: makes nothing. `None` when there is nothing.
    pub fn open_existing(root: &Path) -> Result<Option<Self>, StateDirError> {
        match std::fs::symlink_metadata(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DiskError { op: "look at", path: root.to_owned(), source }.into()),
            Ok(_) => {
                let this = Self { root: root.to_owned() };
                this.check()?;
                Ok(Some(this))
            }
        }
    }

    /// For processes that were handed a state directory by one that checked it.
    pub fn trusted(root: PathBuf) -> Self {
        Self { root }
    }

    fn check(&self) -> Result<(), StateDirError> {
        check_directory(&self.root)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn claims_lock(&self) -> PathBuf {
        self.root.join("claims.lock")
    }

    /// Address and password of an OpenCode server of ours, by its job's id; `server` is the shared one.
    pub fn server_file(&self, beads: &BeadsId) -> PathBuf {
        if beads.as_str() == SHARED_SERVER {
            return self.root.join("server.json");
        }
        self.root.join(format!("server.{beads}.json"))
    }

    /// The shell of the tools of such servers, under the name of the one that it runs.
    pub fn server_shell_dir(&self) -> PathBuf {
        self.root.join("server-shell")
    }

    /// The ids of the servers that have such a file.
    pub fn server_ids(&self) -> Vec<BeadsId> {
        let id = |name: &str| {
            let id = name.strip_prefix("server.")?.strip_suffix("json")?;
            id.strip_suffix('.').unwrap_or(SHARED_SERVER).parse().ok()
        };
        let names = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        names.filter_map(|entry| id(entry.file_name().to_str()?)).collect()
    }

    /// Questions to several models, and their answers.
    pub fn batches_dir(&self) -> PathBuf {
        self.root.join("batches")
    }

    /// What is being asked.
    pub fn questions_dir(&self) -> PathBuf {
        self.root.join("questions")
    }

    /// Held while such a server is started or stopped.
    pub fn server_lock(&self) -> PathBuf {
        self.root.join("server.lock")
    }

    pub fn live_dir(&self) -> PathBuf {
        self.root.join("live")
    }

    /// Places of starts that wait for their turn.
    pub fn queue_dir(&self) -> PathBuf {
        self.root.join("queue")
    }

    pub fn ended_dir(&self) -> PathBuf {
        self.root.join("ended")
    }

    pub fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }

    pub fn waves_dir(&self) -> PathBuf {
        self.root.join("waves")
    }

    /// Held while a wave is recorded.
    pub fn waves_lock(&self) -> PathBuf {
        self.root.join("waves.lock")
    }

    /// Providers' accounts that take nothing before a time.
    pub fn pools_file(&self) -> PathBuf {
        self.root.join("pools.jsonl")
    }

    /// Held by the watchdog.
    pub fn watchdog_lock(&self) -> PathBuf {
        self.root.join("watchdog.lock")
    }

    /// What the watchdog has decided and not finished.
    pub fn watchdog_file(&self) -> PathBuf {
        self.root.join("watchdog.json")
    }

    /// Place for caches that may be deleted at any time.
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The history. The default place has it beside the jobs, where jobs may be cleared away without it; any other state
    /// directory keeps its own inside, so that two never mix. Told by the name alone: every process must get the same.
    pub fn history_dir(&self) -> PathBuf {
        match self.root.parent() {
            Some(base) if self.root.ends_with("dx-runner/jobs") => base.join("history"),
            _ => self.root.join("history"),
        }
    }

    /// Makes the folder of the history and tells whether it is new; refuses one that is a link or somebody else's.
    pub fn make_history_dir(&self) -> Result<bool, StateDirError> {
        let dir = self.history_dir();
        let made = disk::make_dir(&dir)?;
        check_directory(&dir)?;
        Ok(made)
    }

    /// Makes the folder of caches; refuses one that is a link or somebody else's.
    pub fn make_cache_dir(&self) -> Result<PathBuf, StateDirError> {
        let dir = self.cache_dir();
        disk::make_dir(&dir)?;
        check_directory(&dir)?;
        Ok(dir)
    }

    /// The claim of a job.
    pub fn live(&self, provider: &ProviderName, beads: &BeadsId) -> PathBuf {
        self.live_dir().join(format!("{provider}.{beads}"))
    }

    /// The ended index of a day (`YYYY-mm-dd`).
    pub fn ended(&self, day: &str) -> PathBuf {
        self.ended_dir().join(format!("{day}.jsonl"))
    }

    pub fn run(&self, uuid: &RunUuid) -> RunPaths {
        RunPaths { dir: self.runs_dir().join(uuid.as_str()) }
    }

    /// A run's TMPDIR; short, because agents make sockets there.
    pub fn tmp(&self, uuid: &RunUuid) -> PathBuf {
        self.root.join("tmp").join(&uuid.as_str()[24..])
    }

    /// Where an adapter script's shell may write its job's exit code.
    pub fn rc_file(&self, uuid: &RunUuid) -> PathBuf {
        self.tmp(uuid).join("rc")
    }
    pub fn provider_dir(&self, provider: &ProviderName) -> PathBuf {
        self.root.join(provider.as_str())
    }

    /// A published file of the newest run of a job, for example suffix `log`.
    pub fn view(&self, provider: &ProviderName, beads: &BeadsId, suffix: &str) -> PathBuf {
        self.provider_dir(provider).join(format!("{beads}.{suffix}"))
    }

    /// Makes a provider's folder of views; refuses one that is a link or somebody else's. A new one is not durable yet:
    /// the end of a run makes it so ([`crate::views::publish_end`]).
    pub fn make_provider_dir(&self, provider: &ProviderName) -> Result<(), StateDirError> {
        let dir = self.provider_dir(provider);
        disk::make_dir(&dir)?;
        check_directory(&dir)
    }

    /// Providers that have views, by name.
    pub fn providers(&self) -> Vec<ProviderName> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let mut names: Vec<ProviderName> = entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .collect();
        names.sort();
        names
    }
}

/// A directory of ours: no link, our owner, nobody else may write or read.
fn check_directory(path: &Path) -> Result<(), StateDirError> {
    let meta = std::fs::symlink_metadata(path).map_err(|source| DiskError {
        op: "look at",
        path: path.to_owned(),
        source,
    })?;
    if !meta.is_dir() {
        return Err(StateDirError::NotADirectory(path.to_owned()));
    }
    let expected = rustix::process::geteuid().as_raw();
    if meta.uid() != expected {
        return Err(StateDirError::ForeignOwner { path: path.to_owned(), owner: meta.uid(), expected });
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateDirError::OpenToOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The files of one run.
#[derive(Debug, Clone)]
pub struct RunPaths {
    dir: PathBuf,
}

impl RunPaths {
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }
    pub fn exit(&self) -> PathBuf {
        self.dir.join("exit")
    }
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
    pub fn err(&self) -> PathBuf {
        self.dir.join("err")
    }
    /// What an adapter script printed of the job it left.
    pub fn adapter(&self) -> PathBuf {
        self.dir.join("adapter")
    }
    pub fn prompt(&self) -> PathBuf {
        self.dir.join("prompt")
    }
    /// What was dirty in the worktree at start; absent when nothing was.
    pub fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }
    /// What of the repository must not change under the job, and its branches, at start.
    pub fn repository(&self) -> PathBuf {
        self.dir.join("repository")
    }
    /// Output of the command of `--check`.
    pub fn check_log(&self) -> PathBuf {
        self.dir.join("check.log")
    }
    /// Held by who tells of the run's changes.
    pub fn notify_lock(&self) -> PathBuf {
        self.dir.join("notify.lock")
    }
    /// The number of the last notice that nobody needs to try again.
    pub fn notified(&self) -> PathBuf {
        self.dir.join("notified")
    }
    /// What could not be told last, and why.
    pub fn notify_failure(&self) -> PathBuf {
        self.dir.join("notify.failure")
    }
    /// A request file; `kind` is one of the `REQUEST_*` names.
    pub fn request(&self, kind: &str) -> PathBuf {
        self.dir.join(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn makes_private_folders_and_refuses_links_and_open_ones() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("a/b");
        let state = StateDir::open(&root).unwrap();
        assert_eq!(std::fs::metadata(state.live_dir()).unwrap().mode() & 0o777, 0o700);

        symlink(&root, tmp.path().join("link")).unwrap();
        assert!(matches!(StateDir::open(&tmp.path().join("link")), Err(StateDirError::NotADirectory(_))));

        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(StateDir::open(&root), Err(StateDirError::OpenToOthers { .. })));
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();

        std::fs::remove_dir(root.join("live")).unwrap();
        symlink(tmp.path(), root.join("live")).unwrap();
        assert!(StateDir::open(&root).is_err());
        assert!(StateDir::open_existing(&tmp.path().join("none")).unwrap().is_none());
    }
}
