//! The permission gate: a worktree must exist and lie, resolved, below an allowed place; the state directory never does.

use crate::environment;
use crate::error::EngineError;
use std::path::{Path, PathBuf};

/// Where worktrees made by us go: `DX_RUNNER_WORKTREE_ROOT` or `$XDG_DATA_HOME/dx-runner/worktrees`. Always allowed.
pub(crate) fn worktree_root() -> Result<PathBuf, EngineError> {
    match std::env::var_os("DX_RUNNER_WORKTREE_ROOT").map(PathBuf::from).filter(|p| p.is_absolute()) {
        Some(root) => Ok(root),
        None => Ok(environment::dir("XDG_DATA_HOME", ".local/share")
            .ok_or(EngineError::NoHome)?
            .join("dx-runner/worktrees")),
    }
}

fn allowed_prefixes() -> Vec<PathBuf> {
    let mut prefixes = vec![PathBuf::from("/tmp/agents"), PathBuf::from("/tmp/dx-runner")];
    if let Some(home) = std::env::var_os("HOME").filter(|h| !h.is_empty()) {
        prefixes.push(PathBuf::from(home).join("agent-skills"));
    }
    if let Some(extra) = std::env::var_os("DX_RUNNER_EXTRA_ALLOWED_PREFIXES") {
        let extra = extra.to_string_lossy().into_owned();
        prefixes.extend(extra.split(',').map(str::trim).filter(|p| p.starts_with('/')).map(PathBuf::from));
    }
    prefixes
}

/// Resolves the path and decides. Symbolic links and `..` are followed first, on both sides, and prefixes are compared
/// by component, so neither `/tmp/agents-evil` nor a link out of an allowed place passes.
pub(crate) fn check(path: &Path, state_root: &Path) -> Result<PathBuf, EngineError> {
    let real = path.canonicalize().map_err(|_| EngineError::WorktreeMissing(path.to_owned()))?;
    if !real.is_dir() {
        return Err(EngineError::WorktreeMissing(path.to_owned()));
    }
    let mut allowed = allowed_prefixes();
    allowed.push(worktree_root()?);
    let in_state =
        state_root.canonicalize().is_ok_and(|state| real.starts_with(&state) || state.starts_with(&real));
    let below = |prefix: &PathBuf| {
        prefix.canonicalize().is_ok_and(|prefix| real.starts_with(&prefix) && prefix != Path::new("/"))
    };
    if in_state || !allowed.iter().any(below) {
        return Err(EngineError::PathDenied { path: real, allowed });
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_exist_or_is_elsewhere() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        std::fs::create_dir(&state).unwrap();
        assert!(matches!(check(&tmp.path().join("none"), &state), Err(EngineError::WorktreeMissing(_))));
        assert!(matches!(check(Path::new("/usr"), &state), Err(EngineError::PathDenied { .. })));
        assert!(matches!(check(&state, &state), Err(EngineError::PathDenied { .. })));
    }
}
