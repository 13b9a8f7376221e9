//! Lines added and removed per file, counted in the text that `diff` gives: one place decides what is the agent's work.
//!
//! Must never: show a name as the worktree has it when the record does not. An agent may have put a secret into a name;
//! the record was written by who knew the secret, whoever asks later need not know it.

use crate::fingerprint::Fingerprint;
use crate::lookup::Found;
use crate::secrets::is_masked_form;
use crate::{diff, work};
use dx_protocol::{ReportFile, TreeStart};
use std::borrow::Cow;
use std::collections::HashSet;

/// The worktree against its start; `None` when git cannot tell.
pub(super) fn of(tree: &TreeStart, found: &Found) -> Option<Vec<ReportFile>> {
    let before = Fingerprint::load(&found.paths.repository());
    let work = work::report(tree, &found.paths.tree(), before.as_ref(), found.changed());
    diff::of_work(tree, &work).ok().map(|text| count(&text))
}

/// The files under their recorded names, and how many the record does not name.
pub(super) fn by_record(files: Vec<ReportFile>, recorded: &[String]) -> (Vec<ReportFile>, u64) {
    let exact: HashSet<&str> = recorded.iter().map(String::as_str).collect();
    let all = files.len();
    let named: Vec<ReportFile> = files
        .into_iter()
        .filter_map(|file| {
            let raw = unquoted(&file.path);
            if exact.contains(raw.as_ref()) {
                return Some(file);
            }
            let masked = recorded.iter().find(|name| is_masked_form(name, &raw))?;
            Some(ReportFile { path: masked.clone(), ..file })
        })
        .collect();
    let left_out = (all - named.len()) as u64;
    (named, left_out)
}

/// A name without git's quotes and escapes.
fn unquoted(name: &str) -> Cow<'_, str> {
    let Some(inner) = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(name);
    };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let octal = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &rest[3..];
        } else if let Some((&letter, after)) = rest.split_first() {
            rest = after;
            bytes.push(match letter {
                b'a' => 7,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                other => other,
            });
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn count(diff: &str) -> Vec<ReportFile> {
    let mut files: Vec<ReportFile> = Vec::new();
    // Lines of the hunk that are still to come, old and new: only there `+` and `-` are content.
    let (mut old, mut new) = (0u64, 0u64);
    for line in diff.lines() {
        if let Some(names) = line.strip_prefix("diff --git ").filter(|_| old == 0 && new == 0) {
            files.push(ReportFile { path: name(names), added: 0, removed: 0, binary: false });
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        match line.as_bytes().first() {
            Some(b'+') if new > 0 => (new, file.added) = (new - 1, file.added + 1),
            Some(b'-') if old > 0 => (old, file.removed) = (old - 1, file.removed + 1),
            Some(b'\\') => {}
            _ if old > 0 || new > 0 => (old, new) = (old.saturating_sub(1), new.saturating_sub(1)),
            _ if line.starts_with("@@ ") => (old, new) = hunk(line),
            _ => file.binary |= line.starts_with("Binary files "),
        }
    }
    files
}

/// The counts of `@@ -1,2 +3,4 @@`; a missing count is 1.
fn hunk(line: &str) -> (u64, u64) {
    let count = |sign: char| {
        let range = line.split(' ').find_map(|word| word.strip_prefix(sign))?;
        range.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok())
    };
    (count('-').unwrap_or(0), count('+').unwrap_or(0))
}

/// The new name out of `a/x b/x`, quotes and all: both names are the same, so the half tells it.
fn name(names: &str) -> String {
    let half = names.get(names.len().div_ceil(2)..).unwrap_or(names);
    let half = half.trim_start();
    match half.strip_prefix("\"b/") {
        Some(quoted) => format!("\"{quoted}"),
        None => half.strip_prefix("b/").unwrap_or(half).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_record_are_told() {
        let file = |path: &str| ReportFile { path: path.to_owned(), added: 1, removed: 0, binary: false };
        let live = ["plain", "\"\\303\\244\\t\\\"\"", "f-hunter22", "later-hunter22"].map(file).to_vec();
        let recorded = ["plain", "ä\t\"", "f-********"].map(str::to_owned);
        let (told, left_out) = by_record(live, &recorded);
        let names: Vec<&str> = told.iter().map(|file| file.path.as_str()).collect();
        assert_eq!((names, left_out), (vec!["plain", "\"\\303\\244\\t\\\"\"", "f-********"], 1));
    }

    #[test]
    fn content_that_looks_like_a_header_is_content() {
        let diff = "diff --git a/x y b/x y\nindex 1..2 100644\n--- a/x y\n+++ b/x y\n@@ -1,3 +1,3 @@\n keep\n--- old\n\
                    -diff --git a/q b/q\n+++ new\n+diff --git a/q b/q\n@@ -9 +9,0 @@ fn\n-gone\n\
                    diff --git \"a/\\303\\244\" \"b/\\303\\244\"\nnew file mode 100644\n--- /dev/null\n\
                    +++ \"b/\\303\\244\"\n@@ -0,0 +1,2 @@\n+one\n+two\n\\ No newline at end of file\n\
                    diff --git a/z b/z\nBinary files /dev/null and b/z differ\n";
        let file =
            |path: &str, added, removed, binary| ReportFile { path: path.to_owned(), added, removed, binary };
        assert_eq!(
            count(diff),
            [file("x y", 2, 3, false), file("\"\\303\\244\"", 2, 0, false), file("z", 0, 0, true)]
        );
    }
}
