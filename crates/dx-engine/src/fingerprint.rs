//! What of a repository must not change under a job, recorded at its start and looked at again before git is asked at its
//! end: where the worktree leads, configuration, hooks, branches. Read as files, because a git process would cost `start`
//! more than all the rest; only a repository with reftables is asked.
//!
//! Called by `start`, by the settler's steps. Must never follow a link, wait for a pipe, or run anything of the repository's.

use crate::error::EngineError;
use crate::git::Repository;
use crate::prompt::sha256_hex;
use dx_jobdir::{disk, read_bounded};
use dx_protocol::RefChange;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// More branches than this are not recorded, and nothing is said of them then.
const MAX_REFS: usize = 20_000;
/// Folders below `refs` are not looked into beyond this depth.
const MAX_DEPTH: usize = 32;
const MAX_PACKED_BYTES: u64 = 64 << 20;
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The record of a start is not read beyond this.
const MAX_RECORD_BYTES: u64 = 16 << 20;
/// A hash in a record is cut to this: it is compared with itself only.
const HEX_DIGITS: usize = 32;

const COMMONDIR: &str = "commondir";
const GIT_FOLDER: &str = "git folder";
const COMMON_FOLDER: &str = "common folder";

const HEADS: &str = "refs/heads/";
const REMOTES: &str = "refs/remotes/";
const TAGS: &str = "refs/tags/";

/// One look at a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Where the worktree leads: `.git`, `commondir`, `gitdir`, and which folders these are.
    links: BTreeMap<String, String>,
    /// Files that tell git what to do, and what to overlook.
    config: BTreeMap<String, String>,
    /// Hooks that git would run.
    hooks: BTreeMap<String, String>,
    /// Branches, local and remote-tracking ones, and tags; `None` when they could not be read, or are too many.
    refs: Option<BTreeMap<String, String>>,
    /// Whether tags are among them: a record of an older version has none.
    #[serde(default)]
    with_tags: bool,
}

impl Fingerprint {
    pub(crate) fn take(repository: &Repository) -> Self {
        Self {
            links: links(repository),
            config: config(repository),
            hooks: hooks(&repository.common_dir.join("hooks")),
            refs: refs(repository),
            with_tags: true,
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), EngineError> {
        Ok(disk::write_new(path, &serde_json::to_vec(self).unwrap_or_default())?)
    }

    /// `None` for a run from before there were fingerprints.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&read_bounded(path, MAX_RECORD_BYTES).ok()?).ok()
    }

    /// What leads elsewhere now.
    pub(crate) fn redirected(&self, now: &Self) -> Vec<String> {
        differing(&self.links, &now.links)
    }

    /// Whether git would look in another place than the recorded one: it reads `commondir` for branches whatever its
    /// variables say. Then it must not be asked.
    pub(crate) fn misleads(&self, repository: &Repository) -> bool {
        let now = links(repository);
        [COMMONDIR, GIT_FOLDER, COMMON_FOLDER].iter().any(|name| self.links.get(*name) != now.get(*name))
    }

    pub(crate) fn changed_config(&self, now: &Self) -> Vec<String> {
        differing(&self.config, &now.config)
    }

    pub(crate) fn changed_hooks(&self, now: &Self) -> Vec<String> {
        differing(&self.hooks, &now.hooks)
    }

    /// All commits that branches were at.
    pub(crate) fn commits(&self) -> impl Iterator<Item = &str> {
        let refs = self.refs.iter().flatten().filter(|(name, _)| !name.starts_with(TAGS));
        refs.map(|(_, oid)| oid.as_str()).filter(|oid| is_oid(oid))
    }

    /// Refs that changed: local branches, without the job's own (the one it began on, and a new one that it ended on), tags
    /// that were moved or deleted, and remote-tracking branches that were moved or deleted. New tags and new
    /// remote-tracking branches, which any fetch brings, take nothing away.
    pub(crate) fn foreign_refs(
        &self,
        now: &Self,
        began_on: Option<&str>,
        ended_on: Option<&str>,
    ) -> Vec<RefChange> {
        let (Some(before), Some(after)) = (&self.refs, &now.refs) else { return Vec::new() };
        let wanted = |name: &&String| {
            name.starts_with(HEADS)
                || (name.starts_with(TAGS) && self.with_tags && before.contains_key(*name))
                || (name.starts_with(REMOTES) && before.contains_key(*name))
        };
        let mut names: Vec<&String> = before.keys().chain(after.keys()).filter(wanted).collect();
        names.sort();
        names.dedup();
        let own = |name: &str| {
            let branch = name.strip_prefix(HEADS);
            branch == began_on || (branch == ended_on && !before.contains_key(name))
        };
        names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name) && !own(name))
            .map(|name| RefChange {
                name: name.clone(),
                was: before.get(name).cloned(),
                now: after.get(name).cloned(),
                job: None,
            })
            .collect()
    }
}

fn differing(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let mut names: Vec<String> = before
        .iter()
        .filter(|(name, value)| now.get(*name) != Some(value))
        .chain(now.iter().filter(|(name, _)| !before.contains_key(*name)))
        .map(|(name, _)| name.clone())
        .collect();
    names.sort();
    names
}

fn hash(bytes: &[u8]) -> String {
    let mut hex = sha256_hex(bytes);
    hex.truncate(HEX_DIGITS);
    hex
}

/// What stands at a path, without following it.
fn look(path: &Path) -> String {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return "absent".to_owned() };
    if meta.is_dir() {
        // A number alone may be given to another one later.
        let made = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        return format!("folder {}:{}:{}", meta.dev(), meta.ino(), made.map_or(0, |at| at.as_nanos()));
    }
    if meta.is_symlink() {
        let to = std::fs::read_link(path).map(|to| to.display().to_string());
        return format!("link {}", to.unwrap_or_default());
    }
    match read_bounded(path, MAX_FILE_BYTES) {
        Ok(bytes) => format!("file {}", hash(&bytes)),
        Err(_) => "other".to_owned(),
    }
}

/// The same through links, as git reads configuration.
fn look_through(path: &Path) -> String {
    path.canonicalize().map_or_else(|_| look(path), |path| look(&path))
}

fn links(repository: &Repository) -> BTreeMap<String, String> {
    let Repository { git_dir, common_dir, work_tree } = repository;
    [
        (".git", work_tree.join(".git")),
        ("gitdir", git_dir.join("gitdir")),
        (COMMONDIR, git_dir.join("commondir")),
        (GIT_FOLDER, git_dir.clone()),
        (COMMON_FOLDER, common_dir.clone()),
    ]
    .map(|(name, path)| (name.to_owned(), look(&path)))
    .into()
}

fn config(repository: &Repository) -> BTreeMap<String, String> {
    let common = ["config", "info/attributes", "info/exclude"]
        .map(|name| (name.to_owned(), look_through(&repository.common_dir.join(name))));
    let own = ("config.worktree".to_owned(), look_through(&repository.git_dir.join("config.worktree")));
    common.into_iter().chain([own]).collect()
}

/// Git's samples are none that it would run.
fn hooks(folder: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return BTreeMap::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !name.ends_with(".sample"))
        .take(MAX_REFS)
        .map(|name| {
            let path = folder.join(&name);
            let mode = std::fs::symlink_metadata(&path).map_or(0, |meta| meta.mode() & 0o777);
            let seen = format!("{mode:o} {}", look(&path));
            (name, seen)
        })
        .collect()
}

fn is_oid(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_wanted(name: &str) -> bool {
    [HEADS, REMOTES, TAGS].iter().any(|below| name.starts_with(below))
}

fn refs(repository: &Repository) -> Option<BTreeMap<String, String>> {
    if repository.common_dir.join("reftable").is_dir() {
        let list =
            repository.git(&["for-each-ref", "--format=%(objectname) %(refname)", HEADS, REMOTES, TAGS]);
        let refs = listed(&String::from_utf8_lossy(&list.ok()?));
        return (refs.len() <= MAX_REFS).then_some(refs);
    }
    // Loose ones first: what is packed meanwhile is found in the second place.
    let mut refs = BTreeMap::new();
    for below in [HEADS, REMOTES, TAGS] {
        loose(&repository.common_dir, below, 0, &mut refs)?;
    }
    let packed = match read_bounded(&repository.common_dir.join("packed-refs"), MAX_PACKED_BYTES) {
        Ok(bytes) if bytes.len() as u64 == MAX_PACKED_BYTES => return None,
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(_) => return None,
    };
    for (name, oid) in listed(&String::from_utf8_lossy(&packed)) {
        refs.entry(name).or_insert(oid);
    }
    (refs.len() <= MAX_REFS).then_some(refs)
}

/// Lines of `<oid> <name>`; comments and peeled tags have another form.
fn listed(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(oid, name)| is_oid(oid) && is_wanted(name))
        .map(|(oid, name)| (name.to_owned(), oid.to_owned()))
        .collect()
}

/// Refs that have a file each. `None` when there are too many, or a folder cannot be read.
fn loose(common_dir: &Path, below: &str, depth: usize, into: &mut BTreeMap<String, String>) -> Option<()> {
    const MAX_REF_BYTES: u64 = 1 << 10;
    // Of a ref that is being written.
    const LOCK: &str = ".lock";
    let entries = match std::fs::read_dir(common_dir.join(below)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(()),
        Err(_) => return None,
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                return None;
            }
            loose(common_dir, &format!("{below}{name}/"), depth + 1, into)?;
        } else if kind.is_file() && !name.ends_with(LOCK) {
            let text = read_bounded(&entry.path(), MAX_REF_BYTES).unwrap_or_default();
            let value = String::from_utf8_lossy(&text).trim().to_owned();
            // Empty ones are what a crash of git left; git takes them for broken.
            if !value.is_empty() {
                into.insert(format!("{below}{name}"), value);
            }
        }
        if into.len() > MAX_REFS {
            return None;
        }
    }
    Some(())
}
