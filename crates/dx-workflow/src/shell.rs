//! Which commands a role that may not edit may run without a question: those that are known to write nothing.
//!
//! Called by: `check`. A list of what is harmless, not of what is not: nobody knows all commands that write. Must never: hold a
//! form that writes a file, runs what a file says, or sends something away.

use crate::definition::{Effect, Rule};
use crate::permission::{decide, effect, matches};

/// A command that writes nothing.
struct Read {
    command: &'static str,
    /// Whether words that are no options may follow: files, revisions, ids.
    words: bool,
    /// Options that it may have; any when it has none that writes.
    options: Options,
}

enum Options {
    Any,
    These(&'static [&'static str]),
}

const fn bare(command: &'static str) -> Read {
    Read { command, words: false, options: Options::These(&[]) }
}

const fn file(command: &'static str) -> Read {
    Read { command, words: true, options: Options::Any }
}

const fn git(command: &'static str) -> Read {
    Read { command, words: true, options: Options::These(SHOWN) }
}

const fn runner(command: &'static str, words: bool) -> Read {
    Read { command, words, options: Options::These(&["--json"]) }
}

/// Of git: what is shown and how. Others write it into a file, run a program of the project's, or are not known here.
const SHOWN: &[&str] = &[
    "--",
    "--abbrev-ref",
    "--all",
    "--branch",
    "--cached",
    "--decorate",
    "--graph",
    "--name-only",
    "--name-status",
    "--numstat",
    "--oneline",
    "--others",
    "--porcelain",
    "--shortstat",
    "--short",
    "--show-toplevel",
    "--staged",
    "--stat",
    "--verify",
    "-p",
    "-s",
];
const READS: &[Read] = &[
    file("cat"),
    bare("date"),
    runner("dx-runner diff", true),
    runner("dx-runner routes", false),
    runner("dx-runner status", true),
    runner("dx-runner task check", true),
    runner("dx-runner task graph", true),
    runner("dx-runner task list", false),
    runner("dx-runner task next", true),
    runner("dx-runner task show", true),
    runner("dx-runner workflow check", false),
    runner("dx-runner workflow diff", false),
    runner("dx-runner workflow models", false),
    runner("dx-runner workflow models show", false),
    runner("dx-runner workflow status", false),
    bare("git branch --show-current"),
    git("git diff"),
    git("git log"),
    git("git ls-files"),
    bare("git remote -v"),
    git("git rev-parse"),
    git("git show"),
    git("git status"),
    file("head"),
    file("ls"),
    bare("pwd"),
    file("tail"),
    file("uname"),
    file("wc"),
];
/// Patterns that may stay open, when no later rule is missing: what comes with a redirection or a substitution must be denied.
/// The shipper's two write the index and history of git, in the only way that its role has.
const OPEN: &[&str] = &[
    "cat *",
    "dx-runner task check *",
    "dx-runner task new *",
    "dx-runner task show *",
    "git add -- *",
    "git commit -m \"*\"",
    "ls *",
    "wc *",
];
/// What an open pattern must not admit, with `x` in its place.
const TRICKS: &[&str] = &["x > a.txt", "x < a.txt", "x $(touch a.txt)", "x `touch a.txt`"];
/// And one between quotation marks.
const ESCAPE: &str = "x\" --no-verify \"x";

/// Line, message and fix of each rule that lets more through.
pub(crate) fn findings(rules: &[Rule]) -> Vec<(usize, String, String)> {
    let known = || {
        let list: Vec<&str> = OPEN.iter().copied().chain(READS.iter().map(|read| read.command)).collect();
        format!("ask instead of allow, or one of these commands: {}", list.join(", "))
    };
    if decide(rules, "bash", "touch a.txt").rule.is_none() {
        let message = "it may not edit, and OpenCode's base lets it run any command".to_owned();
        return vec![(1, message, "begin with `\"*\": deny`".to_owned())];
    }
    let allows = rules.iter().filter(|rule| matches(&rule.tool, "bash") && rule.effect == Effect::Allow);
    let judged = allows.filter_map(|rule| {
        let pattern = rule.pattern.as_str();
        if is_read(pattern) {
            return None;
        }
        let finding = |message: String, fix: String| Some((rule.line, message, fix));
        if !OPEN.contains(&pattern) {
            let message = format!("it may not edit, and `{pattern}` is not known to write nothing");
            return finding(message, known());
        }
        let quoted = pattern.contains('"').then_some(&ESCAPE);
        let trick = TRICKS.iter().chain(quoted).map(|trick| pattern.replace('*', trick));
        let admitted = trick.into_iter().find(|command| effect(rules, "bash", command) == Effect::Allow)?;
        let message = format!("it may not edit, and `{pattern}` lets it run `{admitted}`");
        let fix =
            "deny after it what holds `>`, `<`, `$` or a backtick, and more than one pair of quotation marks";
        finding(message, fix.to_owned())
    });
    judged.collect()
}

/// Only signs that mean themselves to a shell: what is quoted or escaped is another word to git than to a list.
fn is_read(pattern: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ./_-:@^=,+".contains(c);
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let reads = |read: &Read| {
        let command: Vec<&str> = read.command.split(' ').collect();
        let Some(rest) = words.strip_prefix(command.as_slice()) else { return false };
        rest.iter().all(|word| match (word.starts_with('-'), &read.options) {
            (false, _) => read.words,
            (true, Options::Any) => true,
            (true, Options::These(known)) => known.contains(word) || (is_count(word) && read.words),
        })
    };
    pattern.chars().all(plain) && READS.iter().any(reads)
}

/// `-10`: so many.
fn is_count(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_read_is_harmless() {
        for command in [
            "git status --short",
            "git diff HEAD",
            "git log --oneline -10",
            "git show HEAD^:src/a.rs",
            "ls -la src",
            "dx-runner workflow models show --json",
        ] {
            assert!(is_read(command), "{command}");
        }
        for command in [
            "git diff --output=a",
            "git diff '--output=a'",
            "git diff \\--output=a",
            "git diff --outpu=a",
            "git log --ext-diff",
            "git remote -v add evil http://x",
            "git branch --show-current -D x",
            "date -s 12",
            "date --set=12",
            "date 01010101",
            "dx-runner workflow models --json set",
            "git branch x",
            "git",
            "lsof",
            "make",
            "git status; rm a",
            "git log*",
            "dx-runner workflow models set --med a/b",
            "dx-runner start",
        ] {
            assert!(!is_read(command), "{command}");
        }
    }
}
