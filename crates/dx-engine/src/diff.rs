//! `diff`: what a job changed in its worktree since its start, as text in git's form (`git apply` reads it). Committed, staged and
//! unstaged work comes from git; new files that git does not know are read here.
//!
//! A worktree is an agent's to write in: git is called by the recorded paths and runs nothing of the repository's, and a new file is opened only when it is a
//! plain one, without following links, and read up to a limit.

use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::git::Repository;
use crate::secrets::{self, mask_text};
use crate::{lookup, work};
use dx_proc::Host;
use dx_protocol::TreeStart;
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Of a new file no more is shown than this.
const FILE_LIMIT: u64 = 1 << 20;
/// Of the files in submodules, and of repositories inside, no more are named.
const MAX_NAMED: usize = 20;
/// Where git looks for the NUL that makes a file a binary one.
const BINARY_PROBE: usize = 8_000;
/// Git's name for a tree with nothing in it, when the start had no commit.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
/// A user's configuration shall not change the form.
const DIFF: [&str; 12] = [
    "-c",
    "core.quotePath=false",
    "--literal-pathspecs",
    "diff",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--submodule=short",
    "--ignore-submodules=dirty",
    "--src-prefix=a/",
    "--dst-prefix=b/",
];
/// Whatever is ignored now: the paths are named.
const OTHERS: [&str; 4] = ["--literal-pathspecs", "ls-files", "--others", "-z"];

impl Engine {
    /// Everything that changed in the job's worktree since its newest run began; empty when nothing did, or when it is
    /// no git worktree. Secrets that can be known here are masked, in names and in lines. What differed from HEAD before the start and was left alone is not the agent's and not shown.
    pub fn diff(&self, job: &JobName) -> Result<String, EngineError> {
        let none = || EngineError::NoJob { beads: job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let found = lookup::newest_ours(&state, job)?;
        let Some(tree) = found.run.created.tree.as_ref() else { return Ok(String::new()) };
        secrets::also_of(&Host::current()?, &found);
        let before = Fingerprint::load(&found.paths.repository());
        let work = work::report(tree, &found.paths.tree(), before.as_ref(), found.changed());
        let mut text = of_work(tree, &work)?;
        if work.report.known {
            text.push_str(&inside(tree, &work));
        }
        Ok(mask_text(&text).into_owned())
    }
}

/// What lies in repositories inside, of which only the names are told.
fn inside(tree: &TreeStart, work: &work::Work) -> String {
    let mut note = String::new();
    if !work.inside.is_empty() {
        let _fits =
            writeln!(note, "# not shown: {} files in submodules: {}", work.inside.len(), names(&work.inside));
    }
    let nested = work.nested(Path::new(&tree.work_tree));
    if !nested.repositories.is_empty() {
        let _fits = writeln!(note, "# not shown: repositories inside: {}", names(&nested.repositories));
    }
    for sentence in nested.unseen {
        let _fits = writeln!(note, "# not shown: {sentence}");
    }
    note
}

/// Some of the paths, as git writes them.
fn names<'a>(paths: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let mut paths = paths.into_iter();
    let mut named: Vec<String> = paths.by_ref().take(MAX_NAMED).map(|path| quoted("", path)).collect();
    named.extend(paths.next().map(|_| "…".to_owned()));
    named.join(", ")
}

/// See [`Engine::diff`]; without what is in repositories inside, and not masked.
pub(crate) fn of_work(tree: &TreeStart, work: &work::Work) -> Result<String, EngineError> {
    let mut files = work.report.files_changed.clone();
    files.retain(|path| !work.inside.contains(path.as_bytes()) && !path.ends_with('/'));
    if files.is_empty() {
        return Ok(String::new());
    }
    let repository = Repository::recorded(tree);
    let call = |form: &[&str], start: Option<&str>| {
        let files = ["--"].into_iter().chain(files.iter().map(String::as_str));
        let args: Vec<&str> = form.iter().copied().chain(start).chain(files).collect();
        repository.git_unhidden(&args)
    };
    let tracked = call(&DIFF, Some(tree.head.as_deref().unwrap_or(EMPTY_TREE)))?;
    let mut text = String::from_utf8_lossy(&tracked).into_owned();
    let named: HashSet<&[u8]> = files.iter().map(String::as_bytes).collect();
    for path in call(&OTHERS, None)?.split(|byte| *byte == 0).filter(|path| named.contains(path)) {
        text.push_str(&addition(&repository.work_tree, path));
    }
    let named = work.report.files_changed.len() as u64;
    if let Some(cut) = work.report.cut.as_ref().filter(|cut| cut.files > named) {
        let _fits = writeln!(text, "# not shown: {} more files", cut.files - named);
    }
    Ok(text)
}

/// A file that git does not know, as git would show it once it did.
fn addition(work_tree: &Path, path: &[u8]) -> String {
    let full = work_tree.join(OsStr::from_bytes(path));
    let (old, new) = (quoted("a/", path), quoted("b/", path));
    let (mode, content) = match content(&full) {
        Ok(read) => read,
        Err(error) => return format!("diff --git {old} {new}\n# not shown: {error}\n"),
    };
    let mut text = format!("diff --git {old} {new}\nnew file mode {mode}\n");
    if content.iter().take(BINARY_PROBE).any(|byte| *byte == 0) {
        let _fits = writeln!(text, "Binary files /dev/null and {new} differ");
        return text;
    }
    if content.is_empty() {
        return text;
    }
    let content = String::from_utf8_lossy(&content);
    let lines: Vec<&str> = content.split_inclusive('\n').collect();
    let count = if lines.len() == 1 { String::new() } else { format!(",{}", lines.len()) };
    let _fits = writeln!(text, "--- /dev/null\n+++ {new}\n@@ -0,0 +1{count} @@");
    for line in &lines {
        let _fits = write!(text, "+{line}");
    }
    if !content.ends_with('\n') {
        text.push_str("\n\\ No newline at end of file\n");
    }
    text
}

/// Git's mode and the content of a plain file, or where a link leads; nothing else is opened.
fn content(path: &Path) -> io::Result<(&'static str, Vec<u8>)> {
    let meta = std::fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(("120000", std::fs::read_link(path)?.into_os_string().into_vec()));
    }
    if !meta.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    // It may have become something else since the look: no link is followed, no pipe waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > FILE_LIMIT {
        return Err(io::Error::other(format!("it is no plain file of at most {FILE_LIMIT} bytes")));
    }
    let mut content = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut content)?;
    Ok((if meta.permissions().mode() & 0o100 == 0 { "100644" } else { "100755" }, content))
}

/// A path as git writes it: with control characters, quotes or backslashes it is escaped, and then it stands in quotes.
fn quoted(prefix: &str, path: &[u8]) -> String {
    let mut text = prefix.to_owned();
    let mut plain = true;
    for letter in String::from_utf8_lossy(path).chars() {
        plain &= !letter.is_ascii_control() && letter != '"' && letter != '\\';
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            letter if letter.is_ascii_control() => {
                let _fits = write!(text, "\\{:03o}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    if plain { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::real::git;
    use crate::work::Snapshot;

    fn text(tree: &TreeStart, dirty_file: &Path) -> String {
        of_work(tree, &work::report(tree, dirty_file, None, &[])).unwrap()
    }

    #[test]
    fn all_kinds_of_work_and_nothing_that_was_there_before() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("repo");
        std::fs::create_dir(&dir).unwrap();
        let put = |name: &str, content: &str| std::fs::write(dir.join(name), content).unwrap();
        git(&dir, &["init", "--quiet"]);
        for name in ["committed", "edited", "users"] {
            put(name, "old\n");
        }
        git(&dir, &["add", "--all"]);
        git(&dir, &["commit", "--quiet", "--message=start"]);
        put("users", "the user's\n");
        put("users-new", "the user's\n");
        let repository = Repository::find(&dir).unwrap();
        let snapshot = Snapshot::take(&repository).unwrap();
        let tree = snapshot.record(&repository);
        let dirty = tmp.path().join("dirty");
        snapshot.save(&dirty).unwrap();
        assert_eq!(text(&tree, &dirty), "");

        put("committed", "new\n");
        git(&dir, &["commit", "--quiet", "--message=work", "committed"]);
        put("edited", "new\n");
        put("new \u{e9}\u{1b}", "one\ntwo");
        put("binary", "a\0b");
        std::os::unix::fs::symlink("/etc/hostname", dir.join("link")).unwrap();
        let shown = text(&tree, &dirty);
        for part in [
            "--- a/committed\n+++ b/committed\n@@ -1 +1 @@\n-old\n+new\n",
            "--- a/edited\n+++ b/edited\n",
            "+++ \"b/new \u{e9}\\033\"\n@@ -0,0 +1,2 @@\n+one\n+two\n\\ No newline at end of file\n",
            "Binary files /dev/null and b/binary differ\n",
            "new file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+/etc/hostname\n\\ No newline",
        ] {
            assert!(shown.contains(part), "{part}\nis not in\n{shown}");
        }
        assert!(!shown.contains("user") && !shown.contains('\u{1b}'), "{shown}");
        // What git itself would say of the whole.
        std::fs::remove_file(dir.join("binary")).unwrap();
        let patch = tmp.path().join("patch");
        std::fs::write(&patch, text(&tree, &dirty)).unwrap();
        let other = tmp.path().join("other");
        git(tmp.path(), &["clone", "--quiet", "repo", "other"]);
        git(&other, &["reset", "--hard", "--quiet", "HEAD~1"]);
        git(&other, &["apply", &patch.display().to_string()]);
        assert_eq!(std::fs::read_to_string(other.join("new \u{e9}\u{1b}")).unwrap(), "one\ntwo");
    }

    #[test]
    fn a_filter_of_the_repositorys_does_not_run() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("repo");
        std::fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "--quiet"]);
        std::fs::write(dir.join("file"), "old\n").unwrap();
        git(&dir, &["add", "--all"]);
        git(&dir, &["commit", "--quiet", "--message=start"]);
        let repository = Repository::find(&dir).unwrap();
        let tree = Snapshot::take(&repository).unwrap().record(&repository);
        let ran = tmp.path().join("ran");
        for key in ["filter.x.clean", "diff.x.textconv", "diff.x.command"] {
            git(&dir, &["config", key, &format!("touch {}; cat", ran.display())]);
        }
        std::fs::write(dir.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
        std::fs::write(dir.join("file"), "new\n").unwrap();
        let shown = text(&tree, &tmp.path().join("dirty"));
        assert!(shown.contains("@@ -1 +1 @@\n-old\n+new\n"), "{shown}");
        assert!(!ran.exists());
        git(&dir, &["hash-object", "--path=file", "file"]);
        assert!(ran.exists(), "it was armed");
    }
}
