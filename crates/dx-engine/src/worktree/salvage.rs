//! `worktree salvage`: all work of a worktree as one ref, in the form of a stash, so that `git stash apply --index` brings it
//! back with what was staged still staged. The worktree is not touched.

use super::inspect::{Trees, paths, recorded};
use super::made::{Made, Place, leads_home};
use super::remove::find;
use crate::Engine;
use crate::error::EngineError;
use crate::git::{Call, Repository, line};
use dx_protocol::{BeadsId, SalvageDocument, Timestamp};
use std::path::Path;

/// All salvages of an id are below it.
pub(super) fn refs_of(beads: &BeadsId) -> String {
    format!("refs/dx-runner/salvage/{}", ref_part(beads))
}

/// The id as part of a ref's name.
pub(super) fn ref_part(beads: &BeadsId) -> String {
    // Git takes neither ending for the part of a name.
    let id = beads.as_str();
    let bad = id.ends_with('.') || Path::new(id).extension().is_some_and(|e| e == "lock");
    format!("{id}{}", if bad { "-" } else { "" })
}

/// A commit by us, with the given parents.
pub(crate) fn commit(
    repository: &Repository,
    tree: &str,
    parents: &[&str],
    message: &str,
) -> Result<String, EngineError> {
    let mut args = vec!["commit-tree", tree, "-m", message];
    for parent in parents {
        args.extend(["-p", parent]);
    }
    let mut call = Call::new(repository, &args);
    for name in ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"] {
        call = call.env(name, "dx-runner");
    }
    for name in ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"] {
        call = call.env(name, "dx-runner@localhost");
    }
    call.line()
}

impl Engine {
    /// Keeps everything of a worktree.
    pub fn worktree_salvage(
        &self,
        beads: &BeadsId,
        repo: Option<&Path>,
    ) -> Result<SalvageDocument, EngineError> {
        let (place, made, _lock) = find(beads, repo, &self.places()?)?;
        let worktree = made.repository(&place).ok_or_else(|| EngineError::WorktreeTaken(place.path()))?;
        if !leads_home(&worktree) {
            return Err(EngineError::WorktreeMisled(place.path()));
        }
        let state = self.state_for_reading()?;
        let recorded = state.map(|state| recorded(&state, &made, &place.path())).unwrap_or_default();
        let trees = Trees::take(&worktree, &made, &recorded)?;
        keep(&place, &made, &worktree, &trees)
    }
}

fn keep(
    place: &Place,
    made: &Made,
    worktree: &Repository,
    trees: &Trees,
) -> Result<SalvageDocument, EngineError> {
    let main = made.main();
    let what = format!("{}: {} at {}", made.beads, made.branch, &trees.head[..trees.head.len().min(12)]);
    let index = commit(&main, &trees.index_tree, &[&trees.head], &format!("index of {what}"))?;
    let untracked = trees.untracked_tree.as_ref();
    let untracked =
        untracked.map(|tree| commit(&main, tree, &[], &format!("untracked files of {what}"))).transpose()?;
    let mut parents = vec![trees.head.as_str(), index.as_str()];
    parents.extend(untracked.as_deref());
    let kept = commit(&main, &trees.work_tree, &parents, &format!("salvage of {what}"))?;
    let stem = format!("{}/{}", refs_of(&made.beads), Timestamp(dx_proc::clock::now_ms()).compact());
    let name = new_ref(&main, &stem, &kept)?;
    let branch = branch_elsewhere(made, &trees.head)?;
    let branch = branch.map(|tip| new_ref(&main, &format!("{name}-branch"), &tip)).transpose()?;
    let count = |from: &str, to: &str| -> Result<u64, EngineError> {
        let args = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", from, to];
        Ok(paths(&Call::new(worktree, &args).run()?).count() as u64)
    };
    let files = match &trees.untracked_tree {
        None => 0,
        Some(tree) => {
            paths(&Call::new(worktree, &["ls-tree", "-r", "-z", "--name-only", tree]).run()?).count()
        }
    };
    let mut not_kept = [&trees.nested[..], &trees.unseen].concat();
    not_kept.extend(trees.operation.map(|what| format!("the state of {what}")));
    // Beside the repository: below the root it would be taken for a job's.
    let suffix = format!("{}.{}", made.beads, name.rsplit('/').next().unwrap_or_default());
    let (repo, path) = (quoted(&made.repo), quoted(&format!("{}.{suffix}", made.repo)));
    let apply = if trees.is_dirty() || untracked.is_some() {
        vec![format!("git -C {path} stash apply --index {name}")]
    } else {
        Vec::new()
    };
    let own = quoted(&format!("{}.{suffix}", made.branch));
    let branch_back = branch.iter().map(|kept| format!("git -C {repo} branch {own} {kept}")).collect();
    let checkout = format!("git -C {repo} worktree add --detach {path} {name}^1");
    Ok(SalvageDocument {
        schema: "dx-runner/salvage/1".to_owned(),
        beads: made.beads.to_string(),
        path: place.path().display().to_string(),
        branch: made.branch.clone(),
        head: trees.head.clone(),
        r#ref: name,
        branch_ref: branch,
        commit: kept,
        staged: count(&trees.head_tree, &trees.index_tree)?,
        unstaged: count(&trees.index_tree, &trees.work_tree)?,
        untracked: files as u64,
        not_kept,
        restore: [vec![checkout], apply, branch_back].concat(),
    })
}

/// Where the job's branch is, when what is checked out does not have all of it.
fn branch_elsewhere(made: &Made, head: &str) -> Result<Option<String>, EngineError> {
    let main = made.main();
    let name = format!("refs/heads/{}^{{commit}}", made.branch);
    let output = Call::new(&main, &["rev-parse", "--verify", "--quiet", &name]).output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let tip = line(&output.stdout);
    Ok((!main.git_says(&["merge-base", "--is-ancestor", &tip, head])?).then_some(tip))
}

/// Gives a commit a name that nothing has.
fn new_ref(main: &Repository, stem: &str, commit: &str) -> Result<String, EngineError> {
    const MOST_IN_A_SECOND: u32 = 100;
    let mut tried = 0;
    loop {
        let name = if tried == 0 { stem.to_owned() } else { format!("{stem}-{tried}") };
        match Call::new(main, &["update-ref", &name, commit, ""]).run() {
            Ok(_) => return Ok(name),
            Err(error) if tried == MOST_IN_A_SECOND => return Err(error),
            Err(_) => tried += 1,
        }
    }
}

/// For a shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@%:,=".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
