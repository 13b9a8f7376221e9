//! Asking an agent's own program about itself: one short run with a deadline, its output in files.
//!
//! Called by providers while a start is prepared. Must never give the program a terminal or input, or wait for ever.

use super::Wish;
use crate::asked::Asked;
use dx_jobdir::disk;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// What the program said.
pub(super) struct Answer {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Why there is no answer.
pub(super) enum AskError {
    Disk(disk::DiskError),
    /// For people, to be put behind the command.
    Failed(String),
}

/// Runs `binary args` in the job's environment, in its worktree or what exists of the way to it.
pub(super) fn ask(
    wish: &Wish<'_>,
    binary: &Path,
    args: &[&str],
    env: &[(&'static str, String)],
    deadline: Duration,
) -> Result<Answer, AskError> {
    // Files: pipes would have to be drained while waiting.
    let dir = wish.state.cache_dir();
    disk::make_dir(&dir).map_err(AskError::Disk)?;
    let (out, err) = (Scratch::new(&dir, "out")?, Scratch::new(&dir, "err")?);
    let mut command = Command::new(binary);
    command
        .args(args)
        .env_clear()
        .envs(wish.env.iter().map(|(n, v)| (n, v)))
        .envs(env.iter().map(|(n, v)| (n, v)))
        .current_dir(wish.worktree.ancestors().find(|p| p.is_dir()).unwrap_or(wish.worktree))
        .stdin(Stdio::null())
        .stdout(out.file()?)
        .stderr(err.file()?);
    let mut asked =
        Asked::start(&mut command).map_err(|e| AskError::Failed(format!("could not be started: {e}")))?;
    let late = || AskError::Failed(format!("did not answer in {} s", deadline.as_secs()));
    let status = asked.wait(deadline).map_err(|e| AskError::Failed(e.to_string()))?.ok_or_else(late)?;
    Ok(Answer { status, stdout: out.text(), stderr: err.text() })
}

/// A file that goes with the value.
struct Scratch(PathBuf, File);

impl Scratch {
    fn new(dir: &Path, word: &str) -> Result<Self, AskError> {
        let path = dir.join(format!(".{word}-{}-{}", std::process::id(), dx_proc::clock::monotonic_ms()));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(file) => Ok(Self(path, file)),
            Err(source) => Err(AskError::Disk(disk::DiskError { op: "create", path, source })),
        }
    }

    fn file(&self) -> Result<File, AskError> {
        self.1.try_clone().map_err(|e| AskError::Failed(e.to_string()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.0).unwrap_or_default()).into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.0);
    }
}
