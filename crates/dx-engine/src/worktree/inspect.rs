//! What work a worktree holds that no commit has, exactly: the index, the files and the untracked files as trees. The objects
//! are written, the worktree and its index are not touched. Files are compared by content, because an agent can tell git not
//! to look at them.

use super::copy::is_unchanged;
use super::made::{Copied, Made};
use super::nested::{self, Found};
use crate::error::EngineError;
use crate::git::{Call, Repository, Scratch, Unhidden, line};
use crate::work::overlooked;
use dx_jobdir::{StateDir, ended};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The whole state of a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trees {
    /// The commit that is checked out.
    pub(crate) head: String,
    pub(crate) head_tree: String,
    pub(crate) index_tree: String,
    /// The tracked files as they are.
    pub(crate) work_tree: String,
    /// Files that git does not know, and those listed in `copy`.
    pub(crate) untracked_tree: Option<String>,
    /// All of it: the tracked files as they are, and the untracked ones that are more than unchanged copies.
    pub(crate) full_tree: String,
    /// Of the untracked ones, how many are more than unchanged copies.
    pub(crate) untracked: usize,
    /// Repositories inside, whose work or commits are only there.
    pub(crate) nested: Vec<String>,
    /// Where no repository could be looked for; a sentence for each.
    pub(crate) unseen: Vec<String>,
    /// What git is in the middle of.
    pub(crate) operation: Option<&'static str>,
}

impl Trees {
    /// `recorded` is what jobs recorded as changed there ([`recorded`]).
    pub(crate) fn take(
        worktree: &Repository,
        made: &Made,
        recorded: &BTreeSet<String>,
    ) -> Result<Self, EngineError> {
        let scratch = Scratch::new()?;
        let head = Call::new(worktree, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).output()?;
        // A branch without a commit: the agent began a new history.
        let head = if head.status.success() { line(&head.stdout) } else { made.base.clone() };
        let head_tree =
            Call::new(worktree, &["rev-parse", "--verify", &format!("{head}^{{tree}}")]).line()?;

        let staged = scratch.index("staged");
        let index = worktree.git_dir.join("index");
        let operation = operation(&worktree.git_dir);
        let index_tree = match scratch.copy(&index, "staged") {
            Ok(_) => {
                resolve(worktree, &staged, &head)?;
                Call::new(worktree, &["write-tree"]).index(&staged).line()?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => head_tree.clone(),
            Err(source) => return Err(EngineError::Io { what: "read the worktree's index", source }),
        };

        let work = scratch.index("work");
        if worktree.git_dir.join("info/sparse-checkout").exists() {
            // Only the index tells which files are meant to be absent; what else it hides is looked at.
            let unhidden = Unhidden::of(worktree)?;
            let from = unhidden.as_ref().map_or(staged, Unhidden::index);
            scratch
                .copy(&from, "work")
                .map_err(|source| EngineError::Io { what: "read the worktree's index", source })?;
        } else {
            Call::new(worktree, &["read-tree", &index_tree]).index(&work).run()?;
        }
        worktree.stage_known(&work)?;
        let work_tree = Call::new(worktree, &["write-tree"]).index(&work).line()?;

        let others = ["ls-files", "--others", "--exclude-standard", "-z"];
        let others = Call::new(worktree, &others).index(&work).run()?;
        let (folders, mut files): (Vec<&[u8]>, Vec<&[u8]>) =
            paths(&others).partition(|path| path.ends_with(b"/"));
        let listed = listed(worktree, &work, &made.copy)?;
        let (copies, own): (Vec<&[u8]>, Vec<&[u8]>) =
            paths(&listed).partition(|path| is_copy(&worktree.work_tree, path, &made.copied));
        files.extend(own);
        let overlooked = overlooked(worktree, &work, recorded, [&files[..], &copies].concat())?;
        files.extend(overlooked.iter().map(Vec::as_slice));
        let untracked = files.len();
        files.extend(copies);
        let untracked_tree = tree_of(worktree, &scratch.index("untracked"), &files)?;
        let Found { repositories, unseen } = nested::look(&worktree.work_tree);
        // Git tells of those whose `.git` is not theirs, too.
        let mut nested: BTreeSet<Vec<u8>> = submodules(worktree, &work)?.into_iter().collect();
        nested.extend(folders.iter().map(|path| path.to_vec()));
        let with_slash = |path: &[u8]| [path, b"/"].concat();
        let more: Vec<_> =
            repositories.iter().filter(|path| !nested.contains(*path)).map(|path| with_slash(path)).collect();
        nested.extend(more);
        let nested = nested.iter().filter(|path| !nested::is_saved(&at(worktree, path)));
        let nested = nested.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        files.truncate(untracked);
        let full_tree = tree_of(worktree, &work, &files)?.unwrap_or_else(|| work_tree.clone());
        Ok(Self {
            head,
            head_tree,
            index_tree,
            work_tree,
            untracked_tree,
            full_tree,
            untracked,
            nested,
            unseen,
            operation,
        })
    }

    /// Whether there is anything that a commit does not have.
    pub(crate) fn is_dirty(&self) -> bool {
        self.index_tree != self.head_tree
            || self.work_tree != self.head_tree
            || self.untracked > 0
            || !self.nested.is_empty()
            || self.operation.is_some()
    }
}

pub(crate) fn paths(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == 0).filter(|path| !path.is_empty())
}

fn at(worktree: &Repository, path: &[u8]) -> PathBuf {
    worktree.work_tree.join(OsStr::from_bytes(path.strip_suffix(b"/").unwrap_or(path)))
}

/// What git is in the middle of, by the files that it keeps for it.
pub(crate) fn operation(git_dir: &Path) -> Option<&'static str> {
    [
        ("rebase-merge", "a rebase"),
        ("rebase-apply", "a rebase"),
        ("MERGE_HEAD", "a merge"),
        ("CHERRY_PICK_HEAD", "a cherry-pick"),
        ("REVERT_HEAD", "a revert"),
        ("BISECT_LOG", "a bisection"),
    ]
    .into_iter()
    .find_map(|(name, what)| git_dir.join(name).exists().then_some(what))
}

/// Puts what the commit has in the place of conflicts, which no tree can hold; everything else that is staged stays.
fn resolve(worktree: &Repository, index: &Path, head: &str) -> Result<(), EngineError> {
    let unmerged = Call::new(worktree, &["ls-files", "--unmerged", "-z"]).index(index).run()?;
    let path = |entry: &[u8]| entry.splitn(2, |b| *b == b'\t').nth(1).map(<[u8]>::to_vec);
    let conflicts: BTreeSet<Vec<u8>> = paths(&unmerged).filter_map(path).collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    // Mode 0 takes all stages of a path away.
    let none = format!("0 {}\t", "0".repeat(head.len()));
    let mut list = Vec::new();
    for path in &conflicts {
        list.extend_from_slice(none.as_bytes());
        list.extend_from_slice(path);
        list.push(0);
    }
    let committed = Call::new(worktree, &["ls-tree", "-r", "-z", head]).run()?;
    for entry in paths(&committed).filter(|entry| path(entry).is_some_and(|path| conflicts.contains(&path))) {
        list.extend_from_slice(entry);
        list.push(0);
    }
    let args = ["update-index", "-z", "--index-info"];
    Call::new(worktree, &args).index(index).stdin(list).run().map(drop)
}

/// What the jobs that ended in a worktree recorded as changed.
pub(crate) fn recorded(state: &StateDir, made: &Made, path: &Path) -> BTreeSet<String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut recorded = BTreeSet::new();
    ended::newest_first(state, Some(made.created_at), &mut |outcome| {
        if Path::new(&outcome.worktree).starts_with(&path) {
            recorded.extend(outcome.work.files_changed);
        }
        true
    });
    recorded
}

/// Recorded files that git neither knows nor tells of any more.
fn overlooked(
    worktree: &Repository,
    index: &Path,
    recorded: &BTreeSet<String>,
    told: Vec<&[u8]>,
) -> Result<Vec<Vec<u8>>, EngineError> {
    let mut found = overlooked::still_there(&worktree.work_tree, recorded);
    if !found.is_empty() {
        let known = Call::new(worktree, &["ls-files", "-z"]).index(index).run()?;
        for path in paths(&known).chain(told) {
            found.remove(path);
        }
    }
    Ok(found.into_keys().collect())
}

/// Ignored files among what is listed in `copy`.
fn listed(worktree: &Repository, index: &Path, copy: &[String]) -> Result<Vec<u8>, EngineError> {
    if copy.is_empty() {
        return Ok(Vec::new());
    }
    let form = ["--literal-pathspecs", "ls-files", "--others", "--ignored", "--exclude-standard", "-z", "--"];
    let args: Vec<&str> = form.into_iter().chain(copy.iter().map(String::as_str)).collect();
    Call::new(worktree, &args).index(index).run()
}

fn is_copy(worktree: &Path, path: &[u8], copied: &[Copied]) -> bool {
    copied.iter().any(|copied| copied.path.as_bytes() == path && is_unchanged(worktree, copied))
}

/// A tree of just these files; `None` for none.
fn tree_of(worktree: &Repository, index: &Path, files: &[&[u8]]) -> Result<Option<String>, EngineError> {
    if files.is_empty() {
        return Ok(None);
    }
    worktree.stage(index, files)?;
    Call::new(worktree, &["write-tree"]).index(index).line().map(Some)
}

/// Submodules that were filled.
fn submodules(worktree: &Repository, index: &Path) -> Result<Vec<Vec<u8>>, EngineError> {
    let list = Call::new(worktree, &["ls-files", "--stage", "-z"]).index(index).run()?;
    let links = paths(&list).filter(|entry| entry.starts_with(b"160000 "));
    let path = |entry: &[u8]| entry.splitn(2, |b| *b == b'\t').nth(1).map(<[u8]>::to_vec);
    Ok(links.filter_map(path).filter(|path| at(worktree, path).join(".git").exists()).collect())
}
