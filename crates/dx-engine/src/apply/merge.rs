//! Merging two commits in the object store, without a worktree, where it can fail without a trace.

use super::conflict::{self, Conflict};
use crate::error::EngineError;
use crate::git::{Call, Repository};

/// The first git whose `merge-tree` writes trees.
const GIT_NEEDED: &str = "git 2.38";

/// The tree of both; the inner error is what does not fit.
pub(crate) fn merge_trees(
    main: &Repository,
    at: &str,
    tip: &str,
) -> Result<Result<String, Vec<Conflict>>, EngineError> {
    let args = ["merge-tree", "--write-tree", "--name-only", "--messages", "-z", at, tip];
    let output = Call::new(main, &args).output()?;
    match output.status.code() {
        Some(0) => {
            let tree = output.stdout.split(|b| *b == 0).next().unwrap_or_default();
            Ok(Ok(String::from_utf8_lossy(tree).into_owned()))
        }
        Some(1) => Ok(Err(conflict::parse(&output.stdout))),
        _ => Err(match crate::git::ended(&["merge-tree", "--write-tree"], &output) {
            EngineError::Git { command, message }
                if message.contains("usage:") || message.contains("unknown option") =>
            {
                EngineError::Git { command, message: format!("{GIT_NEEDED} or newer is needed") }
            }
            error => error,
        }),
    }
}
