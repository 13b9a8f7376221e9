//! Which files a specification names, and whether two of these names can mean one file.
//!
//! Called by: the check of a task. Names are read generously, with and without backticks: two units that are kept apart for
//! nothing only take longer, two that write one file at once lose work. Must never: look at the disk, or take a name that leads
//! out of the project for one inside.

use super::markdown::items;
use super::spec::is_none;
use crate::prompt_needs::quotes;

/// Known by their names alone, in any case.
const BARE: &[&str] = &[
    "authors",
    "build",
    "changelog",
    "codeowners",
    "configure",
    "contributing",
    "copying",
    "gradlew",
    "licence",
    "license",
    "maintainers",
    "mvnw",
    "notice",
    "owners",
    "readme",
    "version",
];
/// First folders of paths that mean the machine; `/users` may be an address of the project's own.
const MACHINE: &[&str] = &[
    "bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc", "root", "run",
    "sbin", "srv", "sys", "tmp", "usr", "var",
];

/// Names of files and folders in these lines, each with its line, as they are written.
pub(super) fn names(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for (line, item) in items(lines) {
        let only = item.ok().filter(|item| !is_none(item) && is_word(item) && !item.ends_with('.'));
        found.extend(only.map(|item| (line, item)));
    }
    for (line, text) in lines {
        let quoted = quotes(text);
        let name = |word: &str| without_line(word).to_owned();
        let told = quoted.iter().map(|(_, word)| *word).filter(|word| is_word(word) && is_told(word));
        found.extend(told.map(|word| (*line, name(word))));
        // What stands between backticks is read as such; the rest word by word.
        let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        for word in prose.split_whitespace() {
            let word = word.trim_matches(|c: char| ",;:()\"'!?<>".contains(c)).trim_end_matches('.');
            if is_word(word) && is_prose(word) {
                found.push((*line, name(word)));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Something that a path could be.
fn is_word(text: &str) -> bool {
    let strange = |c: char| c.is_whitespace() || "()<>\"'=|;$&\\`".contains(c);
    !text.is_empty()
        && !text.starts_with('-')
        && !text.contains(strange)
        && !text.contains("::")
        && !text.contains("://")
        && text.chars().any(|c| c.is_alphanumeric() || "*./~".contains(c))
}

fn has_ending(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or_default();
    let is_ending =
        |end: &str| end.chars().all(char::is_alphanumeric) && end.starts_with(char::is_alphabetic);
    name.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && is_ending(end))
}

/// `Makefile`, `LICENSE-MIT`.
fn is_bare(word: &str) -> bool {
    let lower = word.to_lowercase();
    let first = lower.split('-').next().unwrap_or_default();
    BARE.contains(&first) || (lower.ends_with("file") && lower.len() > "file".len() + 1)
}

/// Between backticks: all but what looks like a name of the code.
fn is_told(word: &str) -> bool {
    let pattern = word.contains(['*', '/']);
    pattern
        || word.starts_with('.')
        || word.starts_with(char::is_uppercase)
        || has_ending(without_line(word))
        || is_bare(word)
}

/// In a sentence: `and/or` and `e.g` are none.
fn is_prose(word: &str) -> bool {
    let short = word.chars().count() < 4;
    let leads_out = ["/", "../", "~/"].iter().any(|start| word.starts_with(start)) && word.len() > 3;
    let deep =
        word.matches('/').count() > 1 || word.contains('*') || (word.contains('/') && word.ends_with('/'));
    (has_ending(without_line(word)) && !short)
        || leads_out
        || (deep && word.len() > 2)
        || (is_bare(word) && word.starts_with(char::is_uppercase) && word.to_lowercase() != "version")
}

/// Without `:12` or `:12-14` behind it.
fn without_line(word: &str) -> &str {
    let is_line =
        |end: &str| !end.is_empty() && end.chars().all(|c| c.is_ascii_digit() || c == '-' || c == ':');
    word.split_once(':').filter(|(_, end)| is_line(end)).map_or(word, |(path, _)| path)
}

/// A name as a path below the project's top, without `.`, `..` and double slashes; empty for the top itself. `None`: it leads out.
pub(super) fn inside(name: &str) -> Option<String> {
    let first = name.trim_start_matches('/').split('/').next().unwrap_or_default();
    if name.starts_with('~') || (name.starts_with('/') && MACHINE.contains(&first)) {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether two of these paths can mean one file: one is the other, lies below it, or both are patterns that match one path.
pub(super) fn meet(a: &str, b: &str) -> bool {
    let meets = |a: &str, b: &str| both_match(&pattern(a), &pattern(b));
    let below = |folder: &str, path: &str| {
        let is_file = has_ending(folder) && path.contains('*');
        folder.is_empty() || (!is_file && meets(&format!("{folder}/*"), path))
    };
    meets(a, b) || below(a, b) || below(b, a)
}

/// One character of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Is(char),
    One,
    Any,
}

/// What it matches, or more: `[…]` is one character, `{…}` anything, and `**/` may be nothing.
fn pattern(text: &str) -> Vec<Sign> {
    let (mut signs, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let close = |end: char| rest.find(end).map(|at| at + end.len_utf8());
        let (sign, skip) = match (c, close(']'), close('}')) {
            ('*', ..) => (Sign::Any, rest.strip_prefix("*/").map_or(0, |_| 2)),
            ('?', ..) => (Sign::One, 0),
            ('[', Some(end), _) => (Sign::One, end),
            ('{', _, Some(end)) => (Sign::Any, end),
            (c, ..) => (Sign::Is(c), 0),
        };
        signs.push(sign);
        rest = &rest[skip..];
    }
    signs
}

/// Whether one text matches both. Row by row over the first, each telling which beginnings of the second go with it.
fn both_match(a: &[Sign], b: &[Sign]) -> bool {
    let spread = |row: &mut Vec<bool>| {
        for at in 0..b.len() {
            row[at + 1] |= row[at] && b[at] == Sign::Any;
        }
    };
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    spread(&mut row);
    for sign in a {
        let mut next = vec![false; b.len() + 1];
        for at in 0..=b.len() {
            let stays = row[at] && (*sign == Sign::Any || (at > 0 && b[at - 1] == Sign::Any));
            next[at] |= stays;
            if at == 0 {
                continue;
            }
            let both = match (*sign, b[at - 1]) {
                (Sign::Any, _) => next[at - 1] || row[at - 1],
                (Sign::Is(x), Sign::Is(y)) => row[at - 1] && x == y,
                _ => row[at - 1],
            };
            next[at] |= both;
        }
        spread(&mut next);
        row = next;
    }
    row[b.len()]
}

/// The paths of these lines that lie inside, without doubles.
pub(super) fn paths(lines: &[(usize, String)]) -> Vec<String> {
    names(lines).iter().filter_map(|(_, name)| inside(name)).collect()
}

/// Names of these lines that lead out.
pub(super) fn outside(lines: &[(usize, String)]) -> Vec<(usize, String)> {
    names(lines).into_iter().filter(|(_, name)| inside(name).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::markdown;
    use super::*;

    fn lines(text: &str) -> Vec<(usize, String)> {
        markdown::sections(&format!("## Scope\n{text}\n")).1.remove(0).lines
    }

    #[test]
    fn files_are_known_with_and_without_backticks() {
        for (text, expected) in [
            ("Change `src/a.rs` and `./b.txt`, run `cargo test`, see `word`.", &["b.txt", "src/a.rs"][..]),
            (
                "`Makefile`, `LICENSE`, `.gitignore`, `justfile`",
                &[".gitignore", "LICENSE", "Makefile", "justfile"],
            ),
            ("- bin\n- `run`", &["bin", "run"]),
            ("The Dockerfile and src/a.rs, then lib/core/.", &["Dockerfile", "lib/core", "src/a.rs"]),
            ("Read and/or write, e.g. version 1.2 of `u32` (see https://a.b/c.html) with `--json`.", &[]),
            ("`src//x/../a.rs` and src/a.rs:12", &["src/a.rs"]),
            ("None", &[]),
            ("- None", &[]),
            ("`.`", &[""]),
            ("`use a::b;` and `f(x)` and `Vec<u8>`", &[]),
        ] {
            let mut found = paths(&lines(text));
            found.sort();
            found.dedup();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_leads_out_is_no_path_of_the_project() {
        for name in ["/etc/passwd", "../x", "src/../../x", "~/.bashrc", "/tmp/a"] {
            assert_eq!(inside(name), None, "{name}");
            for text in [format!("Change `{name}`."), format!("Change {name}."), format!("- {name}")] {
                assert_eq!(outside(&lines(&text)), [(2, name.to_owned())], "{text}");
            }
        }
        for (name, expected) in [("src/../a", "a"), ("/users", "users"), ("./", ""), ("a//b/", "a/b")] {
            assert_eq!(inside(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn names_that_can_mean_one_file() {
        for (a, b) in [
            ("src/a.rs", "src/a.rs"),
            ("src", "src/a.rs"),
            ("src/", "src/x/y"),
            ("src/*.rs", "src/a.rs"),
            ("src/**/*.rs", "src/a.rs"),
            ("src/**/*.rs", "src/x/a.rs"),
            ("src/a*", "src/*z"),
            ("*.rs", "src/main.*"),
            ("src/{a,b}.rs", "src/b.rs"),
            ("src/[ab].rs", "src/?.rs"),
            ("", "anything"),
            ("*", "a/b"),
            ("src", "*/lib"),
            ("Makefile", "Make*"),
        ] {
            let (x, y) = (inside(a).unwrap(), inside(b).unwrap());
            assert!(meet(&x, &y) && meet(&y, &x), "{a} {b}");
        }
        for (a, b) in [
            ("src/a.rs", "src/a.rs.bak"),
            ("src", "srcs/a"),
            ("src/*.rs", "src/a.py"),
            ("src/a*", "src/b*"),
            ("Makefile", "makefile"),
            ("src/?.rs", "src/ab.rs"),
        ] {
            assert!(!meet(a, b) && !meet(b, a), "{a} {b}");
        }
    }
}
