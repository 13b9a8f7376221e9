//! `cargo xtask gen`: references and schemas that are made from the code.
//!
//! For: documents that cannot fall behind the program. `dx-runner __reference <dir>` makes the files; this puts them
//! into `docs/reference`, or compares them with what is there. A file there with the mark of a generated one, or a
//! schema, that the program no longer makes is stale.
//! Called by: `main`, `test`.
//! Must never: write below the repository with `--check`, or touch a file that was written by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::{self, cargo, output};
use crate::{Failure, truth};

/// Where the generated files are, relative to the root.
const FOLDER: &str = "docs/reference";
/// In every generated file that can hold a comment.
const MARK: &str = "<!-- Generated from ";

/// Files by path below the folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Writes the generated files; with `check` writes nothing and fails when one would change, naming it.
pub(crate) fn run(check: bool) -> Result<(), Failure> {
    truth::run(check)?;
    let scratch = Scratch::new()?;
    output(
        cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "--package",
                "dx-runner",
                "--bin",
                "dx-runner",
                "--",
                "__reference",
            ])
            .arg(&scratch.0),
    )?;
    let made = read(&scratch.0)?;
    if made.is_empty() {
        return Err("dx-runner __reference made no file".to_owned());
    }
    let folder = workspace::root().join(FOLDER);
    let mut there = read(&folder)?;
    there.retain(|path, content| is_generated(path, content) || made.contains_key(path));
    let differences = compare(&there, &made);
    if check {
        return match differences.as_slice() {
            [] => Ok(()),
            some => Err(format!("run `cargo xtask gen`:\n  {}", some.join("\n  "))),
        };
    }
    for (path, content) in &made {
        let path = folder.join(path);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, content));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for path in there.keys().filter(|path| !made.contains_key(*path)) {
        fs::remove_file(folder.join(path)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for difference in differences {
        println!("   {difference}");
    }
    Ok(())
}

/// A folder outside the repository that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let folder = std::env::temp_dir().join(format!("dx-runner-gen-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// All files below the folder; none when there is no folder.
fn read(folder: &Path) -> Result<Files, Failure> {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                files.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned(), content);
            }
        }
    }
    Ok(files)
}

fn is_generated(path: &Path, content: &[u8]) -> bool {
    path.starts_with("schemas") || String::from_utf8_lossy(content).contains(MARK)
}

/// One line for each file that is not as it would be made.
fn compare(there: &Files, made: &Files) -> Vec<String> {
    let mut lines: Vec<String> = made
        .iter()
        .filter_map(|(path, content)| match there.get(path) {
            Some(old) if old == content => None,
            Some(_) => Some(format!("{FOLDER}/{} differs", path.display())),
            None => Some(format!("{FOLDER}/{} is missing", path.display())),
        })
        .collect();
    let stale = there.keys().filter(|path| !made.contains_key(*path));
    lines.extend(stale.map(|path| format!("{FOLDER}/{} is made no more", path.display())));
    lines
}

#[cfg(test)]
mod tests {
    use super::{Files, compare, is_generated};
    use std::path::Path;

    #[test]
    fn what_differs_is_named() {
        let files = |rows: &[(&str, &str)]| -> Files {
            rows.iter().map(|(path, text)| ((*path).into(), text.as_bytes().to_vec())).collect()
        };
        let made = files(&[("a.md", "1"), ("b.md", "2"), ("c.md", "3")]);
        assert!(compare(&made, &made).is_empty());
        let there = files(&[("a.md", "1"), ("b.md", "old"), ("d.md", "4")]);
        let lines = compare(&there, &made);
        assert_eq!(
            lines,
            [
                "docs/reference/b.md differs",
                "docs/reference/c.md is missing",
                "docs/reference/d.md is made no more"
            ]
        );
    }

    #[test]
    fn files_by_hand_are_left_alone() {
        assert!(is_generated(Path::new("schemas/x.json"), b"{}"));
        assert!(is_generated(Path::new("cli.md"), b"# x\n\n<!-- Generated from y -->\n"));
        assert!(!is_generated(Path::new("files.md"), b"# Files\n"));
    }
}
