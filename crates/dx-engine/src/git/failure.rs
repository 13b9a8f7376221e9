//! What a git that did not succeed told, and the second try of one that was killed. Must never take a killed git for one that
//! has answered.

use crate::error::EngineError;
use std::process::Output;

/// What a call that did not succeed told: one that was killed has told no reason.
pub(crate) fn ended(args: &[&str], output: &Output) -> EngineError {
    if output.status.code().is_none() {
        return EngineError::GitKilled { command: format!("git {}", args.join(" ")), status: output.status };
    }
    failed(args, last_line(&output.stderr))
}

/// Commands that change nothing, as they are called here.
const READERS: [&str; 15] = [
    "check-ref-format",
    "config",
    "diff",
    "diff-index",
    "diff-tree",
    "for-each-ref",
    "ls-files",
    "ls-tree",
    "merge-base",
    "merge-tree",
    "rev-list",
    "rev-parse",
    "show",
    "status",
    "symbolic-ref",
];

/// Whether it was killed before it could answer, and can be asked again.
pub(crate) fn is_unanswered(args: &[&str], output: &Output) -> bool {
    output.status.code().is_none() && args.first().is_some_and(|command| READERS.contains(command))
}

/// Does what can be done again once more when a git of it was killed, by whoever or for want of memory.
pub(crate) fn despite_kills<T>(mut work: impl FnMut() -> Result<T, EngineError>) -> Result<T, EngineError> {
    match work() {
        Err(EngineError::GitKilled { .. }) => work(),
        told => told,
    }
}

pub(crate) fn failed(args: &[&str], message: String) -> EngineError {
    EngineError::Git { command: format!("git {}", args.join(" ")), message }
}

/// The last line that names a failure, behind which git may give advice; the last one when none does.
pub(crate) fn last_line(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let names = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let last = text.lines().rfind(names).or_else(|| text.trim().lines().last());
    last.unwrap_or("it told no reason").to_owned()
}
