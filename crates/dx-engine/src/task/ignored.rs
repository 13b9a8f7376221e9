//! Files that git ignores, as they stand before and after a job: git tells nothing of them, and a role that may not write them may
//! not write them there either.
//!
//! Called by `seen`. Left out is what package managers, compilers and the agents' own helpers (language servers, formatters,
//! OpenCode's plugins) fill: nobody writes sources there, and an agent that changes nothing may start a helper that does. Must
//! never: read a file, follow a link, or look at more than [`MOST`] files.

use crate::error::EngineError;
use crate::gates::unseen::{FILLED, changed_since};
use crate::git::Repository;
use dx_protocol::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// So many are compared; those nearest to the top come first.
pub(super) const MOST: usize = 10_000;
/// Beside [`FILLED`]; no helper has a name of its own for its cache.
const CACHES: [&str; 7] =
    [".cache", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".next", ".turbo"];
/// OpenCode writes these by itself, and has git ignore them, wherever it finds such a folder.
const OPENCODE: [&str; 5] = [
    ".opencode/.gitignore",
    ".opencode/package.json",
    ".opencode/package-lock.json",
    ".opencode/bun.lock",
    ".opencode/bun.lockb",
];

const STATUS: [&str; 6] =
    ["status", "--porcelain", "-z", "--ignored=matching", "--untracked-files=all", "--ignore-submodules=all"];

/// Size and times by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ignored {
    pub(super) stamps: BTreeMap<String, String>,
    /// There are no others.
    pub(super) whole: bool,
}

/// Those below the top of a repository; none outside of one. What lies below `.ai` is compared by its content elsewhere.
pub(super) fn look(place: &Path) -> Result<Ignored, EngineError> {
    let Some(repository) = Repository::find(place) else {
        return Ok(Ignored { whole: true, ..Ignored::default() });
    };
    let listed = repository.git(&STATUS)?;
    let entries = listed.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"!! "));
    let entries = entries.map(|path| String::from_utf8_lossy(path).into_owned());
    Ok(below(&repository.work_tree, entries.collect(), MOST))
}

/// The files of a list of files and folders.
fn below(top: &Path, entries: Vec<String>, most: usize) -> Ignored {
    let (mut stamps, mut left) = (BTreeMap::new(), VecDeque::from(entries));
    while let Some(path) = left.pop_front() {
        let path = path.trim_end_matches('/').to_owned();
        let Ok(meta) = fs::symlink_metadata(top.join(&path)) else { continue };
        if is_left_out(&path, meta.is_dir()) {
            continue;
        }
        if meta.is_dir() {
            let mut names: Vec<String> = fs::read_dir(top.join(&path))
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            left.extend(names.into_iter().map(|name| format!("{path}/{name}")));
            continue;
        }
        if stamps.len() == most {
            return Ignored { stamps, whole: false };
        }
        stamps.insert(path, stamp(&meta));
    }
    Ignored { stamps, whole: true }
}

fn is_left_out(path: &str, is_folder: bool) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let filled = is_folder && (FILLED.contains(&name) || CACHES.contains(&name) || name == ".git");
    let inside = path.split('/').rev().skip(1).any(|part| FILLED.contains(&part) || CACHES.contains(&part));
    filled || inside || path == ".ai" || path.starts_with(".ai/") || OPENCODE.contains(&path)
}

/// The time of the last change of a file's record, which no program can set, and the size.
fn stamp(meta: &Metadata) -> String {
    format!("{} {}.{:09}", meta.len(), meta.ctime(), meta.ctime_nsec())
}

/// Those that were made, changed or removed since `before`, at a job that began at `since`.
pub(super) fn changed(
    place: &Path,
    before: &BTreeMap<String, String>,
    now: &Ignored,
    since: Timestamp,
) -> Vec<String> {
    let stands = |path: &str| fs::symlink_metadata(place.join(path)).map(|meta| stamp(&meta)).ok();
    let differ = before.iter().filter(|(path, was)| stands(path).as_ref() != Some(was));
    // One that the first look did not reach may have been there.
    let is_new =
        |path: &str| fs::symlink_metadata(place.join(path)).is_ok_and(|meta| changed_since(&meta, since));
    let unknown = now.stamps.keys().filter(|path| !before.contains_key(*path) && is_new(path));
    differ.map(|(path, _)| path).chain(unknown).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_file, write};

    #[test]
    fn what_was_made_changed_or_removed_is_told_and_what_tools_fill_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in
            ["out/deep", "target/debug", "in/.git", ".ai/tasks", "a/node_modules", "x.cache", ".opencode"]
        {
            create_dir_all(at(folder)).unwrap();
        }
        let files = ["gone", "same", "more", "out/deep/a", "in/f", "x.cache/f"];
        let filled =
            ["target/debug/b", "in/.git/c", ".ai/tasks/d", "a/node_modules/e", ".opencode/package.json"];
        for file in files.iter().chain(&filled) {
            write(at(file), "x").unwrap();
        }
        let all = || {
            let names = fs::read_dir(dir.path()).unwrap().flatten();
            let names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
            names
        };
        let before = below(dir.path(), all(), 100);
        let mut known = files.to_vec();
        known.sort_unstable();
        assert_eq!(before.stamps.keys().collect::<Vec<_>>(), known);
        let now = below(dir.path(), all(), 100);
        assert_eq!(changed(dir.path(), &before.stamps, &now, Timestamp(0)), [""; 0]);
        remove_file(at("gone")).unwrap();
        write(at("more"), "xy").unwrap();
        for file in ["out/deep/new", "target/debug/new"] {
            write(at(file), "x").unwrap();
        }
        let now = below(dir.path(), all(), 100);
        assert_eq!(changed(dir.path(), &before.stamps, &now, Timestamp(0)), ["gone", "more", "out/deep/new"]);
        // Beyond the bound a time decides.
        let cut = below(dir.path(), all(), 2);
        assert_eq!((cut.stamps.len(), cut.whole), (2, false));
        assert_eq!(changed(dir.path(), &cut.stamps, &now, Timestamp(i64::MAX)), [""; 0]);
        assert_eq!(changed(dir.path(), &cut.stamps, &now, Timestamp(0)).len(), now.stamps.len() - 2);
    }
}
