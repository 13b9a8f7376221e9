//! How much disk worktrees use, and whether another one is within the budget.

use crate::error::EngineError;
use crate::permission::Places;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// From this part of the budget on it is remarked, in percent.
const REMARK_AT: u64 = 80;

/// Bytes that a folder takes up on disk, links not followed. What cannot be read counts nothing.
pub(crate) fn of(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * BLOCK;
    if !meta.is_dir() {
        return own;
    }
    own + std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| of(&entry.path())).sum::<u64>()
}

/// A size in bytes, from words such as `20G`.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        "T" | "TB" | "TIB" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Refuses when the budget is used up, remarks when it soon will be. Without a budget nothing is looked at.
pub(super) fn check_budget(places: &Places) -> Result<Option<String>, EngineError> {
    let Some(budget) = places.budget else { return Ok(None) };
    let used = of(places.worktree_root()?);
    if used >= budget {
        return Err(EngineError::WorktreeBudget { used, budget });
    }
    let near = used / REMARK_AT >= budget / 100;
    Ok(near.then(|| {
        format!("worktrees use {used} of {budget} bytes (worktree.budget, DX_RUNNER_WORKTREE_BUDGET)")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("0", 0), ("12", 12), ("2k", 2048), ("20G", 20 << 30), ("1TiB", 1 << 40)] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in ["", "G", "1.5G", "-1", "1 G", "1X", "99999999999T"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
