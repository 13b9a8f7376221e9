//! The permission gate: a worktree must exist and lie, resolved, below an allowed place and in no protected checkout; the
//! state directory and git's own folders never do.

use crate::environment;
use crate::error::{EngineError, PathDenied};
use crate::git::Repository;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where worktrees made by us go when nobody says otherwise.
pub(crate) fn default_worktree_root() -> Option<PathBuf> {
    Some(environment::dir("XDG_DATA_HOME", ".local/share")?.join("dx-runner/worktrees"))
}

/// The places that the configuration names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// Where worktrees made by us go; always allowed.
    pub(crate) root: Option<PathBuf>,
    /// Allowed beside the built-in ones.
    pub(crate) extra: Vec<PathBuf>,
    /// Checkouts in which no job may work, whatever is allowed.
    pub(crate) protected: Vec<PathBuf>,
    /// The most bytes that all worktrees made by us may use.
    pub(crate) budget: Option<u64>,
}

impl Places {
    /// Where worktrees made by us go.
    pub(crate) fn worktree_root(&self) -> Result<&Path, EngineError> {
        self.root.as_deref().ok_or(EngineError::NoHome)
    }
}

/// Allowed places that anybody on the machine could have made before us: they count only while they are ours.
const SHARED: [&str; 2] = ["/tmp/agents", "/tmp/dx-runner"];

/// Whether a name is, itself and not through a link, a directory of this user.
fn is_our_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw())
}

/// Allowed places that this user named, or that lie in the home.
fn own_prefixes(places: &Places) -> Result<Vec<PathBuf>, EngineError> {
    let mut prefixes = Vec::new();
    if let Some(home) = std::env::var_os("HOME").filter(|h| !h.is_empty()) {
        prefixes.push(PathBuf::from(home).join("agent-skills"));
    }
    prefixes.extend(places.extra.iter().cloned());
    prefixes.push(places.worktree_root()?.to_owned());
    Ok(prefixes)
}

/// Resolves the path and decides. Symbolic links and `..` are followed first, on both sides, and prefixes are compared
/// by component, so neither `/tmp/agents-evil` nor a link out of an allowed place passes.
pub(crate) fn check(path: &Path, state_root: &Path, places: &Places) -> Result<PathBuf, EngineError> {
    let real = path.canonicalize().map_err(|_| EngineError::WorktreeMissing(path.to_owned()))?;
    if !real.is_dir() {
        return Err(EngineError::WorktreeMissing(path.to_owned()));
    }
    let (shared, own) = (SHARED.map(PathBuf::from), own_prefixes(places)?);
    let in_state =
        state_root.canonicalize().is_ok_and(|state| real.starts_with(&state) || state.starts_with(&real));
    if let Some(checkout) = places.protected.iter().find_map(|listed| protecting(listed, &real)) {
        return Err(EngineError::ProtectedCheckout { path: real, checkout });
    }
    let below = |prefix: &PathBuf| {
        prefix.canonicalize().is_ok_and(|prefix| real.starts_with(&prefix) && prefix != Path::new("/"))
    };
    let counting = shared.iter().filter(|p| is_our_directory(p)).chain(&own).any(below);
    let why = if in_state {
        PathDenied::InState
    } else if !counting {
        PathDenied::Elsewhere(shared.into_iter().chain(own).collect())
    } else if is_in_git_folder(&real) {
        PathDenied::InGitFolder
    } else {
        return Ok(real);
    };
    Err(EngineError::PathDenied { path: real, why })
}

/// Whether a place belongs to git: its hooks and its configuration are run by others. A worktree inside of a bare repository
/// is one.
fn is_in_git_folder(real: &Path) -> bool {
    let nearest = real.ancestors().find_map(|folder| {
        let is_git =
            folder.join("HEAD").is_file() && folder.join("objects").is_dir() && folder.join("refs").is_dir();
        if is_git { Some(true) } else { folder.join(".git").exists().then_some(false) }
    });
    nearest.unwrap_or(false)
}

/// The protected checkout that a place is or lies in. A linked worktree is none, wherever it lies: it was made to be worked
/// in, unless it is listed itself.
fn protecting(listed: &Path, real: &Path) -> Option<PathBuf> {
    let checkout = listed.canonicalize().ok()?;
    let top = Repository::find(real).filter(|r| r.git_dir != r.common_dir).map(|r| r.work_tree);
    let is_other = top.is_some_and(|top| top != checkout && top.starts_with(&checkout));
    (real.starts_with(&checkout) && !is_other).then_some(checkout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_exist_or_is_elsewhere() {
        let tmp = tempfile::tempdir().unwrap();
        let state = tmp.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let places = Places {
            root: Some(tmp.path().join("worktrees")),
            extra: vec![tmp.path().join("extra")],
            protected: Vec::new(),
            budget: None,
        };
        let check = |path: &Path| check(path, &state, &places);
        assert!(matches!(check(&tmp.path().join("none")), Err(EngineError::WorktreeMissing(_))));
        assert!(matches!(check(Path::new("/usr")), Err(EngineError::PathDenied { .. })));
        assert!(matches!(check(&state), Err(EngineError::PathDenied { .. })));
        for name in ["worktrees/a", "extra/b"] {
            std::fs::create_dir_all(tmp.path().join(name)).unwrap();
            assert!(check(&tmp.path().join(name)).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_shared_place_counts_only_as_a_directory_of_ours() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(is_our_directory(tmp.path()));
        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(tmp.path(), &link).unwrap();
        assert!(!is_our_directory(&link));
        std::fs::write(tmp.path().join("file"), "").unwrap();
        assert!(!is_our_directory(&tmp.path().join("file")));
        assert!(!is_our_directory(&tmp.path().join("none")));
        if !rustix::process::geteuid().is_root() {
            assert!(!is_our_directory(Path::new("/usr")));
        }
    }
}
