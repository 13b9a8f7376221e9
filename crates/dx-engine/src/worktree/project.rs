//! `[worktree]` of a repository's `.dx-runner.toml`: what makes a new worktree buildable.
//!
//! It is read from the user's own checkout as it is on disk, never from a worktree or a commit: an agent writes those, and
//! its commands run with the user's rights. Other tables of the file are other modules'.

use crate::error::EngineError;
use std::path::{Component, Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The file's name at the top of a checkout.
pub(crate) const FILE: &str = ".dx-runner.toml";
const MAX_BYTES: u64 = 1 << 20;

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
        let path = checkout.join(FILE);
        let text = match std::fs::File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(invalid(&path, e.to_string())),
            Ok(file) => {
                use std::io::Read;
                let mut text = String::new();
                file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| invalid(&path, e.to_string()))?;
                text
            }
        };
        Self::parse(&text).map_err(|why| invalid(&path, why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let file = DeTable::parse(text).map_err(|e| {
            e.span().map_or_else(
                || e.message().to_owned(),
                |span| format!("line {}: {}", line(span.start), e.message()),
            )
        })?;
        let mut project = Self::default();
        let Some(worktree) = file.get_ref().get("worktree") else { return Ok(project) };
        let at = |span: std::ops::Range<usize>, what: &str| format!("line {}: {what}", line(span.start));
        let Some(table) = worktree.get_ref().as_table() else {
            return Err(at(worktree.span(), "`worktree` is a table"));
        };
        for (key, value) in table {
            let into = match key.get_ref().as_ref() {
                "setup" => &mut project.setup,
                "copy" => &mut project.copy,
                other => return Err(at(key.span(), &format!("there is no key worktree.{other}"))),
            };
            let DeValue::Array(list) = value.get_ref() else {
                return Err(at(value.span(), &format!("worktree.{} is a list of texts", key.get_ref())));
            };
            for item in list {
                let text =
                    item.get_ref().as_str().filter(|text| !text.trim().is_empty() && !text.contains('\0'));
                match text {
                    Some(text) => into.push(text.to_owned()),
                    None => return Err(at(item.span(), "a text that is not empty is expected")),
                }
            }
        }
        if let Some(bad) = project.copy.iter().find(|path| plain(path).is_none()) {
            return Err(format!(
                "worktree.copy: `{bad}` is no path below the repository, without `..` and `.git`"
            ));
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

fn invalid(path: &Path, why: String) -> EngineError {
    EngineError::ProjectFile { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_table_and_no_other() {
        let text = "[defaults]\nprovider = 1\n[worktree]\nsetup = [\"npm ci\", \"make\"]\ncopy = [\".env.local\", \"./a/b\"]\n";
        let project = Project::parse(text).unwrap();
        assert_eq!(project.setup, ["npm ci", "make"]);
        assert_eq!(project.copy, [".env.local", "./a/b"]);
        assert_eq!(Project::parse("").unwrap(), Project::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, part) in [
            ("[worktree]\nset-up = []", "line 2: there is no key worktree.set-up"),
            ("[worktree]\nsetup = \"npm ci\"", "line 2: worktree.setup is a list"),
            ("[worktree]\nsetup = [\n1]", "line 3: a text"),
            ("[worktree]\nsetup = [\" \"]", "line 2: a text"),
            ("worktree = 1", "line 1: `worktree` is a table"),
            ("[worktree", "line 1:"),
            ("[worktree]\ncopy = [\"../secret\"]", "`../secret`"),
            ("[worktree]\ncopy = [\"/etc/passwd\"]", "`/etc/passwd`"),
            ("[worktree]\ncopy = [\".\"]", "`.`"),
            ("[worktree]\ncopy = [\"a/.Git/config\"]", ".Git"),
        ] {
            let error = Project::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
