//! Making a worktree for a job. Registration in a repository is serialised across processes; checkouts of different ids
//! are not.

use crate::error::EngineError;
use crate::git::{Repository, git_in, line};
use crate::permission;
use dx_jobdir::disk;
use dx_protocol::BeadsId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where [`auto`] makes it: `<root>/<id>/<repo>`.
pub(crate) fn place(beads: &BeadsId, repo: &Path) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    let main = repository.common_dir.parent().unwrap_or(&repository.work_tree);
    let name = main.file_name().unwrap_or_else(|| std::ffi::OsStr::new("repo"));
    Ok(permission::worktree_root()?.join(beads.as_str()).join(name))
}

/// A worktree at its [`place`] on branch `<id>`, from the repository's HEAD. One that is there already is taken again.
pub(crate) fn auto(beads: &BeadsId, repo: &Path) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    let main = repository.common_dir.parent().unwrap_or(&repository.work_tree).to_owned();
    let path = place(beads, repo)?;
    let parent = path.parent().unwrap_or(&path).to_owned();
    std::fs::create_dir_all(&parent)
        .map_err(|source| EngineError::Io { what: "make the worktree's folder", source })?;
    // One at a time for this id, to the end of the checkout: nobody gets half a tree.
    let _own = lock(parent, OFlags::DIRECTORY | OFlags::RDONLY)?;
    if !path.join(".git").exists() {
        register(beads, &repository, &main, &path)?;
    }
    // Without an index nothing was ever checked out here: a start was cut off.
    if Repository::find(&path).is_none_or(|own| !own.git_dir.join("index").exists()) {
        git_in(&path, &["reset", "--hard", "--quiet"])?;
    }
    Ok(path)
}

/// Adds the worktree, empty, to the repository.
fn register(beads: &BeadsId, repository: &Repository, main: &Path, path: &Path) -> Result<(), EngineError> {
    let lock_path = repository.common_dir.join("dx-runner-worktrees.lock");
    let _lock = lock(lock_path, OFlags::CREATE | OFlags::RDWR)?;
    let target = path.to_string_lossy().into_owned();
    let branch = format!("refs/heads/{beads}");
    if git_in(main, &["rev-parse", "--verify", "--quiet", &branch]).is_ok() {
        git_in(main, &["worktree", "add", "--no-checkout", "--", &target, beads.as_str()])?;
    } else {
        let head = line(&git_in(&repository.work_tree, &["rev-parse", "--verify", "HEAD"])?);
        git_in(main, &["worktree", "add", "--no-checkout", "-b", beads.as_str(), "--", &target, &head])?;
    }
    Ok(())
}

/// Opens and locks; the lock goes with the descriptor.
fn lock(path: PathBuf, flags: OFlags) -> Result<OwnedFd, EngineError> {
    let failed = |path, e: rustix::io::Errno| {
        EngineError::Disk(disk::DiskError { op: "lock", path, source: e.into() })
    };
    let fd = match rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(e) => return Err(failed(path, e)),
    };
    rustix::fs::flock(&fd, FlockOperation::LockExclusive).map_err(|e| failed(path, e))?;
    Ok(fd)
}
