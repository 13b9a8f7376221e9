//! A look at a worktree without git: whether it surely is what HEAD has, every file of it and no other. Most worktrees are, when
//! a job starts, and then git's own start is what a look costs.
//!
//! By the rules by which git itself takes a file for unchanged: its stamps are those that the index has, and older than the
//! index. Must never say yes in doubt: then git is asked.

use super::index::{self, Entry, Index};
use super::{Repository, read_line};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Git looks at more files in several threads.
const MAX_FILES: usize = 2_000;
/// One of so many files is hardly larger, and a larger one is not worth the reading.
const MAX_INDEX: u64 = 1 << 20;
/// A larger commit is left to git.
const MAX_COMMIT: u64 = 1 << 20;
const MAX_PACKED_REFS: u64 = 1 << 20;
const EMPTY: [u8; 20] = *b"\xe6\x9d\xe2\x9b\xb2\xd1\xd6\x43\x4b\x8b\x29\xae\x77\x5a\xd8\xc2\xe4\x8c\x53\x91";
const NANOSECONDS: i64 = 1_000_000_000;

/// Where HEAD is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) commit: String,
    /// `None` when it is on none.
    pub(crate) branch: Option<String>,
}

impl Repository {
    /// HEAD, when nothing in the worktree differs from it; `None` also when git has to be asked.
    pub(crate) fn untouched(&self) -> Option<Head> {
        // The time of the index that is read, or of one before it: then more of its files may look new.
        let written = std::fs::symlink_metadata(self.git_dir.join("index")).ok()?;
        if written.len() > MAX_INDEX {
            return None;
        }
        let written = written.mtime() * NANOSECONDS + written.mtime_nsec();
        let bytes = index::read(self).ok()?;
        let Index { entries, tree } = Index::parse(&bytes)?;
        let head = self.head()?;
        let same = entries.len() <= MAX_FILES
            && self.tree_of(&head.commit)? == hex(tree?)
            && entries.iter().all(|entry| is_unchanged(&self.work_tree, entry, written))
            && has_no_other(&self.work_tree, &entries);
        same.then_some(head)
    }

    fn head(&self) -> Option<Head> {
        let text = read_line(&self.git_dir.join("HEAD"))?;
        let Some(name) = text.trim_end().strip_prefix("ref: ") else {
            return Some(Head { commit: object_name(&text)?, branch: None });
        };
        let branch = name.strip_prefix("refs/heads/").filter(|branch| !branch.contains(".."))?;
        let own = self.common_dir.join(name);
        let commit = match std::fs::symlink_metadata(&own) {
            Err(error) if error.kind() == ErrorKind::NotFound => self.packed(name)?,
            _ => object_name(&read_line(&own)?)?,
        };
        Some(Head { commit, branch: Some(branch.to_owned()) })
    }

    fn packed(&self, name: &str) -> Option<String> {
        let bytes = dx_jobdir::read_bounded(&self.common_dir.join("packed-refs"), MAX_PACKED_REFS).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        text.lines().find_map(|line| object_name(line.strip_suffix(name)?.strip_suffix(' ')?))
    }

    /// The tree of a commit that has a file of its own.
    fn tree_of(&self, commit: &str) -> Option<String> {
        let (folder, rest) = commit.split_at(2);
        let path = self.common_dir.join("objects").join(folder).join(rest);
        let bytes = dx_jobdir::read_bounded(&path, MAX_COMMIT).ok()?;
        let mut start = [0; 128];
        let mut content = flate2::read::ZlibDecoder::new(&bytes[..]);
        let mut filled = 0;
        while filled < start.len() {
            match content.read(&mut start[filled..]).ok()? {
                0 => break,
                more => filled += more,
            }
        }
        let text = std::str::from_utf8(start[..filled].strip_prefix(b"commit ")?.get(..64)?).ok()?;
        object_name(text.split_once("\0tree ")?.1.split_once('\n')?.0)
    }
}

/// Forty hexadecimal digits.
fn object_name(text: &str) -> Option<String> {
    let name = text.trim_end();
    (name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
}

fn hex(name: &[u8]) -> String {
    name.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Whether a file has the stamps that the index has of it. One that is as young as the index may have been changed after
/// git read it.
fn is_unchanged(work_tree: &Path, entry: &Entry<'_>, index_written: i64) -> bool {
    let Ok(now) = std::fs::symlink_metadata(work_tree.join(OsStr::from_bytes(entry.path))) else {
        return false;
    };
    let [ctime, ctime_nsec, mtime, mtime_nsec, _, inode, mode, user, group, size] = entry.stat();
    let kind = match mode {
        0o100_644 => now.is_file() && now.mode() & 0o100 == 0,
        0o100_755 => now.is_file() && now.mode() & 0o100 != 0,
        0o120_000 => now.is_symlink(),
        _ => false,
    };
    // The format has 32 bits for each.
    let low = |number: u64| number as u32;
    let [now_mtime, now_ctime] = [now.mtime(), now.ctime()].map(|seconds| seconds as u32);
    entry.settled
        && kind
        && (now_mtime, now.mtime_nsec()) == (mtime, i64::from(mtime_nsec))
        && (now_ctime, now.ctime_nsec()) == (ctime, i64::from(ctime_nsec))
        && (low(now.ino()), now.uid(), now.gid()) == (inode, user, group)
        && now.len() == u64::from(size)
        // Git writes this size for a file that it has to read again.
        && (size != 0 || entry.object() == EMPTY)
        && now.mtime() * NANOSECONDS + now.mtime_nsec() < index_written
}

/// Whether the worktree has no file and no folder but those of the entries.
fn has_no_other(work_tree: &Path, entries: &[Entry<'_>]) -> bool {
    let files: HashSet<&[u8]> = entries.iter().map(|entry| entry.path).collect();
    let mut folders = HashSet::new();
    for entry in entries {
        folders
            .extend((0..entry.path.len()).filter(|at| entry.path[*at] == b'/').map(|end| &entry.path[..end]));
    }
    let mut left = vec![PathBuf::new()];
    while let Some(folder) = left.pop() {
        let Ok(list) = std::fs::read_dir(work_tree.join(&folder)) else { return false };
        for found in list {
            let Ok((name, kind)) = found.and_then(|found| Ok((found.file_name(), found.file_type()?))) else {
                return false;
            };
            let path = folder.join(&name);
            let bytes = path.as_os_str().as_bytes();
            if bytes == b".git" {
                continue;
            }
            if kind.is_dir() && folders.contains(bytes) {
                left.push(path);
            } else if kind.is_dir() || !files.contains(bytes) {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::real::git;
    use std::process::Command;
    use std::time::{Duration, SystemTime};

    /// A file that is older than an index that is written now.
    fn write(path: &Path, text: &str) {
        write_aged(path, text, 9);
    }

    fn write_aged(path: &Path, text: &str, seconds: u64) {
        std::fs::write(path, text).unwrap();
        let before = SystemTime::now() - Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }

    fn fill(dir: &Path) {
        std::fs::create_dir_all(dir.join("folder/inner")).unwrap();
        for name in ["a", "empty", "folder/b", "folder/inner/c"] {
            write(&dir.join(name), if name == "empty" { "" } else { name });
        }
    }

    fn made() -> (tempfile::TempDir, Repository) {
        let tmp = tempfile::tempdir().unwrap();
        git(tmp.path(), &["init", "-q", "-b", "topic/a"]);
        fill(tmp.path());
        git(tmp.path(), &["add", "."]);
        git(tmp.path(), &["commit", "-q", "-m", "first"]);
        let repository = Repository::find(tmp.path()).unwrap();
        (tmp, repository)
    }

    #[test]
    fn a_worktree_that_is_what_head_has_is_seen_without_git() {
        let (tmp, repository) = made();
        let commit = git(tmp.path(), &["rev-parse", "HEAD"]);
        let on = |branch: Option<&str>| {
            Some(Head { commit: commit.clone(), branch: branch.map(ToOwned::to_owned) })
        };
        assert_eq!(repository.untouched(), on(Some("topic/a")));
        git(tmp.path(), &["pack-refs", "--all"]);
        assert_eq!(repository.untouched(), on(Some("topic/a")));
        git(tmp.path(), &["checkout", "-q", "--detach"]);
        assert_eq!(repository.untouched(), on(None));
        let linked = tempfile::tempdir().unwrap();
        let path = linked.path().join("linked");
        git(tmp.path(), &["worktree", "add", "-q", "-b", "other", path.to_str().unwrap()]);
        // What is as young as its index is not trusted.
        fill(&path);
        git(&path, &["update-index", "-q", "--refresh"]);
        assert_eq!(Repository::find(&path).unwrap().untouched(), on(Some("other")));
    }

    #[test]
    fn whatever_differs_is_left_to_git() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 15] = [
            ("another text of the same length and time", |dir| {
                let path = dir.join("a");
                let before = std::fs::metadata(&path).unwrap().modified().unwrap();
                std::fs::write(&path, "z").unwrap();
                std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
            }),
            ("a file more", |dir| std::fs::write(dir.join("folder/inner/new"), "").unwrap()),
            ("an empty folder", |dir| std::fs::create_dir(dir.join("folder/new")).unwrap()),
            ("a file less", |dir| std::fs::remove_file(dir.join("folder/b")).unwrap()),
            ("a file that may be run", |dir| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(dir.join("a"), std::fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("a link in a file's place", |dir| {
                std::fs::remove_file(dir.join("a")).unwrap();
                std::os::unix::fs::symlink("b", dir.join("a")).unwrap();
            }),
            ("a link in a folder's place", |dir| {
                std::fs::rename(dir.join("folder"), dir.join(".git/folder")).unwrap();
                std::os::unix::fs::symlink(".git/folder", dir.join("folder")).unwrap();
            }),
            ("a staged file", |dir| {
                write(&dir.join("new"), "new");
                git(dir, &["add", "new"]);
            }),
            ("a staged text", |dir| {
                write(&dir.join("a"), "another");
                git(dir, &["add", "a"]);
            }),
            ("a file that is meant to be added", |dir| {
                write(&dir.join("new"), "new");
                git(dir, &["add", "--intent-to-add", "new"]);
            }),
            ("another HEAD", |dir| {
                write(&dir.join("a"), "another");
                git(dir, &["commit", "-q", "-a", "-m", "second"]);
                git(dir, &["reset", "-q", "--soft", "HEAD~1"]);
            }),
            ("a conflict", |dir| {
                let object = git(dir, &["rev-parse", "HEAD:a"]);
                let side = |n: u8| format!("100644 {object} {n}\ta\n");
                let mut command = Command::new("git");
                command.arg("-C").arg(dir).args(["update-index", "--index-info"]);
                let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
                let list = format!("0 {} 0\ta\n{}{}", "0".repeat(40), side(2), side(3));
                std::io::Write::write_all(&mut child.stdin.take().unwrap(), list.as_bytes()).unwrap();
                assert!(child.wait().unwrap().success());
            }),
            ("an index that is as young as its files", |dir| {
                let later = SystemTime::now() + Duration::from_mins(1);
                std::fs::File::options()
                    .write(true)
                    .open(dir.join("a"))
                    .unwrap()
                    .set_modified(later)
                    .unwrap();
                git(dir, &["update-index", "-q", "--refresh"]);
            }),
            ("a repository inside", |dir| git(dir, &["init", "-q", "folder/inner"]).clear()),
            ("a commit in a pack", |dir| git(dir, &["gc", "-q"]).clear()),
        ];
        for (name, change) in changes {
            let (tmp, repository) = made();
            assert!(repository.untouched().is_some(), "{name}");
            change(tmp.path());
            assert_eq!(repository.untouched(), None, "{name}");
        }
    }

    #[test]
    fn git_agrees() {
        let (tmp, repository) = made();
        let dir = tmp.path();
        let mut said = 0;
        let mut dice = 1_u32;
        for round in 0..60 {
            // Numerical Recipes' generator: any will do.
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let text = ["a", "z", "zz"][dice as usize >> 8 & 1];
            // Most gits compare seconds, and note no other stamp in the same one.
            let write = |path: &Path, text: &str| write_aged(path, text, 100 + round);
            match dice >> 28 {
                0 | 1 => write(&dir.join("a"), text),
                2 => std::fs::write(dir.join("a"), text).unwrap(),
                3 | 4 => git(dir, &["add", "-A"]).clear(),
                5 => git(dir, &["commit", "-q", "--allow-empty", "-a", "-m", "more"]).clear(),
                6 => git(dir, &["reset", "-q", "--hard"]).clear(),
                7 => git(dir, &["update-index", "-q", "--really-refresh"]).clear(),
                8 => write(&dir.join("folder/new"), text),
                9 => git(dir, &["clean", "-q", "-f", "-d"]).clear(),
                _ => {
                    write(&dir.join("a"), text);
                    git(dir, &["add", "-A"]);
                    git(dir, &["commit", "-q", "--allow-empty", "-m", "all"]);
                }
            }
            if let Some(head) = repository.untouched() {
                said += 1;
                assert_eq!(
                    git(dir, &["--no-optional-locks", "status", "--porcelain", "--untracked-files=all"]),
                    "",
                    "{round}"
                );
                assert_eq!(git(dir, &["rev-parse", "HEAD"]), head.commit, "{round}");
            }
        }
        assert!(said > 5, "{said}");
    }
}
