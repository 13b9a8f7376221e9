//! Making a worktree for a job. Registration in a repository is serialised across processes; checkouts of different ids
//! are not.

use crate::error::EngineError;
use crate::git::{Repository, git_in, line};
use crate::permission;
use dx_jobdir::disk;
use dx_protocol::BeadsId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where [`auto`] makes it: `<root>/<id>/<repo>`.
pub(crate) fn place(beads: &BeadsId, repo: &Path) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    Ok(permission::worktree_root()?.join(beads.as_str()).join(name(&repository)))
}

/// What people call the repository: the folder that holds its `.git`; of a bare one its own name; of a submodule or one
/// with its git directory elsewhere the work tree's.
fn name(repository: &Repository) -> OsString {
    let common = &repository.common_dir;
    let folder = if common.file_name().is_some_and(|n| n == ".git") {
        common.parent().and_then(Path::file_name)
    } else if repository.git_dir == *common {
        repository.work_tree.file_name()
    } else {
        common.file_stem()
    };
    folder.unwrap_or_else(|| OsStr::new("repo")).to_owned()
}

/// A worktree at its [`place`] on branch `<id>`, from the repository's HEAD. One that is there already is taken again,
/// when it is of this repository.
pub(crate) fn auto(beads: &BeadsId, repo: &Path) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    let path = place(beads, repo)?;
    let parent = path.parent().unwrap_or(&path).to_owned();
    let head = line(&repository.git(&["rev-parse", "--verify", "HEAD"])?);
    std::fs::create_dir_all(&parent)
        .map_err(|source| EngineError::Io { what: "make the worktree's folder", source })?;
    // One at a time for this id, to the end of the checkout: nobody gets half a tree.
    let _own = lock(parent, OFlags::DIRECTORY | OFlags::RDONLY)?;
    if path.join(".git").exists() {
        let same = |other: &Repository| real(&other.common_dir) == real(&repository.common_dir);
        if !Repository::find(&path).as_ref().is_some_and(same) {
            return Err(EngineError::WorktreeTaken(path));
        }
    } else {
        register(beads, &repository, &path, &head)?;
    }
    // Without an index nothing was ever checked out here: a start was cut off.
    if Repository::find(&path).is_none_or(|own| !own.git_dir.join("index").exists()) {
        git_in(&path, &["reset", "--hard", "--quiet"])?;
    }
    Ok(path)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Adds the worktree, empty, to exactly this repository.
fn register(beads: &BeadsId, repository: &Repository, path: &Path, head: &str) -> Result<(), EngineError> {
    let lock_path = repository.common_dir.join("dx-runner-worktrees.lock");
    let _lock = lock(lock_path, OFlags::CREATE | OFlags::RDWR)?;
    let target = path.to_string_lossy().into_owned();
    let git_dir = format!("--git-dir={}", repository.common_dir.display());
    let at = repository.common_dir.as_path();
    let branch = format!("refs/heads/{beads}");
    if git_in(at, &[&git_dir, "rev-parse", "--verify", "--quiet", &branch]).is_ok() {
        git_in(at, &[&git_dir, "worktree", "add", "--no-checkout", "--", &target, beads.as_str()])?;
    } else {
        git_in(
            at,
            &[&git_dir, "worktree", "add", "--no-checkout", "-b", beads.as_str(), "--", &target, head],
        )?;
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
