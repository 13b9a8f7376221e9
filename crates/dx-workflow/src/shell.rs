//! Which commands a role that may not edit may run without a question: those that are known to write nothing.
//!
//! Called by: `check`. A list of what is harmless, not of what is not: nobody knows all commands that write. Must never: hold a
//! form that writes a file, runs what a file says, or sends something away.

use crate::definition::{Effect, Rule};
use crate::permission::{decide, effect, matches};

/// What a whole command may begin with; nothing else in it is a pattern or a sign of the shell.
const READS: &[&str] = &[
    "cat",
    "date",
    "dx-runner diff",
    "dx-runner routes",
    "dx-runner status",
    "dx-runner task check",
    "dx-runner task graph",
    "dx-runner task list",
    "dx-runner task next",
    "dx-runner task show",
    "dx-runner workflow check",
    "dx-runner workflow diff",
    "dx-runner workflow models",
    "dx-runner workflow models show",
    "dx-runner workflow status",
    "git branch --show-current",
    "git diff",
    "git log",
    "git ls-files",
    "git remote -v",
    "git rev-parse",
    "git show",
    "git status",
    "head",
    "ls",
    "pwd",
    "tail",
    "uname",
    "wc",
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
        let list = [OPEN, READS].concat();
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

fn is_read(pattern: &str) -> bool {
    let plain = !pattern.contains(['*', '?', '>', '<', '$', '`', '|', '&', ';', '\n']);
    let words: Vec<&str> = pattern.split_whitespace().collect();
    let known = READS.iter().any(|read| {
        let read: Vec<&str> = read.split(' ').collect();
        words.starts_with(&read)
    });
    // Some of them write what they print into a file when they are told to, and `git diff` runs a program.
    let writes = words.iter().any(|word| {
        ["--output", "-o", "--ext-diff", "--textconv"].iter().any(|option| word.starts_with(option))
            || *word == "set"
    });
    plain && known && !writes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_read_is_harmless() {
        for command in ["git status --short", "git diff HEAD", "ls", "dx-runner workflow models show --json"]
        {
            assert!(is_read(command), "{command}");
        }
        for command in [
            "git diff --output=a",
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
