//! The branch that work is brought onto: where it is, whether it may be touched, and how it moves.

use super::checkout::{self, Note};
use crate::error::EngineError;
use crate::git::{Call, Repository, ended, failed, line};
use crate::worktree::{PATIENT, main_checkout, operation, paths, quoted};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Output};

/// The branch.
pub(crate) struct Target {
    /// The repository; its main checkout when it has one.
    pub(crate) main: Repository,
    pub(crate) branch: String,
    /// Its commit; `None` when it will be made.
    pub(crate) at: Option<String>,
    /// The main checkout when the branch is checked out there.
    pub(crate) checkout: Option<Repository>,
}

impl Target {
    /// Finds the branch: the named one, or the one that the main checkout is on.
    pub(crate) fn find(
        recorded: &Repository,
        named: Option<&str>,
        jobs: Option<&str>,
    ) -> Result<Self, EngineError> {
        let common_dir = recorded.common_dir.clone();
        let checkout = main_checkout(recorded).map(|work_tree| Repository {
            git_dir: common_dir.clone(),
            common_dir: common_dir.clone(),
            work_tree,
        });
        let bare = || Repository {
            git_dir: common_dir.clone(),
            common_dir: common_dir.clone(),
            work_tree: common_dir.clone(),
        };
        let main = checkout.clone().unwrap_or_else(bare);
        let head = Call::new(&main, &["symbolic-ref", "--quiet", "HEAD"]).output()?;
        let on = line(&head.stdout).strip_prefix("refs/heads/").map(str::to_owned);
        let branch = match named {
            Some(name) => name.to_owned(),
            None => on.clone().ok_or(EngineError::NoTarget)?,
        };
        let name = format!("refs/heads/{branch}");
        if branch.starts_with('-') || !main.git_says(&["check-ref-format", &name])? {
            return Err(EngineError::BranchName(branch));
        }
        if jobs == Some(branch.as_str()) {
            return Err(EngineError::Argument(format!(
                "the job worked on branch {branch} itself; name another with --branch"
            )));
        }
        let at = Call::new(&main, &["rev-parse", "--verify", "--quiet", &name]).output()?;
        let at = at.status.success().then(|| line(&at.stdout));
        let mut target = Self { main, branch, at, checkout: None };
        if on.as_deref() == Some(target.branch.as_str()) && checkout.is_some() {
            target.checkout = checkout;
        } else if let Some(path) = target.checked_out()? {
            return Err(EngineError::BranchInUse { branch: target.branch, path: path.into() });
        }
        Ok(target)
    }

    fn name(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Where a linked worktree has the branch.
    fn checked_out(&self) -> Result<Option<String>, EngineError> {
        let name = self.name();
        let list =
            Call::new(&self.main, &["for-each-ref", "--format=%(refname)%00%(worktreepath)", &name]).run()?;
        let list = String::from_utf8_lossy(&list);
        let path = list.lines().filter_map(|l| l.split_once('\0')).find(|(found, _)| *found == name);
        // A bare repository's own HEAD has no files.
        let bare = self.main.work_tree == self.main.common_dir;
        let own = |path: &str| bare && Path::new(path) == self.main.common_dir;
        Ok(path.map(|(_, path)| path.to_owned()).filter(|path| !path.is_empty() && !own(path)))
    }

    /// Puts back what an apply that was killed left in the checkout; a remark when there was something.
    pub(crate) fn settle_left(&self) -> Result<Option<String>, EngineError> {
        self.checkout.as_ref().map_or(Ok(None), Note::settle_left)
    }

    /// Refuses a checkout with changes of its own.
    pub(crate) fn check_clean(&self) -> Result<(), EngineError> {
        let Some(checkout) = &self.checkout else { return Ok(()) };
        let dirty = |work: Vec<String>| EngineError::TargetDirty { path: checkout.work_tree.clone(), work };
        if let Some(what) = operation(&checkout.git_dir) {
            return Err(dirty(vec![format!("{what} that is not finished")]));
        }
        let args = [
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=no",
            "--no-renames",
            "--ignore-submodules=dirty",
        ];
        let list = Call::new(checkout, &args).run()?;
        let files =
            list.split(|b| *b == 0).filter_map(|entry| entry.get(3..)).filter(|path| !path.is_empty());
        let files: Vec<String> = files.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        if files.is_empty() { Ok(()) } else { Err(dirty(files)) }
    }

    /// Commands for a merge by hand.
    pub(crate) fn merge_by_hand(&self, name: &str) -> String {
        let repo = quoted(&self.main.work_tree.display().to_string());
        let switch = if self.checkout.is_some() {
            String::new()
        } else {
            format!("git -C {repo} switch {}; ", quoted(&self.branch))
        };
        format!("{switch}git -C {repo} merge {name}, mend the files, then git -C {repo} commit")
    }

    /// Moves the branch from where it was to the new commit, and the main checkout with it. Nothing moves when anything
    /// fails.
    pub(crate) fn advance(&self, new: &str, message: &str) -> Result<(), EngineError> {
        let name = self.name();
        let old = self.at.as_deref().unwrap_or_default();
        let (Some(checkout), Some(at)) = (&self.checkout, &self.at) else {
            let args = ["update-ref", "--create-reflog", "-m", message, &name, new, old];
            return Call::new(&self.main, &[&PATIENT, &args[..]].concat()).run().map(drop);
        };
        let lock = RefLock::take(checkout, &name, new, at, message)?;
        // Between the look and the lock somebody may have begun to work.
        self.check_clean()?;
        check_hidden(checkout, at, new)?;
        let _refreshed = Call::new(checkout, &["update-index", "-q", "--refresh"]).output()?;
        checkout::change(checkout, at, new, || lock.commit())
    }
}

/// Refuses when the user told git not to look at a file, changed it, and it would change now: git would write over it.
fn check_hidden(checkout: &Repository, at: &str, new: &str) -> Result<(), EngineError> {
    let hidden = checkout.hidden_edits()?;
    if hidden.is_empty() {
        return Ok(());
    }
    let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", at, new];
    let changed = Call::new(checkout, &args).run()?;
    let in_the_way = |path: &&[u8]| hidden.iter().any(|hidden| hidden == path);
    let name = |path: &[u8]| format!("{} (git was told not to look at it)", String::from_utf8_lossy(path));
    let work: Vec<String> = paths(&changed).filter(in_the_way).map(name).collect();
    let path = checkout.work_tree.clone();
    if work.is_empty() { Ok(()) } else { Err(EngineError::TargetDirty { path, work }) }
}

/// A branch that nobody else can move: a transaction that is prepared. It is given up with the value.
struct RefLock {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

const CALL: [&str; 2] = ["update-ref", "--stdin"];

impl RefLock {
    fn take(
        repository: &Repository,
        name: &str,
        new: &str,
        old: &str,
        message: &str,
    ) -> Result<Self, EngineError> {
        let args = [&PATIENT, &["update-ref", "-m", message, "--stdin"][..]].concat();
        let mut child = Call::new(repository, &args).start()?;
        let none = || failed(&CALL, "no pipe".to_owned());
        let stdin = child.stdin.take().ok_or_else(none)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(none)?);
        let mut lock = Self { child, stdin: Some(stdin), stdout };
        lock.say(&format!("start\nupdate {name} {new} {old}\nprepare\n"));
        lock.hear("start: ok")?;
        lock.hear("prepare: ok")?;
        Ok(lock)
    }

    fn say(&mut self, text: &str) {
        let Some(stdin) = &mut self.stdin else { return };
        // Whoever reads no more has told why.
        let _said = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
    }

    fn hear(&mut self, expected: &str) -> Result<(), EngineError> {
        let mut heard = String::new();
        let read = self.stdout.read_line(&mut heard);
        if read.is_ok() && heard.trim_end() == expected {
            return Ok(());
        }
        let mut errors = Vec::new();
        self.stdin = None;
        if let Some(stderr) = &mut self.child.stderr {
            let _read = stderr.read_to_end(&mut errors);
        }
        let status = self.child.wait().map_err(|e| failed(&CALL, e.to_string()))?;
        Err(ended(&CALL, &Output { status, stdout: Vec::new(), stderr: errors }))
    }

    fn commit(mut self) -> Result<(), EngineError> {
        self.say("commit\n");
        self.hear("commit: ok")
    }
}

impl Drop for RefLock {
    fn drop(&mut self) {
        self.stdin = None;
        let _ended = self.child.wait();
    }
}
