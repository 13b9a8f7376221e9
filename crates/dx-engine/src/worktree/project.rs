//! `[worktree]` of a repository's `.dx-runner.toml`: what makes a new worktree buildable.
//!
//! It is read from the user's own checkout as it is on disk, never from a worktree or a commit, which an agent writes. What it
//! says may still be a stranger's: see [`super::setup`] and [`super::copy`]. Other tables of the file are other modules'.

use crate::error::EngineError;
use crate::settings::{Content, PROJECT_FILE, SettingsError, WORKTREE_COPY, WORKTREE_SETUP, project_file};
use dx_core::settings::Value;
use std::path::{Component, Path, PathBuf};

/// The table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Project {
    /// Commands for `sh -c`, run once in this order in a new worktree.
    pub(crate) setup: Vec<String>,
    /// Files and folders that are copied from the main checkout, and that are work although git ignores them.
    pub(crate) copy: Vec<String>,
}

impl Project {
    /// Of this checkout; empty when it has no such file.
    pub(crate) fn read(checkout: &Path) -> Result<Self, EngineError> {
        Self::of(project_file(&checkout.join(PROJECT_FILE))?)
    }

    fn of(content: Content) -> Result<Self, EngineError> {
        let mut project = Self::default();
        for entry in content.entries {
            let Value::List(list) = entry.value else { continue };
            let invalid = |why: String| {
                let place = entry.place.clone();
                Err(SettingsError::Invalid { place, why: format!("`{}`: {why}", entry.key) }.into())
            };
            if let Some(bad) = list.iter().find(|text| text.contains('\0')) {
                return invalid(format!("{bad:?} holds a NUL"));
            }
            if entry.setting.key == WORKTREE_SETUP.key {
                project.setup = list;
            } else if entry.setting.key == WORKTREE_COPY.key {
                if let Some(bad) = list.iter().find(|path| plain(path).is_none()) {
                    return invalid(format!(
                        "`{bad}` is no path below the repository, without `..` and `.git`"
                    ));
                }
                project.copy = list;
            }
        }
        Ok(project)
    }
}

/// A path that cannot leave the folder it is joined to, nor reach a repository's own files.
pub(super) fn plain(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) if !name.eq_ignore_ascii_case(".git") => clean.push(name),
            _ => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Project, EngineError> {
        Project::of(crate::settings::parse_project(text, "f")?)
    }

    #[test]
    fn reads_its_table_and_no_other() {
        let text = "provider = \"exec\"\nenv = [\"A\"]\n[worktree]\nsetup = [\"npm ci\", \"make\"]\ncopy = [\".env.local\", \"./a/b\"]\n";
        let project = of(text).unwrap();
        assert_eq!(project.setup, ["npm ci", "make"]);
        assert_eq!(project.copy, [".env.local", "./a/b"]);
        assert_eq!(of("").unwrap(), Project::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, part) in [
            ("[worktree]\nset-up = []", "f:2:1: unknown key `worktree.set-up`"),
            ("[worktree]\nsetup = \"npm ci\"", "f:2:1: `worktree.setup`: expected a list"),
            ("[worktree]\nsetup = [\n1]", "f:2:1: `worktree.setup`: expected a list"),
            ("[worktree]\nsetup = [\" \"]", "f:2:1: `worktree.setup`: expected a list"),
            ("[worktree]\nsetup = [\"a\\u0000\"]", "holds a NUL"),
            ("worktree = 1", "f:1:1: unknown key `worktree`"),
            ("[worktree", "f:1:"),
            ("[worktree]\ncopy = [\"../secret\"]", "`../secret`"),
            ("[worktree]\ncopy = [\"/etc/passwd\"]", "`/etc/passwd`"),
            ("[worktree]\ncopy = [\".\"]", "`.`"),
            ("[worktree]\ncopy = [\"a/.Git/config\"]", ".Git"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
