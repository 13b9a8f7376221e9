//! `apply`: brings a job's commits and uncommitted changes onto a branch of the repository, all of it or nothing.
//!
//! The merge is made in the object store, where it can fail without a trace; then the branch moves, if it is still where it
//! was. A branch that is checked out in the main checkout is locked while the files there are brought along. Must never
//! touch a target with changes of its own, nor run anything that the job left: git is called as everywhere else.

mod checkout;
mod conflict;
mod merge;
mod target;

pub use conflict::Conflict;
pub(crate) use merge::merge_trees;
pub(crate) use target::Target;

use crate::Engine;
use crate::api::ApplyRequest;
use crate::error::EngineError;
use crate::fingerprint::Fingerprint;
use crate::git::{Call, Repository, Scratch, line};
use crate::lookup::{self, Found};
use crate::secrets::{self, mask_text};
use crate::view::View;
use crate::work;
use crate::worktree::{Lock, apply_ref, paths};
use dx_proc::Host;
use dx_protocol::{ApplyDocument, TreeStart};
use std::path::Path;

/// So many are named.
const MAX_NESTED: usize = 10;
const PROJECT_FILE: &[u8] = b".dx-runner.toml";

impl Engine {
    /// Brings a job's work onto a branch.
    pub fn apply(&self, request: &ApplyRequest) -> Result<ApplyDocument, EngineError> {
        let none = || EngineError::NoJob { beads: request.job.beads.to_string(), near: Vec::new() };
        let state = self.state_for_reading()?.ok_or_else(none)?;
        let found = lookup::newest_ours(&state, &request.job)?;
        let ids = &found.run.created.ids;
        if !View::of(&state, &Host::current()?, &found).ended() {
            return Err(EngineError::AlreadyRunning {
                beads: ids.beads.to_string(),
                provider: ids.provider.to_string(),
                run_instance: ids.run_instance.clone(),
            });
        }
        let worktree = Path::new(&found.run.created.spec.worktree);
        let tree = found.run.created.tree.as_ref();
        let tree = tree.ok_or_else(|| EngineError::NoRepository(worktree.to_owned()))?;
        secrets::also_of(&Host::current()?, &found);
        let work = Work::of(&found, tree)?;
        let repository = Repository::recorded(tree);
        let _turn = Lock::merging(&repository.common_dir)?;
        let target = Target::find(&repository, request.branch.as_deref(), work.branch.as_deref())?;
        let mut document = ApplyDocument {
            schema: "dx-runner/apply/1".to_owned(),
            beads: ids.beads.to_string(),
            provider: ids.provider.to_string(),
            branch: target.branch.clone(),
            was: target.at.clone(),
            now: target.at.clone(),
            created: false,
            changed: false,
            checked_out: target.checkout.as_ref().map(|c| c.work_tree.display().to_string()),
            commits: Vec::new(),
            files_changed: Vec::new(),
            remarks: Vec::new(),
        };
        document.remarks.extend(work.left_behind());
        document.remarks.extend(target.settle_left()?);
        target.check_clean()?;
        let main = &target.main;
        let tip = work.commit(main, &found)?;
        let Some(new) = merged(&target, &tip, &found)? else { return Ok(document) };
        let message = format!("dx-runner: apply {}", ids.beads);
        target.advance(&new, &message)?;
        // What `worktree remove` and `gc` know the work by.
        let name = apply_ref(&ids.beads);
        Call::new(main, &["update-ref", &name, &tip]).run()?;
        let from = target.at.as_deref().or(tree.head.as_deref());
        if let Some(from) = from {
            let range = format!("{from}..{new}");
            let commits = Call::new(main, &["rev-list", "--max-count=100", &range]).run()?;
            document.commits = String::from_utf8_lossy(&commits).lines().map(str::to_owned).collect();
            let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from, &new];
            let files = Call::new(main, &args).run()?;
            document.files_changed = paths(&files).map(|p| String::from_utf8_lossy(p).into_owned()).collect();
            if paths(&files).any(|path| path == PROJECT_FILE) {
                let remark = ".dx-runner.toml changed: once it is in the main checkout, its commands run in each new worktree";
                document.remarks.push(remark.to_owned());
            }
        }
        document.created = target.at.is_none();
        document.now = Some(new);
        document.changed = true;
        Ok(document)
    }
}

/// What a job left.
pub(crate) struct Work {
    repository: Repository,
    pub(crate) head: String,
    branch: Option<String>,
    /// What changed since the start; not known when the worktree is gone.
    pub(crate) changes: work::Work,
}

impl Work {
    pub(crate) fn of(found: &Found, tree: &TreeStart) -> Result<Self, EngineError> {
        let repository = Repository::recorded(tree);
        if crate::worktree::made::leads_elsewhere(&repository.work_tree, Some(&repository)) {
            return Err(EngineError::WorktreeMisled(repository.work_tree));
        }
        let before = Fingerprint::load(&found.paths.repository());
        if before.as_ref().is_some_and(|before| before.misleads(&repository)) && repository.git_dir.exists() {
            return Err(EngineError::WorktreeMisled(repository.work_tree));
        }
        let outcome = found.run.outcome.as_ref();
        let work = work::report(tree, &found.paths.tree(), before.as_ref(), found.changed());
        if !work.report.known {
            // The worktree is gone; what it committed may be there all the same.
            let head = outcome.and_then(|o| o.work.head.clone()).filter(|_| !repository.work_tree.exists());
            let place = || repository.work_tree.clone();
            let missing = || {
                let is_bare = place().is_dir() && !repository.git_dir.exists();
                (if is_bare { EngineError::NoRepository } else { EngineError::WorktreeMissing })(place())
            };
            let head = head.ok_or_else(missing)?;
            let common_dir = repository.common_dir;
            let repository =
                Repository { git_dir: common_dir.clone(), work_tree: common_dir.clone(), common_dir };
            return Ok(Self { repository, head, branch: None, changes: work });
        }
        let head = work.report.head.clone().or_else(|| tree.head.clone());
        let head = head.ok_or_else(|| EngineError::NoBase { name: "HEAD".to_owned() })?;
        Ok(Self { repository, head, branch: work.report.branch.clone(), changes: work })
    }

    /// What no commit of this repository can hold, so that it stays in the worktree; a sentence for each kind.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let mut left = Vec::new();
        if !self.changes.report.known {
            return left;
        }
        let inside = self.changes.inside.len();
        if inside > 0 {
            let text = "files changed in submodules and not committed there; they stay in the worktree";
            left.push(format!("{inside} {text}"));
        }
        let nested = self.changes.nested(&self.repository.work_tree);
        let count = nested.repositories.len();
        if count > 0 {
            let name =
                |path: &Vec<u8>| mask_text(&format!("{}/", String::from_utf8_lossy(path))).into_owned();
            let named: Vec<String> = nested.repositories.iter().take(MAX_NESTED).map(name).collect();
            left.push(format!(
                "{count} repositories of their own stay in the worktree: {}",
                named.join(", ")
            ));
        }
        left.extend(nested.unseen);
        left
    }

    /// A commit with everything: HEAD itself when that is all.
    pub(crate) fn commit(&self, main: &Repository, found: &Found) -> Result<String, EngineError> {
        // A repository inside is one path with a slash, which no tree takes.
        let files = self.changes.uncommitted.iter().filter(|path| !path.ends_with(b"/"));
        let files: Vec<&[u8]> = files.map(Vec::as_slice).collect();
        if files.is_empty() {
            return Ok(self.head.clone());
        }
        let scratch = Scratch::new()?;
        let index = scratch.index("apply");
        Call::new(&self.repository, &["read-tree", &self.head]).index(&index).run()?;
        self.repository.stage(&index, &files)?;
        let tree = Call::new(&self.repository, &["write-tree"]).index(&index).line()?;
        let same = Call::new(main, &["rev-parse", "--verify", &format!("{}^{{tree}}", self.head)]).line()?;
        if tree == same {
            return Ok(self.head.clone());
        }
        let ids = &found.run.created.ids;
        let message = format!("Uncommitted work of job {}\n\nRun: {}", ids.beads, ids.run_instance);
        commit(main, &tree, &[&self.head], &message)
    }
}

/// A commit in the user's name, or in ours when git knows none.
pub(crate) fn commit(
    main: &Repository,
    tree: &str,
    parents: &[&str],
    message: &str,
) -> Result<String, EngineError> {
    let mut args = vec!["commit-tree", tree, "-m", message];
    for parent in parents {
        args.extend(["-p", parent]);
    }
    let output = Call::new(main, &args).output()?;
    if output.status.success() {
        return Ok(line(&output.stdout));
    }
    crate::worktree::commit(main, tree, parents, message)
}

/// The commit that the branch shall be at; `None` when it has everything already.
fn merged(target: &Target, tip: &str, found: &Found) -> Result<Option<String>, EngineError> {
    let main = &target.main;
    let Some(at) = &target.at else { return Ok(Some(tip.to_owned())) };
    let leads_to = |from: &str, to: &str| main.git_says(&["merge-base", "--is-ancestor", from, to]);
    if leads_to(tip, at)? {
        return Ok(None);
    }
    if leads_to(at, tip)? {
        return Ok(Some(tip.to_owned()));
    }
    let beads = &found.run.created.ids.beads;
    match merge_trees(main, at, tip)? {
        Ok(tree) => {
            let now = Call::new(main, &["rev-parse", "--verify", &format!("{at}^{{tree}}")]).line()?;
            if tree == now {
                return Ok(None);
            }
            commit(main, &tree, &[at, tip], &format!("Merge job {beads} into {}", target.branch)).map(Some)
        }
        Err(conflicts) => {
            let name = apply_ref(beads);
            Call::new(main, &["update-ref", &name, tip]).run()?;
            Err(EngineError::ApplyConflict {
                branch: target.branch.clone(),
                conflicts,
                next_action: target.merge_by_hand(&name),
            })
        }
    }
}
