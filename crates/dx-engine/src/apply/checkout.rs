//! Bringing the files of a checkout from one commit to another, all of them or none. Git writes the files one by one and its
//! index last; when it fails or is killed in between, what it wrote is put back here. When this process is killed too, a note
//! in the repository is left, and the next apply puts it back.
//!
//! The index is changed as a copy while `index.lock` keeps every other git from it. That lock is a second name of the note, so
//! that nobody ever removes another git's.
//!
//! Called by [`super::target`], which has looked that nothing there is the user's. Must never change a path that is the same
//! in both commits.

use crate::error::EngineError;
use crate::git::{Call, Repository, Scratch, copy_index};
use crate::worktree::{paths, quoted};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Beside the repository's other files: no agent in a sandbox can write there.
const NOTE: &str = "dx-runner-apply";
const MAX_NOTE: u64 = 64 << 20;
/// What every git makes before it changes the index.
const LOCK: &str = "index.lock";
/// The index while it is changed.
const INDEX: &str = "dx-runner-apply-index";
/// What the files were when a cut-off apply was put back: nothing that somebody did to them since is lost.
const KEPT: &str = "refs/dx-runner/cut-off";

/// The note that files are being changed; it goes when they are whole again. Locked for as long as this process or a git of
/// its lives, so that nobody takes them for dead. While it has the name of the index's lock, too, the index is ours.
pub(super) struct Note {
    path: PathBuf,
    git_dir: PathBuf,
    file: File,
}

/// What a note tells: both commits, and the paths that only the second has and that were not there.
struct Cut {
    at: String,
    new: String,
    added: Vec<PathBuf>,
}

impl Note {
    fn path(checkout: &Repository) -> PathBuf {
        checkout.common_dir.join(NOTE)
    }

    /// Puts back what an earlier apply that was killed left half changed; a remark when there was one.
    pub(super) fn settle_left(checkout: &Repository) -> Result<Option<String>, EngineError> {
        let path = Self::path(checkout);
        let Ok(file) = dx_jobdir::open_regular(&path) else { return Ok(None) };
        let refused =
            |next: String| EngineError::ApplyCutOff { path: checkout.work_tree.clone(), put_back: next };
        if file.try_lock().is_err() {
            return Err(refused("wait until the apply that is changing them has ended".to_owned()));
        }
        let note = Self { path: path.clone(), git_dir: checkout.git_dir.clone(), file };
        if !note.is_at(&path) {
            // Its apply has ended just now.
            return Ok(None);
        }
        let text = dx_jobdir::read_bounded(&path, MAX_NOTE).unwrap_or_default();
        let head = Call::new(checkout, &["rev-parse", "--verify", "HEAD"]).line()?;
        let cut = Cut::parse(&text, &checkout.work_tree).filter(|cut| [&cut.at, &cut.new].contains(&&head));
        let Some(cut) = cut else {
            // Whoever mends the files needs the index.
            note.unlock_index()?;
            let (repo, note) = (checkout.work_tree.display().to_string(), path.display().to_string());
            let (repo, note) = (quoted(&repo), quoted(&note));
            return Err(refused(format!(
                "git -C {repo} status shows what differs; mend the files, commit or restore them, then rm {note}"
            )));
        };
        if head == cut.new {
            // The branch moves last.
            note.remove()?;
            return Ok(None);
        }
        note.lock_index()?;
        cut.keep(checkout)?;
        put_back(checkout, &note, &cut)?;
        note.remove()?;
        Ok(Some(format!(
            "an earlier apply was cut off; its files were put back, and what they were is in {KEPT}"
        )))
    }

    fn leave(checkout: &Repository, cut: &Cut) -> Result<Self, EngineError> {
        let path = Self::path(checkout);
        let unwritable = |source| EngineError::Output { path: path.clone(), source };
        // Under a name of its own until it is locked and whole.
        let fresh = path.with_extension(uuid::Uuid::now_v7().to_string());
        let mut file = File::create_new(&fresh).map_err(unwritable)?;
        let written = file.write_all(&cut.text()).and_then(|()| file.sync_all());
        let locked = written.and_then(|()| file.try_lock().map_err(std::io::Error::from));
        // The git that changes the files may live longer than this process: it holds the lock, too.
        let shared = locked.and_then(|()| Ok(rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty())?));
        if let Err(source) = shared.and_then(|()| std::fs::rename(&fresh, &path)) {
            let _gone = std::fs::remove_file(&fresh);
            return Err(unwritable(source));
        }
        let note = Self { path, git_dir: checkout.git_dir.clone(), file };
        if let Err(error) = note.lock_index() {
            note.remove()?;
            return Err(error);
        }
        Ok(note)
    }

    fn is_at(&self, path: &Path) -> bool {
        let there = std::fs::symlink_metadata(path);
        self.file
            .metadata()
            .ok()
            .zip(there.ok())
            .is_some_and(|(own, there)| (own.dev(), own.ino()) == (there.dev(), there.ino()))
    }

    /// Keeps every other git from the index. One that has it, or left its lock when it died, is not ours to judge.
    fn lock_index(&self) -> Result<(), EngineError> {
        let lock = self.git_dir.join(LOCK);
        match std::fs::hard_link(&self.path, &lock) {
            Ok(()) => Ok(()),
            Err(_) if self.is_at(&lock) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(EngineError::IndexLocked(lock))
            }
            Err(source) => Err(EngineError::Output { path: lock, source }),
        }
    }

    fn unlock_index(&self) -> Result<(), EngineError> {
        let lock = self.git_dir.join(LOCK);
        if self.is_at(&lock) {
            std::fs::remove_file(&lock).map_err(|source| EngineError::Output { path: lock, source })?;
        }
        Ok(())
    }

    /// A copy of the index to work on.
    fn index(&self) -> Result<PathBuf, EngineError> {
        let copy = self.git_dir.join(INDEX);
        // A git that was killed while it wrote the copy left its lock; nobody else writes there.
        let _gone = std::fs::remove_file(copy.with_extension("lock"));
        copy_index(&self.git_dir.join("index"), &copy)
            .map_err(|source| EngineError::Io { what: "read the checkout's index", source })?;
        Ok(copy)
    }

    /// The copy becomes the index.
    fn publish(&self, copy: &Path) -> Result<(), EngineError> {
        let index = self.git_dir.join("index");
        std::fs::rename(copy, &index).map_err(|source| EngineError::Output { path: index, source })
    }

    fn remove(self) -> Result<(), EngineError> {
        for name in [INDEX.to_owned(), format!("{INDEX}.lock")] {
            let _gone = std::fs::remove_file(self.git_dir.join(name));
        }
        self.unlock_index()?;
        std::fs::remove_file(&self.path).map_err(|source| EngineError::Output { path: self.path, source })
    }
}

impl Cut {
    /// `<at> NUL <new> NUL`, then each path with a NUL.
    fn text(&self) -> Vec<u8> {
        let mut text = format!("{}\0{}\0", self.at, self.new).into_bytes();
        for path in &self.added {
            text.extend_from_slice(path.as_os_str().as_bytes());
            text.push(0);
        }
        text
    }

    /// Only paths below the work tree: this is a list of files to delete.
    fn parse(text: &[u8], work_tree: &Path) -> Option<Self> {
        let mut fields = text.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let mut commit = || {
            let id = String::from_utf8(fields.next()?.to_vec()).ok()?;
            (id.len() >= 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
        };
        let (at, new) = (commit()?, commit()?);
        let added: Vec<PathBuf> = fields.map(|path| OsStr::from_bytes(path).into()).collect();
        let below = |path: &PathBuf| {
            let rest = path.strip_prefix(work_tree);
            rest.is_ok_and(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))))
        };
        added.iter().all(below).then_some(Self { at, new, added })
    }

    /// A commit with the files that will be put back as they are.
    fn keep(&self, checkout: &Repository) -> Result<(), EngineError> {
        let scratch = Scratch::new()?;
        let index = scratch.index("cut-off");
        Call::new(checkout, &["read-tree", &self.at]).index(&index).run()?;
        let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", &self.at, &self.new];
        let changed = Call::new(checkout, &args).run()?;
        checkout.stage(&index, &paths(&changed).collect::<Vec<_>>())?;
        let tree = Call::new(checkout, &["write-tree"]).index(&index).line()?;
        let kept =
            crate::worktree::commit(checkout, &tree, &[&self.at], "files of an apply that was cut off")?;
        Call::new(checkout, &["update-ref", KEPT, &kept]).run().map(drop)
    }
}

/// Changes the files and the index, and runs `commit` then. Nothing has changed when this fails.
pub(super) fn change(
    checkout: &Repository,
    at: &str,
    new: &str,
    commit: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=A", at, new];
    let there = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    let full = |path: &[u8]| checkout.work_tree.join(OsStr::from_bytes(path));
    let added = Call::new(checkout, &args).run()?;
    // Git refuses to write over the others.
    let added: Vec<PathBuf> = paths(&added).map(full).filter(|path| !there(path)).collect();
    let cut = Cut { at: at.to_owned(), new: new.to_owned(), added };
    let note = Note::leave(checkout, &cut)?;
    let index = note.index()?;
    let output = Call::new(checkout, &["read-tree", "-m", "-u", at, new]).index(&index).output()?;
    let failed = if output.status.success() {
        note.publish(&index).and_then(|()| commit()).err()
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let files = said.lines().filter_map(|l| l.strip_prefix('\t')).map(|l| l.trim().to_owned());
        let mut work: Vec<String> = files.collect();
        if work.is_empty() {
            work.extend(said.trim().lines().map(|l| l.trim_start_matches("error: ").to_owned()));
        }
        Some(match output.status.code() {
            // It had no time to say anything.
            None => crate::git::ended(&["read-tree", "-m", "-u"], &output),
            Some(_) => EngineError::TargetDirty { path: checkout.work_tree.clone(), work },
        })
    };
    if let Some(failed) = failed {
        put_back(checkout, &note, &cut)?;
        note.remove()?;
        return Err(failed);
    }
    note.remove()
}

/// The index, the files that `at` has, and none of those that only `new` has and that were not there.
fn put_back(checkout: &Repository, note: &Note, cut: &Cut) -> Result<(), EngineError> {
    let Cut { at, new, added } = cut;
    let index = note.index()?;
    Call::new(checkout, &["read-tree", "-m", at]).index(&index).run()?;
    let args = ["diff-tree", "-r", "-z", "--no-renames", "--name-only", "--diff-filter=a", at, new];
    let changed = Call::new(checkout, &args).run()?;
    if !changed.is_empty() {
        let args = ["checkout-index", "--force", "--quiet", "-u", "-z", "--stdin"];
        Call::new(checkout, &args).index(&index).stdin(changed).run()?;
    }
    note.publish(&index)?;
    for path in added {
        let _gone = std::fs::remove_file(path);
        let below = |folder: &&Path| folder.starts_with(&checkout.work_tree) && *folder != checkout.work_tree;
        for folder in path.ancestors().skip(1).take_while(below) {
            // Git makes folders for files only; one that holds something stays.
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    Ok(())
}
