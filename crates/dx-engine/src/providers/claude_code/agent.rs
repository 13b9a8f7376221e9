//! Whether Claude Code knows an agent of that name.
//!
//! It has no list for programs. Without a prompt it ends before it asks a model, and looks at `--agent` before it misses
//! the prompt: one short run tells. An unknown name would end the job's own run too, so only a clear no refuses a start,
//! and a yes is kept.

use super::super::ask::{AskError, ask};
use super::super::remembered::{self, Grounds};
use super::{Wish, headless, value};
use crate::environment;
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use std::path::Path;
use std::time::Duration;

/// It takes half a second on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(20);
/// Between the name and the names that there are.
const NOT_FOUND: &str = " not found. Available agents: ";
/// What it misses when the name is known.
const NO_PROMPT: &str = "Input must be provided";
/// What an administrator sets for all users.
const MANAGED: &str = "/etc/claude-code";

/// Refuses a name that Claude Code does not know in this worktree.
pub(super) fn check(
    wish: &Wish<'_>,
    binary: &Path,
    name: &str,
    missing: ReasonCode,
) -> Result<(), EngineError> {
    let mut grounds = grounds(wish, binary);
    grounds.word("agent", name);
    remembered::yes(wish, &grounds, "claude-agent", || {
        (wish.progress)(&format!(
            "asking Claude Code whether it knows agent {name}, once per binary and configuration …"
        ));
        asked(wish, binary, name, missing)
    })
}

/// Whether it said nothing against it.
fn asked(wish: &Wish<'_>, binary: &Path, name: &str, missing: ReasonCode) -> Result<bool, EngineError> {
    let args = ["-p", "--output-format", "stream-json", "--verbose", "--agent", name];
    let answer = match ask(wish, binary, &args, &headless(), DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(_)) => return Ok(false),
    };
    match answer.stderr.lines().find_map(|line| line.split_once(NOT_FOUND)) {
        None => Ok(answer.stderr.contains(NO_PROMPT)),
        Some((_, known)) => Err(EngineError::Provider {
            reason: missing,
            message: format!("Claude Code knows no agent `{name}` here"),
            next_action: Some(format!("--agent with one of: {}", known.trim())),
        }),
    }
}

/// The binary's identity, and every place where Claude Code looks for agents and for plugins that bring some.
fn grounds(wish: &Wish<'_>, binary: &Path) -> Grounds {
    let mut grounds = Grounds::default();
    grounds.file(binary);
    let own = environment::dir_in(wish.env, "CLAUDE_CONFIG_DIR", ".claude");
    for folder in own.iter().map(AsRef::as_ref).chain([Path::new(MANAGED)]) {
        for file in ["settings.json", "managed-settings.json", "plugins/installed_plugins.json"] {
            grounds.file(&folder.join(file));
        }
        grounds.folder(&folder.join("agents"));
    }
    for file in ["settings.json", "settings.local.json"] {
        grounds.content(wish.worktree, &Path::new(".claude").join(file));
    }
    grounds.contents(wish.worktree, Path::new(".claude/agents"));
    grounds.word("HOME", value(wish, "HOME").unwrap_or_default());
    grounds.variables(wish, |name| name.starts_with("CLAUDE_"));
    grounds
}
