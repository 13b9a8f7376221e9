//! Making a worktree for a job. Registration in a repository is serialised across processes; the checkout is not.

use crate::error::EngineError;
use crate::git::{Repository, git_in, line};
use crate::permission;
use dx_jobdir::disk;
use dx_protocol::BeadsId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::path::{Path, PathBuf};

/// `<root>/<id>/<repo>` on branch `<id>`, from the repository's HEAD. A worktree that is there already is taken again.
pub(crate) fn auto(beads: &BeadsId, repo: &Path) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    let main = repository.common_dir.parent().unwrap_or(&repository.work_tree).to_owned();
    let name = main.file_name().unwrap_or_else(|| std::ffi::OsStr::new("repo"));
    let parent = permission::worktree_root()?.join(beads.as_str());
    let path = parent.join(name);
    if path.join(".git").exists() {
        return Ok(path);
    }
    std::fs::create_dir_all(&parent)
        .map_err(|source| EngineError::Io { what: "make the worktree's folder", source })?;
    let lock_path = repository.common_dir.join("dx-runner-worktrees.lock");
    let lock = rustix::fs::open(
        &lock_path,
        OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )
    .map_err(|e| disk::DiskError { op: "lock", path: lock_path, source: e.into() })?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| EngineError::Io { what: "lock the repository's worktrees", source: e.into() })?;
    let target = path.to_string_lossy().into_owned();
    let branch = format!("refs/heads/{beads}");
    let exists = git_in(&main, &["rev-parse", "--verify", "--quiet", &branch]).is_ok();
    let head = line(&git_in(&repository.work_tree, &["rev-parse", "--verify", "HEAD"])?);
    if exists {
        git_in(&main, &["worktree", "add", "--no-checkout", "--", &target, beads.as_str()])?;
    } else {
        git_in(&main, &["worktree", "add", "--no-checkout", "-b", beads.as_str(), "--", &target, &head])?;
    }
    drop(lock);
    git_in(&path, &["reset", "--hard", "--quiet"])?;
    Ok(path)
}
