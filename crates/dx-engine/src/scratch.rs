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
        std::fs::create_dir_all(git_dir.join("objects")).map_err(io)?;
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
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(EngineError::Io { what: "remove a scratch repository", source })
            }
            _ => {
                // The folders above it go with the last one below them.
                let root = self.places()?.worktree_root()?.join(FOLDER);
                let above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&root));
                let _kept = above.map(std::fs::remove_dir).take_while(Result::is_ok).count();
                Ok(())
            }
        }
    }

    fn scratch(&self, name: &str) -> Result<PathBuf, EngineError> {
        let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(plain) {
            return Err(EngineError::Argument(format!("`{name}` is no name of a scratch repository")));
        }
        Ok(self.places()?.worktree_root()?.join(FOLDER).join(name))
    }
}
