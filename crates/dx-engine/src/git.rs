//! Calling git so that nothing an agent left in a tree can run: paths from the record instead of discovery, no hooks, no
//! fsmonitor, no external diff, no system configuration, no optional locks. Machine formats only.

use crate::error::EngineError;
use dx_protocol::TreeStart;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where a repository's parts are, found by reading files and not by asking git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) git_dir: PathBuf,
    pub(crate) common_dir: PathBuf,
    pub(crate) work_tree: PathBuf,
}

impl Repository {
    /// The repository that contains `path`; `None` when there is none.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        path.ancestors().find_map(|dir| {
            let dot_git = dir.join(".git");
            let meta = std::fs::metadata(&dot_git).ok()?;
            let git_dir = if meta.is_dir() { dot_git } else { linked(dir, &dot_git)? };
            let common_dir = read_line(&git_dir.join("commondir"))
                .and_then(|text| git_dir.join(text.trim_end()).canonicalize().ok())
                .unwrap_or_else(|| git_dir.clone());
            git_dir.join("HEAD").exists().then(|| Self { git_dir, common_dir, work_tree: dir.to_owned() })
        })
    }

    /// From a record.
    pub(crate) fn recorded(tree: &TreeStart) -> Self {
        Self {
            git_dir: tree.git_dir.clone().into(),
            common_dir: tree.common_dir.clone().into(),
            work_tree: tree.work_tree.clone().into(),
        }
    }

    /// A git command on exactly this repository.
    pub(crate) fn git(&self, args: &[&str]) -> Result<Vec<u8>, EngineError> {
        let mut command = base();
        command
            .env("GIT_DIR", &self.git_dir)
            .env("GIT_COMMON_DIR", &self.common_dir)
            .env("GIT_WORK_TREE", &self.work_tree)
            .current_dir(&self.work_tree)
            .args(args);
        run(command, args)
    }
}

/// A small file that git wrote, or an agent in its place: never a pipe, never followed, never much.
fn read_line(path: &Path) -> Option<String> {
    const MAX_BYTES: u64 = 16 << 10;
    String::from_utf8(dx_jobdir::read_bounded(path, MAX_BYTES).ok()?).ok()
}

/// `gitdir: <path>` of a linked worktree or submodule.
fn linked(dir: &Path, file: &Path) -> Option<PathBuf> {
    let text = read_line(file)?;
    dir.join(text.strip_prefix("gitdir:")?.trim()).canonicalize().ok()
}

fn base() -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    for name in ["PATH", "HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "diff.external=",
            "-c",
            "safe.directory=*",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A git command in a directory that no agent has touched (a user's repository).
pub(crate) fn git_in(dir: &Path, args: &[&str]) -> Result<Vec<u8>, EngineError> {
    let mut command = base();
    command.arg("-C").arg(dir).args(args);
    run(command, args)
}

fn run(mut command: Command, args: &[&str]) -> Result<Vec<u8>, EngineError> {
    let failed = |message: String| EngineError::Git { command: format!("git {}", args.join(" ")), message };
    let output = command.output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(text.trim().lines().last().unwrap_or("it told no reason").to_owned()))
}

/// First line of an output.
pub(crate) fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().next().unwrap_or_default().trim().to_owned()
}
