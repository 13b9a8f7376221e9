//! Small repositories of our own, for jobs that are to begin on an equal footing: those of a benchmark. They lie beside the
//! worktrees, where jobs may work. Must never: take a folder away that [`Engine::scratch_repository`] did not make.

use crate::Engine;
use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::worktree::salvage;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// No id begins with a dot, so no worktree is here.
const FOLDER: &str = ".scratch";

impl Engine {
    /// A repository with one commit of these files, on `main`; what was there under this name is replaced. `name` is one
    /// component of a path, or several.
    pub fn scratch_repository(
        &self,
        name: &str,
        files: &BTreeMap<String, String>,
    ) -> Result<PathBuf, EngineError> {
        let path = self.scratch(name)?;
        let io = |source| EngineError::Io { what: "make a scratch repository", source };
        self.remove_scratch(name)?;
        let git_dir = path.join(".git");
        make(&git_dir.join("objects")).map_err(io)?;
        std::fs::create_dir_all(git_dir.join("refs/heads")).map_err(io)?;
        std::fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n").map_err(io)?;
        let config = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\
                      [user]\n\tname = dx-runner\n\temail = dx-runner@localhost\n";
        std::fs::write(git_dir.join("config"), config).map_err(io)?;
        for (file, text) in files {
            let file = path.join(file);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder).map_err(io)?;
            }
            std::fs::write(file, text).map_err(io)?;
        }
        let repository =
            Repository { git_dir: git_dir.clone(), common_dir: git_dir, work_tree: path.clone() };
        Call::new(&repository, &["add", "--all", "--force"]).run()?;
        let tree = Call::new(&repository, &["write-tree"]).line()?;
        let commit = salvage::commit(&repository, &tree, &[], "What the job begins with")?;
        Call::new(&repository, &["update-ref", "refs/heads/main", &commit, ""]).run()?;
        Ok(path)
    }

    /// Takes a scratch repository away, or all below a name.
    pub fn remove_scratch(&self, name: &str) -> Result<(), EngineError> {
        let path = self.scratch(name)?;
        let root = self.places()?.worktree_root()?.join(FOLDER);
        remove(&path, &root).map_err(|source| EngineError::Io { what: "remove a scratch repository", source })
    }

    fn scratch(&self, name: &str) -> Result<PathBuf, EngineError> {
        let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(plain) {
            return Err(EngineError::Argument(format!("`{name}` is no name of a scratch repository")));
        }
        Ok(self.places()?.worktree_root()?.join(FOLDER).join(name))
    }
}

/// Makes a folder and those above it. One above it may go meanwhile, with the last repository of another job, until there is
/// something in it.
fn make(folder: &Path) -> io::Result<()> {
    const TRIES: usize = 1_000;
    for _ in 1..TRIES {
        match std::fs::create_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => std::thread::yield_now(),
            made => return made,
        }
    }
    std::fs::create_dir_all(folder)
}

/// The folders above it, as far as `root`, go with the last one below them.
fn remove(folder: &Path, root: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let above = folder.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    let _kept = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{make, remove};

    #[test]
    fn jobs_that_begin_and_end_at_once_are_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::thread::scope(|scope| {
            for job in 0..4 {
                let (folder, root) = (root.join("run").join(job.to_string()), &root);
                scope.spawn(move || {
                    for _ in 0..300 {
                        make(&folder.join(".git/objects")).unwrap();
                        remove(&folder, root).unwrap();
                    }
                });
            }
        });
        assert!(!root.exists());
    }
}
