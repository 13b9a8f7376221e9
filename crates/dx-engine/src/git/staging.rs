//! Bringing files as they are into an index that is not the worktree's own. With plumbing only: `git add` looks into
//! submodules, and runs for that what their configuration names.
//!
//! Called by what keeps work and brings it home. Must never: follow a link.

use super::{Call, Repository};
use crate::error::EngineError;
use std::ffi::OsStr;
use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A repository's configuration shall not make git pass over what it cannot read, or refuse what it would convert.
const EXACT: [&str; 4] = ["-c", "core.safecrlf=false", "-c", "core.splitIndex=false"];

/// What stands at a path below a folder; `None` when nothing does, or when a link leads there.
pub(crate) fn stands_at(folder: &Path, path: &Path) -> Option<FileType> {
    let kind = |path: &Path| std::fs::symlink_metadata(folder.join(path)).ok().map(|meta| meta.file_type());
    let mut above = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
    let real = |folder: &Path| folder != OsStr::new("..") && kind(folder).is_some_and(|kind| kind.is_dir());
    let inside = path.is_relative() && path.file_name().is_some() && above.all(real);
    inside.then(|| kind(path)).flatten()
}

impl Repository {
    /// Brings these paths into an index: what stands there as it is, everything else as gone.
    pub(crate) fn stage(&self, index: &Path, paths: &[&[u8]]) -> Result<(), EngineError> {
        let is_there = |path: &&&[u8]| {
            let path = Path::new(OsStr::from_bytes(path));
            stands_at(&self.work_tree, path).is_some_and(|kind| {
                // A folder is a path of git's only where it is a repository.
                kind.is_file() || kind.is_symlink() || self.work_tree.join(path).join(".git").exists()
            })
        };
        let (there, gone): (Vec<&[u8]>, Vec<&[u8]>) = paths.iter().partition(|path| is_there(path));
        for (how, paths) in [(&["--force-remove"][..], gone), (&["--add", "--remove", "--replace"], there)] {
            if paths.is_empty() {
                continue;
            }
            let mut list = paths.join(&b'\0');
            list.push(0);
            let args = [&EXACT[..], &["update-index", "-z"], how, &["--stdin"]].concat();
            Call::new(self, &args).index(index).stdin(list).run()?;
        }
        Ok(())
    }

    /// Brings everything that an index knows into it as it is.
    pub(crate) fn stage_known(&self, index: &Path) -> Result<(), EngineError> {
        let args = ["diff-files", "--name-only", "-z", "--no-renames", "--ignore-submodules=dirty"];
        let touched = Call::new(self, &args).index(index).run()?;
        let paths: Vec<&[u8]> = touched.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
        self.stage(index, &paths)
    }
}
