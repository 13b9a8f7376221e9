//! Rules about Rust files: length, header, `unsafe`, nothing unfinished.
//!
//! For: `check`.
//! Called by: its table of rules.
//! Must never: judge a comment or a string as code.

use super::source::{code_only, has_word};
use super::{Findings, TextFile};

/// Lines of a file: above the first somebody should think about a cut, above the second there must be one.
const LINES: (usize, usize) = (400, 800);

/// Where `unsafe` may stand (prefix of the path), and why.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("crates/dx-proc/", "the crate of system calls"),
    ("crates/dx-events/tests/memory.rs", "a counting allocator, which measures what the parsers hold"),
    ("crates/dx-testkit/src/bin/fake-agent/sys.rs", "an agent that ignores signals and leaves its session"),
];

/// What marks work that is not done.
const UNFINISHED: [&str; 3] = ["todo!(", "unimplemented!(", "#[ignore"];

fn rust(files: &[TextFile]) -> impl Iterator<Item = &TextFile> {
    files.iter().filter(|file| file.is("rs"))
}

pub(super) fn short(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for file in rust(files) {
        let lines = file.text.lines().count();
        if lines > LINES.1 {
            found.error(format!("{}: {lines} lines, at most {}", file.path, LINES.1));
        } else if lines > LINES.0 {
            found.warnings.push(format!("{}: {lines} lines, better under {}", file.path, LINES.0));
        }
    }
    found
}

pub(super) fn headed(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for file in rust(files).filter(|file| !file.text.starts_with("//! ")) {
        found.error(format!("{}: starts without a `//!` header", file.path));
    }
    found
}

pub(super) fn unsafe_only_where_listed(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    let listed = |path: &str| UNSAFE_ALLOWED.iter().any(|(prefix, _)| path.starts_with(prefix));
    for file in rust(files).filter(|file| !listed(&file.path)) {
        for line in lines_with(&file.text, |line| has_word(line, "unsafe")) {
            found.error(format!("{}:{line}: unsafe code", file.path));
        }
    }
    for (prefix, reason) in UNSAFE_ALLOWED {
        if !rust(files).any(|file| file.path.starts_with(prefix)) {
            found.error(format!("the exception {prefix} ({reason}) names nothing"));
        }
    }
    found
}

pub(super) fn finished(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for file in rust(files) {
        for word in UNFINISHED {
            for line in lines_with(&file.text, |line| line.contains(word)) {
                found.error(format!("{}:{line}: {word}", file.path));
            }
        }
    }
    found
}

/// Numbers of the lines whose code fits.
fn lines_with(text: &str, fits: impl Fn(&str) -> bool) -> Vec<usize> {
    code_only(text).lines().enumerate().filter(|(_, line)| fits(line)).map(|(index, _)| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::{finished, headed, short, unsafe_only_where_listed};
    use crate::check::TextFile;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.into(), text: text.into() }
    }

    #[test]
    fn length_and_header() {
        let long = format!("//! x\n{}", "\n".repeat(800));
        let files = [file("a.rs", &long), file("b.rs", "fn b() {}\n"), file("c.md", "no")];
        assert_eq!(short(&files).errors, ["a.rs: 801 lines, at most 800"]);
        assert_eq!(headed(&files).errors, ["b.rs: starts without a `//!` header"]);
    }

    #[test]
    fn words_count_in_code_only() {
        let text = "//! unsafe\nlet a = \"unsafe todo!()\";\nunsafe { b() }\ntodo!()\n";
        let found = unsafe_only_where_listed(&[file("x.rs", text)]).errors;
        assert_eq!(found[0], "x.rs:3: unsafe code");
        assert!(found[1..].iter().all(|line| line.contains("names nothing")));
        assert_eq!(finished(&[file("x.rs", text)]).errors, ["x.rs:4: todo!("]);
    }
}
