//! Forbidden files that git does not tell of: ignored ones, and what lies in repositories inside. Those count that were made
//! or changed since the start, by the time of the last change of a file's record, which no program can set.
//!
//! Called by the gates about paths. Must never: follow a link, or walk without a bound.

use super::scope::Scope;
use crate::git::Repository;
use dx_protocol::{Timestamp, TreeStart};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A look ends after this many entries; what lies nearest to the top is looked at first.
const MOST_ENTRIES: usize = 500_000;
/// What package managers and compilers fill. Packages bring test keys and certificates of their own, so only what lies
/// directly in such a folder is looked at.
pub(crate) const FILLED: [&str; 10] = [
    "node_modules",
    "bower_components",
    "target",
    "vendor",
    "venv",
    ".venv",
    ".tox",
    ".nox",
    ".gradle",
    "site-packages",
];
const GIT: &str = ".git";

/// A worktree, and the time from which on a change counts.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) work_tree: PathBuf,
    pub(crate) since: Timestamp,
}

impl Look {
    pub(crate) fn of(tree: &TreeStart, since: Timestamp) -> Self {
        Self { work_tree: Repository::recorded(tree).work_tree, since }
    }

    /// Files that are forbidden, and folders of new repositories inside.
    pub(crate) fn forbidden(&self, scope: &Scope) -> BTreeSet<String> {
        self.walk(PathBuf::new(), &|path| scope.is_forbidden(path))
    }

    /// All files below a folder that is a repository of its own, and the mark of that when it is new.
    pub(crate) fn repository(&self, folder: &str) -> BTreeSet<String> {
        let mut found = self.walk(PathBuf::from(folder), &|_| true);
        let mark = Path::new(folder).join(GIT);
        // A file of that name leads to a git folder elsewhere.
        if std::fs::symlink_metadata(self.work_tree.join(&mark))
            .is_ok_and(|meta| !meta.is_dir() && self.is_changed(&meta))
        {
            found.insert(mark.to_string_lossy().into_owned());
        }
        found
    }

    fn walk(&self, top: PathBuf, wanted: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        let (mut found, mut left, mut folders) = (BTreeSet::new(), MOST_ENTRIES, VecDeque::from([top]));
        while let Some(folder) = folders.pop_front() {
            let Ok(entries) = std::fs::read_dir(self.work_tree.join(&folder)) else { continue };
            let is_filled =
                folder.file_name().is_some_and(|name| FILLED.iter().any(|filled| name == *filled));
            for entry in entries.flatten() {
                if left == 0 {
                    return found;
                }
                left -= 1;
                let (name, Ok(kind)) = (entry.file_name(), entry.file_type()) else { continue };
                let path = folder.join(&name);
                let text = path.to_string_lossy();
                let counts = if name == OsStr::new(GIT) {
                    // The worktree's own is no repository inside; git writes into the folder of an older one at any time.
                    kind.is_dir()
                        && !folder.as_os_str().is_empty()
                        && entry.metadata().is_ok_and(|meta| self.is_made(&meta))
                } else if kind.is_dir() {
                    if !is_filled {
                        folders.push_back(path.clone());
                    }
                    false
                } else {
                    wanted(&text) && entry.metadata().is_ok_and(|meta| self.is_changed(&meta))
                };
                if counts {
                    found.insert(text.into_owned());
                }
            }
        }
        found
    }

    fn is_changed(&self, meta: &Metadata) -> bool {
        changed_since(meta, self.since)
    }

    /// Where the file system does not tell when a folder was made, its last change must do.
    fn is_made(&self, meta: &Metadata) -> bool {
        let made = meta.created().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        made.and_then(|at| i64::try_from(at.as_millis()).ok())
            .map_or_else(|| self.is_changed(meta), |made| made >= self.since.0)
    }
}

/// By the time of the last change of a file's record, which no program can set.
pub(crate) fn changed_since(meta: &Metadata, since: Timestamp) -> bool {
    meta.ctime() * 1000 + meta.ctime_nsec() / 1_000_000 >= since.0
}

#[cfg(test)]
mod tests {
    use super::{Look, Timestamp};
    use crate::gates::scope::Scope;
    use std::fs::{create_dir_all, write};

    #[test]
    fn forbidden_files_are_found_but_not_those_of_packages() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["node_modules/p", "a/b", "in/.git", ".git"] {
            create_dir_all(at(folder)).unwrap();
        }
        for file in [".env", "a/b/x.pem", "a/b/c", "node_modules/y.key", "node_modules/p/z.key", ".git/q.key"]
        {
            write(at(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("/", at("a/link")).unwrap();
        let scope = Scope::parse(&[], &[]).unwrap();
        let look = |since| Look { work_tree: dir.path().to_owned(), since: Timestamp(since) };
        let found: Vec<_> = look(0).forbidden(&scope).into_iter().collect();
        assert_eq!(found, [".env", "a/b/x.pem", "in/.git", "node_modules/y.key"]);
        assert!(look(i64::MAX).forbidden(&scope).is_empty(), "what was there before");
        let found: Vec<_> = look(0).repository("a").into_iter().collect();
        assert_eq!(found, ["a/b/c", "a/b/x.pem", "a/link"]);
    }
}
