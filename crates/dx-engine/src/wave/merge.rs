//! What an item starts from, and what everything adds up to: merges made in the object store.
//!
//! Called by the coordinator. Must never touch a worktree, or move a branch by halves.

use crate::apply::{Conflict, Target, commit, merge_trees};
use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::worktree::{self, Lock, apply_ref};
use dx_jobdir::disk;
use dx_protocol::{BeadsId, MergeConflict};
use std::path::Path;

/// An item's work.
pub(super) struct Tip<'a> {
    pub(super) item: &'a BeadsId,
    pub(super) commit: &'a str,
}

/// One commit with everything that fits, and what does not.
pub(super) struct Sum {
    pub(super) commit: String,
    pub(super) conflicts: Vec<MergeConflict>,
}

/// The commit that a name means in a repository.
pub(super) fn resolve(repo: &Path, name: &str) -> Result<String, EngineError> {
    let commit = worktree::repository(repo)?.commit_of(name)?;
    commit.ok_or_else(|| EngineError::NoBase { name: name.to_owned() })
}

/// The names of all branches.
pub(super) fn branches(main: &Repository) -> Result<Vec<String>, EngineError> {
    let args = ["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"];
    let list = Call::new(main, &args).run()?;
    Ok(String::from_utf8_lossy(&list).lines().map(str::to_owned).collect())
}

/// Where a sum begins.
pub(super) struct Start<'a> {
    /// What people call it: a branch, or a commit.
    pub(super) name: &'a str,
    pub(super) commit: &'a str,
}

/// Adds the tips to a commit, one after the other. One that does not fit is left out and told with what it does not fit
/// with.
pub(super) fn sum(
    main: &Repository,
    from: &Start<'_>,
    tips: &[Tip<'_>],
    message: &str,
) -> Result<Sum, EngineError> {
    let leads_to = |from: &str, to: &str| main.git_says(&["merge-base", "--is-ancestor", from, to]);
    let mut at = from.commit.to_owned();
    let mut conflicts = Vec::new();
    let mut merged: Vec<Merged<'_>> = Vec::new();
    for tip in tips {
        if leads_to(&at, tip.commit)? {
            tip.commit.clone_into(&mut at);
        } else if !leads_to(tip.commit, &at)? {
            match merge_trees(main, &at, tip.commit)? {
                Ok(tree) => {
                    at = commit(main, &tree, &[&at, tip.commit], &format!("{message} {}", tip.item))?;
                }
                Err(found) => {
                    conflicts.extend(pairs(main, from, &merged, tip, &found)?);
                    continue;
                }
            }
        }
        merged.push(Merged { tip, with: at.clone() });
    }
    Ok(Sum { commit: at, conflicts })
}

/// A tip that went in, and the sum with it.
struct Merged<'a> {
    tip: &'a Tip<'a>,
    with: String,
}

/// With what a tip does not fit: the beginning and each tip that it does not fit with alone, else the one that went in when
/// it fitted no more.
fn pairs(
    main: &Repository,
    from: &Start<'_>,
    merged: &[Merged<'_>],
    tip: &Tip<'_>,
    found: &[Conflict],
) -> Result<Vec<MergeConflict>, EngineError> {
    let told = |conflicts: &[Conflict]| -> Vec<String> {
        conflicts.iter().map(|conflict| format!("{}: {}", conflict.path, conflict.why)).collect()
    };
    let pair = |other: &str, found: &[Conflict]| MergeConflict {
        items: [other.to_owned(), tip.item.to_string()],
        paths: told(found),
    };
    let mut pairs = Vec::new();
    if let Err(alone) = merge_trees(main, from.commit, tip.commit)? {
        pairs.push(pair(from.name, &alone));
    }
    for other in merged {
        if let Err(alone) = merge_trees(main, other.tip.commit, tip.commit)? {
            pairs.push(pair(other.tip.item.as_str(), &alone));
        }
    }
    if !pairs.is_empty() {
        return Ok(pairs);
    }
    for other in merged {
        if merge_trees(main, &other.with, tip.commit)?.is_err() {
            return Ok(vec![pair(other.tip.item.as_str(), found)]);
        }
    }
    Ok(vec![pair(from.name, found)])
}

/// Keeps an item's work from git's collection of garbage, whatever becomes of its branch, and from a power cut: git does
/// not sync what it writes, and a good part of it is the agent's own git's.
pub(super) fn keep(
    main: &Repository,
    wave_id: &str,
    item: &BeadsId,
    commit: &str,
) -> Result<(), EngineError> {
    let name = format!("refs/dx-runner/waves/{wave_id}/{}", ref_part(item));
    Call::new(main, &["update-ref", &name, commit]).run()?;
    Ok(disk::sync_filesystem(&main.common_dir)?)
}

fn ref_part(item: &BeadsId) -> String {
    apply_ref(item).rsplit('/').next().unwrap_or_default().to_owned()
}

/// So often somebody else may move the branch between the look at it and its move.
const TRIES: u32 = 16;

/// Brings all tips onto a branch; what fits.
pub(super) fn integrate(
    main: &Repository,
    base: &str,
    branch: &str,
    tips: &[Tip<'_>],
    wave_id: &str,
) -> Result<Sum, EngineError> {
    // Of the waves that come to their end at once each has its turn.
    let _turn = Lock::merging(&main.common_dir)?;
    let mut tries = 1;
    let sum = loop {
        let target = Target::find(main, Some(branch), None)?;
        target.settle_left()?;
        target.check_clean()?;
        let from = Start { name: branch, commit: target.at.as_deref().unwrap_or(base) };
        let sum = sum(main, &from, tips, &format!("Merge wave {wave_id}:"))?;
        if target.at.as_deref() == Some(sum.commit.as_str()) {
            break sum;
        }
        match target.advance(&sum.commit, &format!("dx-runner: wave {wave_id}")) {
            Ok(()) => break sum,
            // Somebody else's work came onto it meanwhile: everything is looked at again, with that.
            Err(_) if tries < TRIES && Target::find(main, Some(branch), None)?.at != target.at => tries += 1,
            Err(error) => return Err(error),
        }
    };
    let left_out = |item: &BeadsId| sum.conflicts.iter().any(|conflict| conflict.items[1] == item.as_str());
    for tip in tips.iter().filter(|tip| !left_out(tip.item)) {
        // What `worktree remove` and `gc` know the work by.
        Call::new(main, &["update-ref", &apply_ref(tip.item), tip.commit]).run()?;
    }
    disk::sync_filesystem(&main.common_dir)?;
    Ok(sum)
}
