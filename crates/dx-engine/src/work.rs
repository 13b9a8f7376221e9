//! What an agent changed: the worktree as it was at start against how it is now. A dirty tree at start is not the agent's
//! work; committed work on a clean tree is. A submodule is one path, which differs when its commit does; files in it that are
//! not committed there are paths of their own ([`submodules`]).

pub(crate) mod overlooked;
mod submodules;

use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::git::{Repository, Scratch};
use crate::prompt::sha256_hex;
use crate::worktree::{Nested, unsaved_inside};
use dx_jobdir::disk;
use dx_protocol::{CommitLine, Cut, HeadMove, TreeStart, WorkReport};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::JoinHandle;
use submodules::Inside;

const MAX_FILES: usize = 1_000;
const MAX_COMMITS: usize = 100;
/// Commits are not counted beyond this.
const MOST_COMMITS: &str = "--max-count=10000";
const MAX_SUBJECT: usize = 200;
/// The list of paths that were dirty at start is not read beyond this.
const MAX_DIRTY_BYTES: u64 = 256 << 20;

const STATUS: [&str; 7] = [
    "status",
    "--porcelain=v2",
    "--branch",
    "-z",
    "--untracked-files=all",
    "--no-renames",
    "--ignore-submodules=dirty",
];

/// Modification time in nanoseconds, and size.
type Stamp = (i64, u64);

/// What `git status` tells: HEAD, branch and every path that differs from it, also what the index tells git not to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    head: Option<String>,
    branch: Option<String>,
    /// Absent files have 0,0. Those in submodules too.
    dirty: BTreeMap<Vec<u8>, Stamp>,
    /// The submodules that are filled.
    submodules: BTreeSet<Vec<u8>>,
}

/// A [`Snapshot`] that is being taken, so that other things can be done while git looks.
pub(crate) struct Taking(JoinHandle<Result<(Snapshot, TreeStart), EngineError>>);

impl Taking {
    pub(crate) fn begin(repository: Repository) -> Self {
        Self(std::thread::spawn(move || {
            let snapshot = Snapshot::take(&repository)?;
            let tree = snapshot.record(&repository);
            Ok((snapshot, tree))
        }))
    }

    /// Waits for git.
    pub(crate) fn finish(self) -> Result<(Snapshot, TreeStart), EngineError> {
        let lost = |_| EngineError::Io {
            what: "look at the worktree",
            source: std::io::Error::other("the thread that called git ended without an answer"),
        };
        self.0.join().map_err(lost)?
    }
}

impl Snapshot {
    pub(crate) fn take(repository: &Repository) -> Result<Self, EngineError> {
        Self::take_at(repository, 0)
    }

    fn take_at(repository: &Repository, depth: usize) -> Result<Self, EngineError> {
        if let Some(head) = repository.untouched() {
            return Ok(Self { head: Some(head.commit), branch: head.branch, ..Self::default() });
        }
        let mut snapshot = Self::parse(&repository.git_unhidden(&STATUS)?, &repository.work_tree);
        let inside = Inside::look(repository, depth)?;
        snapshot.dirty.extend(inside.dirty);
        snapshot.submodules = inside.submodules;
        Ok(snapshot)
    }

    /// Whether a path lies in a submodule.
    fn is_inside(&self, path: &[u8]) -> bool {
        let folders = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        folders.map(|(at, _)| &path[..at]).any(|folder| self.submodules.contains(folder))
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
                snapshot.dirty.insert(path.to_vec(), stamp_of(work_tree, path));
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
        Ok(disk::write_new(path, &self.dirty_list())?)
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

fn stamp_of(work_tree: &Path, path: &[u8]) -> Stamp {
    std::fs::symlink_metadata(work_tree.join(std::ffi::OsStr::from_bytes(path)))
        .map_or((0, 0), |m| (m.mtime() * 1_000_000_000 + m.mtime_nsec(), m.size()))
}

fn load_dirty(path: &Path) -> BTreeMap<Vec<u8>, Stamp> {
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

/// What changed since the start: the report, and every path of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Work {
    pub(crate) report: WorkReport,
    /// All of them, where the report has no more than [`MAX_FILES`].
    pub(crate) paths: BTreeSet<Vec<u8>>,
    /// Those that differ from HEAD.
    pub(crate) uncommitted: BTreeSet<Vec<u8>>,
    /// Those in submodules, which are not committed there.
    pub(crate) inside: BTreeSet<Vec<u8>>,
}

impl Work {
    /// Repositories inside, of which no commit holds the files: those that git tells as one new path, and those with work
    /// of their own. A submodule of which files are named already is left out.
    pub(crate) fn nested(&self, work_tree: &Path) -> Nested {
        let mut found = unsaved_inside(work_tree);
        let named = |path: &[u8]| {
            self.inside.iter().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/")))
        };
        found.repositories.retain(|path| !named(path));
        found
            .repositories
            .extend(self.uncommitted.iter().filter_map(|path| Some(path.strip_suffix(b"/")?.to_vec())));
        found.repositories.sort();
        found.repositories.dedup();
        found
    }
}

/// Compares now with the start. Never fails: what git cannot tell is `known: false`. Commits that a branch was at before
/// the start are nobody's work; `before` knows them. `recorded` is what the run's outcome names: it stays work when git is
/// told to overlook it later.
pub(crate) fn report(
    tree: &TreeStart,
    dirty_file: &Path,
    before: Option<&Fingerprint>,
    recorded: &[String],
) -> Work {
    let mut work = compare(tree, dirty_file, before, recorded).unwrap_or_default();
    work.report.stamp.clear();
    work
}

/// The report with its stamp, for comparing two looks at one run.
pub(crate) fn progress(tree: &TreeStart, dirty_file: &Path, before: Option<&Fingerprint>) -> WorkReport {
    compare(tree, dirty_file, before, &[]).unwrap_or_default().report
}

fn compare(
    tree: &TreeStart,
    dirty_file: &Path,
    before: Option<&Fingerprint>,
    recorded: &[String],
) -> Result<Work, EngineError> {
    let repository = Repository::recorded(tree);
    if before.is_some_and(|before| before.misleads(&repository)) {
        return Ok(Work::default());
    }
    let mut now = Snapshot::take(&repository)?;
    let overlooked = overlooked(&repository, &now, recorded)?;
    now.dirty.extend(overlooked.clone());
    let dirty = load_dirty(dirty_file);
    // What differs from HEAD now and is not as it was at the start, and what has become clean.
    let mut uncommitted: BTreeSet<Vec<u8>> = now
        .dirty
        .iter()
        .filter(|(path, stamp)| dirty.get(*path) != Some(stamp))
        .map(|(p, _)| p.clone())
        .collect();
    uncommitted.extend(dirty.keys().filter(|path| !now.dirty.contains_key(*path)).cloned());
    let (start, head) = (tree.head.as_deref(), now.head.as_deref());
    let head_move = head_move(&repository, start, head)?;
    let mut commits = Vec::new();
    let mut paths = BTreeSet::new();
    if let (Some(head), true) = (head, head_move != HeadMove::Stay) {
        commits = new_commits(&repository, start, head, before)?;
        if let Some(start) = start {
            if commits.is_empty() {
                // Only HEAD moved: what is as it was at the start was not changed, whatever HEAD has there now.
                let differing = differing_from(&repository, start)?;
                uncommitted.retain(|path| {
                    now.is_inside(path) || differing.contains_key(path) || overlooked.contains_key(path)
                });
                paths.extend(
                    differing.into_iter().filter(|(p, stamp)| dirty.get(p) != Some(stamp)).map(|(p, _)| p),
                );
            } else {
                paths.extend(committed_paths(&repository, start, head)?);
            }
        }
    }
    let mutations = (uncommitted.len() + commits.len()) as u64;
    paths.extend(uncommitted.iter().cloned());
    let (inside, uncommitted) = uncommitted.into_iter().partition(|path| now.is_inside(path));
    let cut = (commits.len() > MAX_COMMITS || paths.len() > MAX_FILES)
        .then_some(Cut { commits: commits.len() as u64, files: paths.len() as u64 });
    commits.truncate(MAX_COMMITS);
    let files_changed =
        paths.iter().take(MAX_FILES).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    let report = WorkReport {
        known: true,
        mutations,
        commits: commits.iter().map(|commit| commit.id.clone()).collect(),
        files_changed,
        stamp: now.stamp(),
        branch: now.branch,
        head: now.head,
        head_move,
        commit_list: commits,
        cut,
        foreign_refs: Vec::new(),
        findings: Vec::new(),
    };
    Ok(Work { report, paths, uncommitted, inside })
}

/// What of the recorded paths is there, and neither known to git nor told by it as unknown.
fn overlooked(
    repository: &Repository,
    now: &Snapshot,
    recorded: &[String],
) -> Result<BTreeMap<Vec<u8>, Stamp>, EngineError> {
    let untold = recorded
        .iter()
        .filter(|path| !now.dirty.contains_key(path.as_bytes()) && !now.is_inside(path.as_bytes()));
    let mut found = overlooked::still_there(&repository.work_tree, untold);
    if !found.is_empty() {
        for path in repository.git(&["ls-files", "-z"])?.split(|b| *b == 0) {
            found.remove(path);
        }
    }
    Ok(found)
}

fn head_move(
    repository: &Repository,
    start: Option<&str>,
    head: Option<&str>,
) -> Result<HeadMove, EngineError> {
    let (start, head) = match (start, head) {
        (start, head) if start == head => return Ok(HeadMove::Stay),
        (None, _) => return Ok(HeadMove::Forward),
        (Some(_), None) => return Ok(HeadMove::Aside),
        (Some(start), Some(head)) => (start, head),
    };
    let leads_to = |from, to| repository.git_says(&["merge-base", "--is-ancestor", from, to]);
    Ok(if leads_to(start, head)? {
        HeadMove::Forward
    } else if leads_to(head, start)? {
        HeadMove::Back
    } else {
        HeadMove::Aside
    })
}

/// Commits that HEAD has and the start had not, nor any branch then; newest first.
fn new_commits(
    repository: &Repository,
    start: Option<&str>,
    head: &str,
    before: Option<&Fingerprint>,
) -> Result<Vec<CommitLine>, EngineError> {
    let mut revisions = format!("{head}\n");
    for old in start.into_iter().chain(before.into_iter().flat_map(Fingerprint::commits)) {
        revisions.push('^');
        revisions.push_str(old);
        revisions.push('\n');
    }
    let args = ["rev-list", MOST_COMMITS, "--ignore-missing", "--format=%H%x09%s", "--stdin"];
    let list = repository.git_fed(&args, revisions.as_bytes())?;
    let commits = String::from_utf8_lossy(&list)
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(id, subject)| CommitLine {
            id: id.to_owned(),
            subject: subject.chars().take(MAX_SUBJECT).collect(),
        })
        .collect();
    Ok(commits)
}

/// Paths that differ between two commits.
fn committed_paths(repository: &Repository, from: &str, to: &str) -> Result<BTreeSet<Vec<u8>>, EngineError> {
    let args = [
        "diff",
        "--name-only",
        "-z",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--submodule=short",
        "--ignore-submodules=dirty",
        from,
        to,
        "--",
    ];
    let names = repository.git(&args)?;
    Ok(names.split(|b| *b == 0).filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Paths of the worktree whose content is not that of a commit, with their stamps, whatever HEAD and the index say. Reads
/// every file, through an index of its own.
fn differing_from(repository: &Repository, commit: &str) -> Result<BTreeMap<Vec<u8>, Stamp>, EngineError> {
    let scratch = Scratch::new()?;
    let index = scratch.index("start");
    repository.git_with_index(&index, &["read-tree", commit])?;
    let status = repository.git_with_index(&index, &STATUS)?;
    // The second letter of an entry is the worktree against the index, which is that commit.
    let differs = |entry: &&[u8]| match entry.first() {
        Some(b'1') => entry.get(3) != Some(&b'.'),
        Some(b'?') => true,
        _ => false,
    };
    let entries: Vec<&[u8]> = status.split(|b| *b == 0).filter(differs).collect();
    Ok(Snapshot::parse(&entries.join(&0), &repository.work_tree).dirty)
}
