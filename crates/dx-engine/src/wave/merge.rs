//! What an item starts from, and what everything adds up to: merges made in the object store.
//!
//! Called by the coordinator. Must never touch a worktree, or move a branch by halves.

use crate::apply::{Conflict, Target, commit, merge_trees};
use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::worktree::{self, apply_ref};
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
    let unknown = || EngineError::NoBase { name: name.to_owned() };
    if name.starts_with('-') {
        return Err(unknown());
    }
    let repository = worktree::repository(repo)?;
    let wanted = format!("{name}^{{commit}}");
    let output = Call::new(&repository, &["rev-parse", "--verify", "--quiet", &wanted]).output()?;
    if output.status.success() { Ok(crate::git::line(&output.stdout)) } else { Err(unknown()) }
}

/// Adds the tips to a commit, one after the other. One that does not fit is left out and told with the item it does not
/// fit with.
pub(super) fn sum(
    main: &Repository,
    from: &str,
    tips: &[Tip<'_>],
    message: &str,
) -> Result<Sum, EngineError> {
    let leads_to = |from: &str, to: &str| main.git_says(&["merge-base", "--is-ancestor", from, to]);
    let mut at = from.to_owned();
    let mut conflicts = Vec::new();
    let mut merged: Vec<&Tip<'_>> = Vec::new();
    for tip in tips {
        if leads_to(tip.commit, &at)? {
            merged.push(tip);
            continue;
        }
        if leads_to(&at, tip.commit)? {
            tip.commit.clone_into(&mut at);
            merged.push(tip);
            continue;
        }
        match merge_trees(main, &at, tip.commit)? {
            Ok(tree) => {
                at = commit(main, &tree, &[&at, tip.commit], &format!("{message} {}", tip.item))?;
                merged.push(tip);
            }
            Err(found) => conflicts.extend(pairs(main, &merged, tip, &found)?),
        }
    }
    Ok(Sum { commit: at, conflicts })
}

/// With whom a tip does not fit: each that it does not fit with alone, else the last one that went in.
fn pairs(
    main: &Repository,
    merged: &[&Tip<'_>],
    tip: &Tip<'_>,
    found: &[Conflict],
) -> Result<Vec<MergeConflict>, EngineError> {
    let told = |conflicts: &[Conflict]| -> Vec<String> {
        conflicts.iter().map(|conflict| format!("{}: {}", conflict.path, conflict.why)).collect()
    };
    let mut pairs = Vec::new();
    for other in merged {
        if let Err(alone) = merge_trees(main, other.commit, tip.commit)? {
            let items = [other.item.clone(), tip.item.clone()];
            pairs.push(MergeConflict { items, paths: told(&alone) });
        }
    }
    if pairs.is_empty() {
        // It does not fit with what the branch had, or only with several together.
        let other = merged.last().map_or(tip.item, |other| other.item);
        pairs.push(MergeConflict { items: [other.clone(), tip.item.clone()], paths: told(found) });
    }
    Ok(pairs)
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

/// Brings all tips onto a branch; what fits.
pub(super) fn integrate(
    main: &Repository,
    base: &str,
    branch: &str,
    tips: &[Tip<'_>],
    wave_id: &str,
) -> Result<Sum, EngineError> {
    let target = Target::find(main, Some(branch), None)?;
    target.settle_left()?;
    target.check_clean()?;
    let from = target.at.clone().unwrap_or_else(|| base.to_owned());
    let sum = sum(main, &from, tips, &format!("Merge wave {wave_id}:"))?;
    if target.at.as_deref() != Some(sum.commit.as_str()) {
        target.advance(&sum.commit, &format!("dx-runner: wave {wave_id}"))?;
    }
    let left_out = |item: &BeadsId| sum.conflicts.iter().any(|conflict| conflict.items[1] == *item);
    for tip in tips.iter().filter(|tip| !left_out(tip.item)) {
        // What `worktree remove` and `gc` know the work by.
        Call::new(main, &["update-ref", &apply_ref(tip.item), tip.commit]).run()?;
    }
    disk::sync_filesystem(&main.common_dir)?;
    Ok(sum)
}
