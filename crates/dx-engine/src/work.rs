//! What an agent changed: the worktree as it was at start against how it is now. A dirty tree at start is not the agent's
//! work; committed work on a clean tree is. A submodule is one path here: it differs when its commit does, and no git looks
//! into it, because that would run what its configuration names.

use crate::error::EngineError;
use crate::git::Repository;
use crate::prompt::sha256_hex;
use dx_jobdir::disk;
use dx_protocol::{TreeStart, WorkReport};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MAX_FILES: usize = 1_000;
const MAX_COMMITS: usize = 100;
/// The list of paths that were dirty at start is not read beyond this.
const MAX_DIRTY_BYTES: u64 = 256 << 20;

/// One `git status`: HEAD, branch and every path that differs from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    head: Option<String>,
    branch: Option<String>,
    /// Path to a stamp (modification time in nanoseconds, size); absent files have 0,0.
    dirty: BTreeMap<Vec<u8>, (i64, u64)>,
}

impl Snapshot {
    pub(crate) fn take(repository: &Repository) -> Result<Self, EngineError> {
        let args = [
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=dirty",
        ];
        Ok(Self::parse(&repository.git(&args)?, &repository.work_tree))
    }

    fn parse(output: &[u8], work_tree: &Path) -> Self {
        let mut snapshot = Self::default();
        for entry in output.split(|b| *b == 0).filter(|e| !e.is_empty()) {
            let fields = |n: usize| entry.splitn(n, |b| *b == b' ').last().filter(|p| !p.is_empty());
            let path = match entry[0] {
                b'#' => {
                    snapshot.header(&String::from_utf8_lossy(entry));
                    None
                }
                b'?' => fields(2),
                b'1' => fields(9),
                b'u' => fields(11),
                _ => None,
            };
            if let Some(path) = path {
                let stamp = std::fs::symlink_metadata(work_tree.join(std::ffi::OsStr::from_bytes(path)))
                    .map_or((0, 0), |m| (m.mtime() * 1_000_000_000 + m.mtime_nsec(), m.size()));
                snapshot.dirty.insert(path.to_vec(), stamp);
            }
        }
        snapshot
    }

    fn header(&mut self, text: &str) {
        let known = |value: &str| (!value.starts_with('(')).then(|| value.to_owned());
        if let Some(oid) = text.strip_prefix("# branch.oid ") {
            self.head = known(oid);
        } else if let Some(head) = text.strip_prefix("# branch.head ") {
            self.branch = known(head);
        }
    }

    /// The record of a start; the dirty paths go to a file of their own.
    pub(crate) fn record(&self, repository: &Repository) -> TreeStart {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        TreeStart {
            git_dir: text(&repository.git_dir),
            common_dir: text(&repository.common_dir),
            work_tree: text(&repository.work_tree),
            head: self.head.clone(),
            branch: self.branch.clone(),
            dirty: self.dirty.len() as u64,
        }
    }

    /// Writes the dirty paths.
    pub(crate) fn save(&self, path: &Path) -> Result<(), EngineError> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        Ok(disk::replace(path, &self.dirty_list())?)
    }

    /// `<mtime ns> <size> <path>\0` of each dirty path, sorted.
    fn dirty_list(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, (mtime, size)) in &self.dirty {
            bytes.extend_from_slice(format!("{mtime} {size} ").as_bytes());
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        bytes
    }

    /// Another one after every edit, also of a path that was dirty before.
    fn stamp(&self) -> String {
        const HEX_DIGITS: usize = 16;
        let mut bytes = self.head.clone().unwrap_or_default().into_bytes();
        bytes.push(0);
        bytes.extend(self.dirty_list());
        let mut hex = sha256_hex(&bytes);
        hex.truncate(HEX_DIGITS);
        hex
    }
}

fn load_dirty(path: &Path) -> BTreeMap<Vec<u8>, (i64, u64)> {
    let bytes = dx_jobdir::read_bounded(path, MAX_DIRTY_BYTES).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter_map(|entry| {
            let mut fields = entry.splitn(3, |b| *b == b' ');
            let number = |f: Option<&[u8]>| std::str::from_utf8(f?).ok()?.parse::<i64>().ok();
            let (mtime, size) = (number(fields.next())?, number(fields.next())?);
            Some((fields.next()?.to_vec(), (mtime, size as u64)))
        })
        .collect()
}

/// Compares now with the start. Never fails: what git cannot tell is `known: false`.
pub(crate) fn report(tree: &TreeStart, dirty_file: &Path) -> WorkReport {
    WorkReport { stamp: String::new(), ..progress(tree, dirty_file) }
}

/// The same with its stamp, for comparing two looks at one run.
pub(crate) fn progress(tree: &TreeStart, dirty_file: &Path) -> WorkReport {
    compare(tree, dirty_file).unwrap_or_default()
}

fn compare(tree: &TreeStart, dirty_file: &Path) -> Result<WorkReport, EngineError> {
    let repository = Repository::recorded(tree);
    let now = Snapshot::take(&repository)?;
    let before = load_dirty(dirty_file);
    let mut paths: BTreeSet<Vec<u8>> = BTreeSet::new();
    paths.extend(
        now.dirty.iter().filter(|(path, stamp)| before.get(*path) != Some(stamp)).map(|(p, _)| p.clone()),
    );
    paths.extend(before.keys().filter(|path| !now.dirty.contains_key(*path)).cloned());
    let uncommitted = paths.len();
    let mut commits = Vec::new();
    if let Some(head) = now.head.as_ref().filter(|head| tree.head.as_ref() != Some(head)) {
        let range = tree.head.as_ref().map_or_else(|| head.clone(), |start| format!("{start}..{head}"));
        let list = repository.git(&["rev-list", "--max-count=100", &range, "--"])?;
        commits.extend(String::from_utf8_lossy(&list).lines().take(MAX_COMMITS).map(str::to_owned));
        if let Some(start) = &tree.head {
            let names = repository.git(&[
                "diff",
                "--name-only",
                "-z",
                "--no-renames",
                "--no-ext-diff",
                "--no-textconv",
                "--submodule=short",
                "--ignore-submodules=dirty",
                start,
                head,
                "--",
            ])?;
            paths.extend(names.split(|b| *b == 0).filter(|p| !p.is_empty()).map(<[u8]>::to_vec));
        }
    }
    let files_changed =
        paths.iter().take(MAX_FILES).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    Ok(WorkReport {
        known: true,
        mutations: (uncommitted + commits.len()) as u64,
        commits,
        files_changed,
        stamp: now.stamp(),
        head: now.head,
    })
}
