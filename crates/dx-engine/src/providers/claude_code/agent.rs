//! Whether Claude Code knows an agent of that name.
//!
//! It has no list for programs. Without a prompt it ends before it asks a model, and looks at `--agent` before it misses
//! the prompt: one short run tells. An unknown name would end the job's own run too, so only a clear no refuses a start.

use super::super::ask::{AskError, ask};
use super::{Wish, headless};
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use std::path::Path;
use std::time::Duration;

/// It takes half a second on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between the name and the names that there are.
const NOT_FOUND: &str = " not found. Available agents: ";

/// Refuses a name that Claude Code does not know in this worktree.
pub(super) fn check(
    wish: &Wish<'_>,
    binary: &Path,
    name: &str,
    missing: ReasonCode,
) -> Result<(), EngineError> {
    let args = ["-p", "--output-format", "stream-json", "--verbose", "--agent", name];
    let answer = match ask(wish, binary, &args, &headless(), DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(_)) => return Ok(()),
    };
    match answer.stderr.lines().find_map(|line| line.split_once(NOT_FOUND)) {
        None => Ok(()),
        Some((_, known)) => Err(EngineError::Provider {
            reason: missing,
            message: format!("Claude Code knows no agent `{name}` here"),
            next_action: Some(format!("--agent with one of: {}", known.trim())),
        }),
    }
}
