//! Worktrees for jobs: `<root>/<id>/<repo>`, each with a record of ours beside it. Making one, listing, keeping its work as
//! a ref, removing it.
//!
//! Two locks: that of a worktree's folder `<root>/<id>` for as long as something is done to it, and that of the
//! repository's common directory while one is registered there. Git is called by the recorded paths. Must never lose work
//! that is not in a ref.

mod copy;
mod create;
mod disk_use;
mod inspect;
mod list;
mod lock;
mod made;
mod project;
mod register;
mod remove;
mod salvage;
mod setup;

pub(crate) use create::{Ready, Wish, create, place, undo_unused};

use crate::Engine;
use crate::api::WorktreeRequest;
use crate::error::EngineError;
<<<<<<< HEAD
use crate::git::Repository;
use dx_protocol::WorktreeDocument;
use std::path::{Path, PathBuf};

impl Engine {
    /// Makes a worktree, or answers with the one that is there.
    pub fn worktree_create(&self, request: &WorktreeRequest) -> Result<WorktreeDocument, EngineError> {
        let progress = |what: &str| self.progress(what);
        let ready = create(&Wish {
            beads: &request.beads,
            repo: &request.repo,
            base: request.base.as_deref(),
            branch: request.branch.as_deref(),
            progress: &progress,
        })?;
        let Ready { made, place, .. } = &ready;
        let set_up = !made.setup.is_empty();
        Ok(WorktreeDocument {
            schema: "dx-runner/worktree/1".to_owned(),
            beads: made.beads.to_string(),
            path: place.path().display().to_string(),
            branch: made.branch.clone(),
            base: made.base.clone(),
            repo: made.repo.clone(),
            created: ready.fresh,
            setup: made.setup.clone(),
            setup_log: set_up.then(|| place.setup_log().display().to_string()),
            copied: made.copied.iter().map(|copied| copied.path.clone()).collect(),
            remarks: ready.remarks.clone(),
        })
    }
=======
use crate::git::{Repository, git_in, line};
use crate::permission::Places;
use dx_jobdir::disk;
use dx_protocol::BeadsId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where [`auto`] makes it: `<root>/<id>/<repo>`.
pub(crate) fn place(beads: &BeadsId, repo: &Path, places: &Places) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    Ok(places.worktree_root()?.join(beads.as_str()).join(name(&repository)))
>>>>>>> c08bc29 (feat: configuration in layers, with where each value comes from; profiles)
}

/// The text of a path; one that is not UTF-8 cannot be recorded and is refused before anything is made.
pub(crate) fn utf8(path: &Path) -> Result<&str, EngineError> {
    path.to_str().ok_or_else(|| EngineError::PathNotUtf8(path.to_owned()))
}

/// The user's own checkout: what `.dx-runner.toml` is read from, and the branch that work is compared with. `None` for a bare
/// repository. A linked worktree is never it: that may be an agent's.
pub(crate) fn main_checkout(repository: &Repository) -> Option<PathBuf> {
    if repository.git_dir == repository.common_dir {
        return (repository.work_tree != repository.common_dir).then(|| repository.work_tree.clone());
    }
    let common = &repository.common_dir;
<<<<<<< HEAD
    let parent = common.file_name().is_some_and(|name| name == ".git").then(|| common.parent()).flatten();
    parent.map(Path::to_owned)
=======
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
pub(crate) fn auto(beads: &BeadsId, repo: &Path, places: &Places) -> Result<PathBuf, EngineError> {
    let repository = Repository::find(repo).ok_or(EngineError::NoWorktree)?;
    let path = place(beads, repo, places)?;
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
>>>>>>> c08bc29 (feat: configuration in layers, with where each value comes from; profiles)
}
