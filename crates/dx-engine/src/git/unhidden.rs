//! An index that hides nothing. `git update-index --assume-unchanged` and `--skip-worktree` tell git not to look at a file,
//! and then neither status nor diff shows what was done to it. The flags are cleared in a copy; the worktree's own index is
//! not touched.
//!
//! A sparse checkout needs `skip-worktree` for what it leaves out: there a file that is absent is meant to be.

use super::{Call, Repository, Scratch, index};
use crate::error::EngineError;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The copy; it goes with the value.
#[derive(Debug)]
pub(crate) struct Unhidden {
    scratch: Scratch,
    /// The paths that had a flag.
    pub(crate) paths: Vec<Vec<u8>>,
}

impl Unhidden {
    /// `None` when the index hides nothing: then the worktree's own is as good.
    pub(crate) fn of(repository: &Repository) -> Result<Option<Self>, EngineError> {
        if index::hides_nothing(repository) { Ok(None) } else { Self::asked(repository) }
    }

    fn asked(repository: &Repository) -> Result<Option<Self>, EngineError> {
        let list = Call::new(repository, &["ls-files", "-v", "-z"]).run()?;
        let sparse = repository.git_dir.join("info/sparse-checkout").exists();
        let absent = |path: &[u8]| {
            std::fs::symlink_metadata(repository.work_tree.join(OsStr::from_bytes(path))).is_err()
        };
        let (mut assumed, mut skipped) = (Vec::new(), Vec::new());
        for entry in list.split(|byte| *byte == 0) {
            let [tag, b' ', path @ ..] = entry else { continue };
            // Git cannot take the flag from a conflict, which its status shows all the same.
            if tag.is_ascii_lowercase() && *tag != b'm' {
                assumed.push(path);
            }
            if tag.eq_ignore_ascii_case(&b'S') && !(sparse && absent(path)) {
                skipped.push(path);
            }
        }
        if assumed.is_empty() && skipped.is_empty() {
            return Ok(None);
        }
        let scratch = Scratch::new()?;
        let index = scratch
            .copy(&repository.git_dir.join("index"), "unhidden")
            .map_err(|source| EngineError::Io { what: "read the worktree's index", source })?;
        let mut paths: Vec<Vec<u8>> = assumed.into_iter().chain(skipped).map(<[u8]>::to_vec).collect();
        paths.sort();
        paths.dedup();
        // An entry made anew has no flag and no stamp, so that git compares the file itself. By its stamp a file that was
        // changed in the second of its checkout, to the same length, can look as it was.
        let staged = Call::new(repository, &["ls-files", "--stage", "-z"]).run()?;
        let path = |entry: &[u8]| entry.splitn(2, |byte| *byte == b'\t').nth(1).map(<[u8]>::to_vec);
        let marked: Vec<&[u8]> = staged
            .split(|byte| *byte == 0)
            .filter(|entry| path(entry).is_some_and(|path| paths.binary_search(&path).is_ok()))
            .collect();
        let mut list = marked.join(&0);
        list.push(0);
        Call::new(repository, &["update-index", "-z", "--index-info"]).index(&index).stdin(list).run()?;
        Ok(Some(Self { scratch, paths }))
    }

    pub(crate) fn index(&self) -> std::path::PathBuf {
        self.scratch.index("unhidden")
    }
}

impl Repository {
    /// A git command on the files as they are, whatever the index hides. It must not write the index.
    pub(crate) fn git_unhidden(&self, args: &[&str]) -> Result<Vec<u8>, EngineError> {
        if index::hides_nothing(self) {
            return self.git(args);
        }
        // Both at once: most of these hide nothing either.
        std::thread::scope(|scope| {
            let unhidden = scope.spawn(|| Unhidden::asked(self));
            let plain = self.git(args);
            let lost = |_| EngineError::Io {
                what: "look at the index",
                source: std::io::Error::other("the thread that called git ended without an answer"),
            };
            match unhidden.join().map_err(lost)?? {
                Some(unhidden) => self.git_with_index(&unhidden.index(), args),
                None => plain,
            }
        })
    }

    /// Files that the index hides and that are not what it has.
    pub(crate) fn hidden_edits(&self) -> Result<Vec<Vec<u8>>, EngineError> {
        let Some(unhidden) = Unhidden::of(self)? else { return Ok(Vec::new()) };
        let args = ["diff-files", "--name-only", "-z", "--ignore-submodules=dirty"];
        let index: &Path = &unhidden.index();
        // A stamp alone is no difference: it is compared by content.
        Call::new(self, &["update-index", "-q", "--refresh"]).index(index).output()?;
        let list = self.git_with_index(index, &args)?;
        let differing = list.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        Ok(differing.map(<[u8]>::to_vec).filter(|path| unhidden.paths.contains(path)).collect())
    }
}
