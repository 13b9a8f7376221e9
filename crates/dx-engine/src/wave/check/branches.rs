//! Whether the branches that a wave makes can be there: each item's, named by its id, and the one that everything is merged
//! into.
//!
//! Part of the check of a wave file, and of the choice among issues. Must never: look at where a branch is.

use super::{Check, MAX_ID};
use crate::wave::file::WaveFile;
use crate::wave::merge;
use crate::worktree::{self, is_branch_name};
use dx_protocol::BeadsId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;

/// The branches of a repository.
#[derive(Debug, Default)]
pub(in crate::wave) struct Branches(BTreeSet<String>);

/// Why an id cannot be an item's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wave) enum Unfit {
    /// With the rule for ids.
    NoId(&'static str),
    TooLong,
    NoBranch,
    /// With the branch that is in the way.
    Beside(String),
}

impl Branches {
    /// None when they cannot be listed, which whoever makes one is told.
    pub(super) fn read(repo: &Path) -> Self {
        let list = worktree::repository(repo).and_then(|repository| merge::branches(&repository));
        Self(list.unwrap_or_default().into_iter().collect())
    }

    #[cfg(test)]
    pub(in crate::wave) fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// One that a branch of this name cannot be beside: to git names are paths, of which none is file and folder.
    fn in_the_way(&self, name: &str) -> Option<&str> {
        let folder = format!("{name}/");
        let from = (Bound::Included(folder.as_str()), Bound::Unbounded);
        let below = self.0.range::<str, _>(from).next().filter(|other| other.starts_with(&folder));
        let above = name.match_indices('/').find_map(|(at, _)| self.0.get(&name[..at]));
        below.or(above).map(String::as_str)
    }

    pub(in crate::wave) fn unfit(&self, id: &str) -> Option<Unfit> {
        if let Err(error) = id.parse::<BeadsId>() {
            return Some(Unfit::NoId(error.rule));
        }
        if id.len() > MAX_ID {
            return Some(Unfit::TooLong);
        }
        if !is_branch_name(id) {
            return Some(Unfit::NoBranch);
        }
        self.in_the_way(id).map(|other| Unfit::Beside(other.to_owned()))
    }
}

impl Unfit {
    /// Of an item in a file: what is wrong, and what to do.
    pub(super) fn of_item(&self, id: &str) -> (String, String) {
        match self {
            Self::NoId(rule) => (format!("`{id}` cannot be an id"), (*rule).to_owned()),
            Self::TooLong => (format!("`{id}` is too long"), format!("at most {MAX_ID} letters")),
            Self::NoBranch => (
                format!("`{id}` cannot be an id, because no branch can have this name"),
                "without `..`, `.` or `.lock` at the end, and not HEAD".to_owned(),
            ),
            Self::Beside(other) => (
                format!(
                    "the branch `{id}` of the item cannot be beside the branch `{other}`, which is there"
                ),
                format!("give it another id, or rename `{other}`"),
            ),
        }
    }

    /// Why an issue is none of the items.
    pub(in crate::wave) fn of_issue(&self) -> String {
        match self {
            Self::NoId(_) => "no job can have this id".to_owned(),
            Self::TooLong => "its id is too long".to_owned(),
            Self::NoBranch => "no branch can have this name".to_owned(),
            Self::Beside(other) => format!("its branch cannot be beside the branch {other}, which is there"),
        }
    }
}

impl Check<'_> {
    /// Where everything is merged into is none of the branches that the items work on, and can be beside them.
    pub(super) fn merge_into(&mut self, file: &WaveFile, ids: &BTreeMap<String, usize>, there: &Branches) {
        let Some(branch) = &file.merge_into else { return };
        let first = branch.value.split('/').next().unwrap_or_default();
        let fix = "a name such as \"integration\"";
        if !is_branch_name(&branch.value) {
            let what = format!("`{}` cannot be the name of a branch", branch.value);
            self.wrong(&branch.place, what, fix);
        } else if ids.contains_key(&branch.value) {
            let what = format!("`{first}` is the branch of an item, and cannot be that of `merge_into`");
            self.wrong(&branch.place, what, fix);
        } else if ids.contains_key(first) {
            let what = format!("`{}` cannot be beside `{first}`, the branch of an item", branch.value);
            self.wrong(&branch.place, what, fix);
        } else if let Some(other) = there.in_the_way(&branch.value) {
            let what = format!("`{}` cannot be beside the branch `{other}`, which is there", branch.value);
            self.wrong(&branch.place, what, format!("another name, or rename `{other}`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_could_not_have_both_are_seen() {
        let there = Branches::of(&["feature/x", "feature-y", "taken", "a/b/c"]);
        for (name, expected) in [
            ("feature", Some("feature/x")),
            ("feature/x", None),
            ("feature/x/y", Some("feature/x")),
            ("feat", None),
            ("taken", None),
            ("taken/all", Some("taken")),
            ("a/b", Some("a/b/c")),
            ("a/b/c/d/e", Some("a/b/c")),
            ("a/c", None),
        ] {
            assert_eq!(there.in_the_way(name), expected, "{name}");
        }
        assert_eq!(there.unfit("feature"), Some(Unfit::Beside("feature/x".to_owned())));
        assert_eq!(there.unfit("HEAD"), Some(Unfit::NoBranch));
        assert_eq!(there.unfit("feature-y"), None);
    }
}
