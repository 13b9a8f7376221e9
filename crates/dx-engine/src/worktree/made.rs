//! What is recorded of a worktree that we made: a file beside it, out of the reach of an agent in a sandbox. It says how far
//! the making came, and where everything is without asking git.
//!
//! What it says is not believed blindly: nothing is removed that does not belong to the place it stands at.

use super::utf8;
use crate::error::EngineError;
use crate::git::Repository;
use dx_jobdir::disk;
use dx_protocol::{BeadsId, RunUuid, Timestamp};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const SCHEMA: &str = "dx-runner/worktree-record/1";
/// A record is short.
const MAX_BYTES: u64 = 4 << 20;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// It was never told to anybody; the next `create` goes on where it stopped.
    Making,
    Ready,
    /// Its work is saved or it had none; the next command goes on with the removal.
    Removing,
}

/// A file that was copied into the worktree, and what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) path: String,
    /// Hex SHA-256.
    pub(crate) sha256: String,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    schema: String,
    pub(crate) stage: Stage,
    pub(crate) beads: BeadsId,
    /// The main checkout, or the folder of a bare repository.
    pub(crate) repo: String,
    pub(crate) common_dir: String,
    /// Known once it is registered.
    pub(crate) git_dir: Option<String>,
    pub(crate) branch: String,
    /// We made the branch, so it may go with the worktree.
    pub(crate) branch_is_new: bool,
    /// The commit it started from.
    pub(crate) base: String,
    pub(crate) created_at: Timestamp,
    /// In the environment of everything that works on it while it is made.
    pub(crate) mark: RunUuid,
    /// The set-up commands, and whether they ran.
    #[serde(default)]
    pub(crate) setup: Vec<String>,
    /// Paths that are part of the work although git ignores them.
    #[serde(default)]
    pub(crate) copy: Vec<String>,
    #[serde(default)]
    pub(crate) copied: Vec<Copied>,
}

/// Where a worktree and its record are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `<root>/<id>`.
    pub(crate) folder: PathBuf,
    name: String,
}

impl Place {
    pub(crate) fn new(root: &Path, beads: &BeadsId, name: &OsStr) -> Result<Self, EngineError> {
        utf8(root)?;
        Ok(Self { folder: root.join(beads.as_str()), name: utf8(Path::new(name))?.to_owned() })
    }

    /// Whether this is a worktree that was made for an id, as its record beside it says.
    pub(crate) fn is_at(path: &Path) -> bool {
        let place = || {
            let (folder, name) = (path.parent()?, path.file_name()?);
            let beads: BeadsId = folder.file_name()?.to_str()?.parse().ok()?;
            Self::new(folder.parent()?, &beads, name).ok()?.load()
        };
        place().is_some()
    }

    /// The worktree.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn record(&self) -> PathBuf {
        self.folder.join(format!(".{}.json", self.name))
    }

    /// Where the worktree waits for its removal.
    pub(super) fn trash(&self) -> PathBuf {
        self.folder.join(format!(".{}.removing", self.name))
    }

    /// Output of the set-up.
    pub(crate) fn setup_log(&self) -> PathBuf {
        self.folder.join(format!("{}.setup.log", self.name))
    }

    /// The set-up's folder for temporary files, while it runs.
    pub(super) fn setup_tmp(&self) -> PathBuf {
        self.folder.join(format!(".{}.setup-tmp", self.name))
    }

    /// What is recorded; `None` when nothing readable is.
    pub(crate) fn load(&self) -> Option<Made> {
        let bytes = dx_jobdir::read_bounded(&self.record(), MAX_BYTES).ok()?;
        let made: Made = serde_json::from_slice(&bytes).ok()?;
        let id = self.folder.file_name().and_then(OsStr::to_str);
        (made.schema == SCHEMA && id == Some(made.beads.as_str())).then_some(made)
    }

    pub(super) fn save(&self, made: &Made) -> Result<(), EngineError> {
        let bytes = serde_json::to_vec(made)
            .map_err(|e| EngineError::Io { what: "write a worktree's record", source: e.into() })?;
        Ok(disk::replace(&self.record(), &bytes)?)
    }

    pub(super) fn forget(&self) -> Result<(), EngineError> {
        disk::remove(&self.record())?;
        // What commands that were killed while they wrote the record left; the lock keeps others from writing it now.
        let cut_off = format!("..{}.json.tmp-", self.name);
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&cut_off)) {
                disk::remove(&entry.path())?;
            }
        }
        // The folder stays while it holds anything: another repository's worktree, a set-up's log.
        let _kept = std::fs::remove_dir(&self.folder);
        Ok(())
    }

    /// All places of one id that have a worktree or a record.
    pub(crate) fn of_id(root: &Path, beads: &BeadsId) -> Vec<Self> {
        let folder = root.join(beads.as_str());
        let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                match name.strip_prefix('.').and_then(|n| n.strip_suffix(".json")) {
                    Some(name) => Some(name.to_owned()),
                    None => entry.path().join(".git").exists().then_some(name),
                }
            })
            .filter(|name| {
                !name.starts_with('.') || !(name.ends_with(".removing") || name.ends_with(".setup-tmp"))
            })
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| Self { folder: folder.clone(), name }).collect()
    }

    /// All places below the root.
    pub(crate) fn all(root: &Path) -> Vec<(BeadsId, Self)> {
        let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
        let mut ids: Vec<BeadsId> =
            entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        ids.sort();
        let places = |id: BeadsId| Self::of_id(root, &id).into_iter().map(move |place| (id.clone(), place));
        ids.into_iter().flat_map(places).collect()
    }
}

impl Made {
    pub(super) fn plan(beads: &BeadsId, repo: &Path, common_dir: &Path) -> Result<Self, EngineError> {
        Ok(Self {
            schema: SCHEMA.to_owned(),
            stage: Stage::Making,
            beads: beads.clone(),
            repo: utf8(repo)?.to_owned(),
            common_dir: utf8(common_dir)?.to_owned(),
            git_dir: None,
            branch: String::new(),
            branch_is_new: false,
            base: String::new(),
            created_at: Timestamp(dx_proc::clock::now_ms()),
            mark: uuid::Uuid::now_v7().to_string().parse()?,
            setup: Vec::new(),
            copy: Vec::new(),
            copied: Vec::new(),
        })
    }

    /// The worktree as a repository, by the record. `None` while it is not registered, and when the record names a place
    /// that git would not have made.
    pub(crate) fn repository(&self, place: &Place) -> Option<Repository> {
        let git_dir = PathBuf::from(self.git_dir.as_ref()?);
        let common_dir = PathBuf::from(&self.common_dir);
        let plain = git_dir.parent() == Some(&common_dir.join("worktrees")) && git_dir.file_name().is_some();
        plain.then(|| Repository { git_dir, common_dir, work_tree: place.path() })
    }

    /// The same repository without the worktree.
    pub(crate) fn main(&self) -> Repository {
        let common_dir = PathBuf::from(&self.common_dir);
        Repository { git_dir: common_dir.clone(), work_tree: common_dir.clone(), common_dir }
    }
}

/// Whether a worktree that we made belongs to another repository than it was made for; `now` is where it leads.
pub(crate) fn leads_elsewhere(worktree: &Path, now: Option<&Repository>) -> bool {
    let (Some(folder), Some(name)) = (worktree.parent(), worktree.file_name().and_then(OsStr::to_str)) else {
        return false;
    };
    let place = Place { folder: folder.to_owned(), name: name.to_owned() };
    let Some(made) = place.load().filter(|made| made.stage == Stage::Ready) else { return false };
    let Some(then) = made.repository(&place) else { return false };
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    now.is_none_or(|now| {
        real(&now.git_dir) != real(&then.git_dir) || real(&now.common_dir) != real(&then.common_dir)
    })
}

/// Whether git would look for branches and objects where the record says: it reads this file whatever its variables say.
pub(crate) fn leads_home(repository: &Repository) -> bool {
    dx_jobdir::read_bounded(&repository.git_dir.join("commondir"), 64 << 10).is_ok_and(|text| {
        let text = String::from_utf8_lossy(&text);
        let to = repository.git_dir.join(text.trim_end_matches('\n')).canonicalize();
        to.is_ok_and(|to| repository.common_dir.canonicalize().is_ok_and(|common| common == to))
    })
}

/// Whether git's own record in the repository is of this worktree, and leads home.
pub(super) fn is_registered(repository: &Repository) -> bool {
    if !leads_home(repository) {
        return false;
    }
    dx_jobdir::read_bounded(&repository.git_dir.join("gitdir"), 64 << 10).is_ok_and(|text| {
        let text = String::from_utf8_lossy(&text);
        Path::new(text.trim_end_matches('\n')) == repository.work_tree.join(".git")
    })
}
