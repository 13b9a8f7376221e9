//! The folder that OpenCode reads, the manifest of ours in it, and what may be written there.
//!
//! Must never: follow a link of a file of ours to write behind it, or write what the plan does not name.

use crate::environment;
use crate::error::EngineError;
use crate::git::Repository;
use crate::worktree::lock::Lock;
use dx_jobdir::faults;
use dx_protocol::PackManifest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the manifest in the target.
pub(super) const MANIFEST: &str = ".dx-runner-workflow.json";
pub(super) const MANIFEST_SCHEMA: &str = "dx-runner/pack-manifest/1";
/// The folders that are ours to write in.
pub(super) const FOLDERS: [&str; 3] = ["agents", "commands", "plugins"];
/// Ends the names of files that are being written.
const NEW: &str = ".dx-runner-new";
/// The sticky bit: on a folder that we made and that no manifest names yet.
const MARK: u32 = 0o1000;
/// No definition is larger.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Where the pack goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkflowScope {
    /// The user's configuration of OpenCode.
    Global,
    /// `.opencode` at the top of the repository that the current directory is in.
    Project,
}

impl WorkflowScope {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Project => "project",
        }
    }

    /// The folder; it need not be there.
    pub(super) fn folder(self) -> Result<PathBuf, EngineError> {
        let io = |what| move |source| EngineError::Io { what, source };
        let found = match self {
            Self::Project => {
                let here = std::env::current_dir().map_err(io("read the current directory"))?;
                let top = Repository::find(&here).map_or(here, |repository| repository.work_tree);
                top.join(".opencode")
            }
            Self::Global => {
                let own = std::env::var_os("OPENCODE_CONFIG_DIR").filter(|value| !value.is_empty());
                let shared =
                    || environment::dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("opencode"));
                own.map(PathBuf::from).or_else(shared).ok_or(EngineError::NoHome)?
            }
        };
        std::path::absolute(found).map_err(io("resolve the folder of OpenCode"))
    }
}

/// A folder that is looked at.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) scope: WorkflowScope,
    pub(super) folder: PathBuf,
}

impl Target {
    pub(super) fn of(scope: WorkflowScope) -> Result<Self, EngineError> {
        Ok(Self { scope, folder: scope.folder()? })
    }

    /// What a command line needs to mean this target.
    pub(super) fn flag(&self) -> &'static str {
        match self.scope {
            WorkflowScope::Global => "",
            WorkflowScope::Project => " --scope project",
        }
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.folder.join(below)
    }

    /// The manifest; `None` when there is none.
    pub(super) fn manifest(&self) -> Result<Option<PackManifest>, EngineError> {
        let Some(manifest) = self.record::<PackManifest>(MANIFEST, MANIFEST_SCHEMA)? else { return Ok(None) };
        // What leads out of the target was not written by us.
        let safe = manifest.files.iter().all(|file| is_below(&file.path));
        let why = "names files outside of the pack's folders".to_owned();
        let broken = || EngineError::PackRecord { path: self.path(MANIFEST), why, newer: false };
        if safe { Ok(Some(manifest)) } else { Err(broken()) }
    }

    /// Its very bytes, so that it can be brought back as it was.
    pub(super) fn manifest_text(&self) -> Option<String> {
        match self.content(MANIFEST) {
            Content::File(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// A record of ours; `None` when there is none.
    pub(super) fn record<T: DeserializeOwned>(
        &self,
        name: &str,
        schema: &str,
    ) -> Result<Option<T>, EngineError> {
        let path = self.path(name);
        let broken = |why: String, newer| EngineError::PackRecord { path: path.clone(), why, newer };
        let bytes = match dx_jobdir::read_bounded(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(broken(format!("cannot be read: {error}"), false)),
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|error| broken(format!("is damaged: {error}"), false))?;
        let told = value.get("schema").and_then(serde_json::Value::as_str).unwrap_or_default();
        if told != schema {
            let newer =
                told.rsplit_once('/').map(|(name, _)| name) == schema.rsplit_once('/').map(|(name, _)| name);
            return Err(broken(format!("has the schema `{told}`, and this program knows `{schema}`"), newer));
        }
        serde_json::from_value(value).map(Some).map_err(|error| broken(format!("is damaged: {error}"), false))
    }

    /// Content of a file of the target; `None` when nothing is there. A link, a folder or what is too large is not read.
    pub(super) fn content(&self, below: &str) -> Content {
        let path = self.path(below);
        match fs::symlink_metadata(&path) {
            Err(_) => Content::Missing,
            Ok(meta) if meta.is_file() && meta.len() <= MAX_BYTES => {
                dx_jobdir::read_bounded(&path, MAX_BYTES).map_or(Content::Other, Content::File)
            }
            Ok(_) => Content::Other,
        }
    }

    /// Refuses before anything is changed when something could not be.
    pub(super) fn check_writable(&self) -> Result<(), EngineError> {
        let refuse = |path: &Path, why: &str| {
            Err(EngineError::PackTarget { path: path.to_owned(), why: why.to_owned() })
        };
        for path in FOLDERS.map(|folder| self.path(folder)).iter().chain([&self.folder]) {
            let there = path.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(path);
            if !there.is_dir() {
                return refuse(there, "it is not a folder");
            }
            if let Err(error) = rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
                return refuse(there, &io::Error::from(error).to_string());
            }
        }
        Ok(())
    }

    /// Makes the folders that are missing and takes the target's lock; the names of those that are ours now. They are marked
    /// until the manifest names them: one that was empty before is not ours.
    pub(super) fn prepare(&self) -> Result<(Lock, Vec<String>), EngineError> {
        let mut made = Vec::new();
        for name in std::iter::once(".").chain(FOLDERS) {
            let path = self.named(name);
            if !path.is_dir() {
                make_marked(&path).map_err(|source| failed(&path, &source))?;
            }
            if is_marked(&path) && holds_nothing(&path, name == ".") {
                made.push(name.to_owned());
            }
        }
        faults::step("workflow.folders_made");
        Ok((self.lock()?, made))
    }

    /// A folder of the manifest, whose `.` is the target.
    fn named(&self, name: &str) -> PathBuf {
        if name == "." { self.folder.clone() } else { self.path(name) }
    }

    /// The manifest names these folders: the mark goes.
    pub(super) fn unmark(&self, folders: &[String]) {
        for path in folders.iter().map(|name| self.named(name)).filter(|path| is_marked(path)) {
            if let Ok(meta) = fs::metadata(&path) {
                let plain = fs::Permissions::from_mode(meta.permissions().mode() & !MARK);
                // One that stays harms nobody.
                let _stays = fs::set_permissions(&path, plain);
            }
        }
    }

    /// One writer at a time.
    pub(super) fn lock(&self) -> Result<Lock, EngineError> {
        let real = self.folder.canonicalize().map_err(|source| failed(&self.folder, &source))?;
        Lock::existing(&real)?.ok_or_else(|| EngineError::PackNotInstalled(self.folder.clone()))
    }

    /// Writes a file whole or not at all; readers see the old or the new one.
    pub(super) fn put(&self, below: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let path = self.path(below);
        let temporary = temporary(&path);
        let write = || {
            let _stale = fs::remove_file(&temporary);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
            // Who may read it is the user's to say.
            if let Ok(old) = fs::metadata(&path) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(bytes)?;
            file.sync_data()?;
            faults::step("workflow.temporary_written");
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let _gone = fs::remove_file(&temporary);
            failed(&path, &source)
        })
    }

    /// The same for a record.
    pub(super) fn put_record<T: Serialize>(&self, name: &str, record: &T) -> Result<(), EngineError> {
        let io =
            |source: serde_json::Error| EngineError::Io { what: "write a record", source: source.into() };
        let mut bytes = serde_json::to_vec_pretty(record).map_err(io)?;
        bytes.push(b'\n');
        self.put(name, &bytes)
    }

    /// Removes a file; absent is fine.
    pub(super) fn remove(&self, below: &str) -> Result<(), EngineError> {
        let path = self.path(below);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| failed(&path, &source)),
        }
    }

    /// Gives a file's content a second name beside it, so that the first can be written over.
    pub(super) fn keep(&self, below: &str, backup: &str) -> Result<(), EngineError> {
        let (from, to) = (self.path(below), self.path(backup));
        if fs::symlink_metadata(&to).is_ok() {
            return Ok(());
        }
        // Not every file system has second names.
        let kept = fs::hard_link(&from, &to).or_else(|_| {
            let temporary = temporary(&to);
            fs::copy(&from, &temporary).and_then(|_| fs::rename(&temporary, &to))
        });
        kept.map_err(|source| failed(&to, &source))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(|source| failed(&to, &source))
    }

    /// Removes what a writer that was killed left beside files of ours. The lock is held, so nobody is writing now.
    pub(super) fn sweep(&self) {
        for folder in std::iter::once(self.folder.clone()).chain(FOLDERS.map(|name| self.path(name))) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_str().is_some_and(is_unfinished) {
                    let _gone = fs::remove_file(entry.path());
                }
            }
        }
    }

    /// Removes folders of ours that hold nothing any more, innermost first.
    pub(super) fn remove_folders(&self, folders: &[String]) {
        for name in folders.iter().rev() {
            // One that holds something is not ours alone.
            let _kept = fs::remove_dir(self.named(name));
        }
    }
}

fn failed(path: &Path, source: &io::Error) -> EngineError {
    EngineError::PackTarget { path: path.to_owned(), why: source.to_string() }
}

/// Makes a folder that can be told from one of the user's from its first moment on.
fn make_marked(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    match fs::DirBuilder::new().mode(0o777 | MARK).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

fn is_marked(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & MARK != 0)
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Missing,
    File(Vec<u8>),
    /// A link, a folder, or what nobody can read.
    Other,
}

/// Whether a folder is as an installation that was cut off at its beginning left it.
fn holds_nothing(path: &Path, is_target: bool) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    let is_nothing = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { return false };
        let is_ours = is_target && FOLDERS.contains(&name);
        is_unfinished(name) || (is_ours && holds_nothing(&entry.path(), false))
    };
    entries.flatten().all(is_nothing)
}

/// Whether a file of this name was being written by us.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(NEW)
}

/// Only one writer holds the lock, so one name is enough.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{NEW}"))
}

/// Whether this names a file directly in one of the pack's folders.
pub(super) fn is_below(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    matches!(parts[..], [folder, name] if FOLDERS.contains(&folder) && !name.is_empty() && name != "..")
}
