//! Registering a worktree in its repository: the branch, and the folder below `worktrees/` that git keeps for it.
//!
//! The folder is put together beside and renamed into place, in the layout that gitrepository-layout(5) documents: `git
//! worktree add` makes it in steps, between which every other git command that looks at all worktrees may fail, and what a
//! kill leaves of it stays locked. Repositories whose layout has more parts are left to git itself.

use super::branch_ref::{refused, update_ref};
use super::lock::Lock;
use super::made::{Made, Place, is_registered};
use crate::error::EngineError;
use crate::git::{Call, Repository};
use dx_monitor::MARKER;
use std::io;
use std::path::{Path, PathBuf};

/// Makes or finds the branch, registers the worktree, and records both. `base` is what was asked for, when it was.
pub(super) fn register(place: &Place, made: &mut Made, base: Option<&str>) -> Result<(), EngineError> {
    let main = made.main();
    let lock = Lock::repository(&main.common_dir)?;
    forget_stale(&main.common_dir, &place.path())?;
    branch(place, made, &main, base)?;
    let git_dir = if let Some(git_dir) = cut_off(&main.common_dir, &place.path()) {
        git_dir
    } else if is_plain(&main.common_dir)? {
        by_hand(place, made, &main.common_dir)?
    } else {
        by_git(place, made, &main)?
    };
    drop(lock);
    made.git_dir = Some(super::utf8(&git_dir)?.to_owned());
    place.save(made)
}

/// Makes the branch at the base, or takes the one that is there when no worktree has it.
fn branch(place: &Place, made: &mut Made, main: &Repository, base: Option<&str>) -> Result<(), EngineError> {
    let name = format!("refs/heads/{}", made.branch);
    // Said before it is done: what is cut off here may be undone.
    let knew = std::mem::replace(&mut made.branch_is_new, true);
    place.save(made)?;
    let message = format!("branch: Created from {} by dx-runner", made.base);
    let args = ["--create-reflog", "-m", &message, &name, &made.base, ""];
    let output = update_ref(main, made, &args)?;
    if output.status.success() {
        return Ok(());
    }
    made.branch_is_new = knew;
    let form = "--format=%(refname)%00%(objectname)%00%(worktreepath)";
    let list = Call::new(main, &["for-each-ref", form, &name]).run()?;
    let list = String::from_utf8_lossy(&list);
    let found = list.lines().find_map(|line| {
        let mut fields = line.split('\0');
        (fields.next() == Some(&name))
            .then(|| (fields.next().unwrap_or_default(), fields.next().unwrap_or_default()))
    });
    let Some((at, path)) = found else {
        return Err(refused(&args, &output));
    };
    if !path.is_empty() && Path::new(path) != place.path() {
        return Err(EngineError::BranchInUse { branch: made.branch.clone(), path: path.into() });
    }
    if base.is_some() && at != made.base {
        return Err(EngineError::BranchExists { branch: made.branch.clone(), at: at.to_owned() });
    }
    at.clone_into(&mut made.base);
    place.save(made)
}

/// Whether git keeps no more of a worktree than what [`by_hand`] writes.
fn is_plain(common_dir: &Path) -> Result<bool, EngineError> {
    const MAX_BYTES: u64 = 1 << 20;
    if common_dir.join("reftable").exists() || common_dir.join("config.worktree").exists() {
        return Ok(false);
    }
    let config = dx_jobdir::read_bounded(&common_dir.join("config"), MAX_BYTES)
        .map_err(|source| EngineError::Io { what: "read the repository's configuration", source })?;
    let text = String::from_utf8_lossy(&config).to_ascii_lowercase();
    Ok(config.len() as u64 != MAX_BYTES
        && !["refstorage", "worktreeconfig", "relativeworktrees"].iter().any(|word| text.contains(word)))
}

fn by_hand(place: &Place, made: &Made, common_dir: &Path) -> Result<PathBuf, EngineError> {
    let worktrees = common_dir.join("worktrees");
    let write = || -> io::Result<PathBuf> {
        std::fs::create_dir_all(&worktrees)?;
        let new = common_dir.join("dx-runner-new-worktree");
        // Ours by the lock: what is there was cut off.
        match std::fs::remove_dir_all(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => std::fs::create_dir(&new)?,
        }
        let path = place.path();
        std::fs::write(new.join("gitdir"), format!("{}/.git\n", path.display()))?;
        std::fs::write(new.join("commondir"), "../..\n")?;
        std::fs::write(new.join("HEAD"), format!("ref: refs/heads/{}\n", made.branch))?;
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // The id, as far as git takes it for a name.
        let mut stem = made.beads.to_string();
        if stem.ends_with('.') || Path::new(&stem).extension().is_some_and(|e| e == "lock") {
            stem.push('-');
        }
        let names = (0_u32..).map(|n| if n == 0 { stem.clone() } else { format!("{stem}-{n}") });
        for name in names {
            let git_dir = worktrees.join(name);
            if git_dir.exists() {
                continue;
            }
            // `git worktree prune` takes away what no worktree points to, so the worktree is first.
            std::fs::write(path.join(".git"), format!("gitdir: {}\n", git_dir.display()))?;
            match rustix::fs::renameat_with(
                rustix::fs::CWD,
                &new,
                rustix::fs::CWD,
                &git_dir,
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                Ok(()) => return Ok(git_dir),
                Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {}
                Err(rustix::io::Errno::INVAL) => {
                    // A file system without NOREPLACE; a folder with something in it is not replaced there either.
                    std::fs::rename(&new, &git_dir)?;
                    return Ok(git_dir);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(io::Error::other("there is no free name"))
    };
    write().map_err(|source| EngineError::Io { what: "register the worktree", source })
}

fn by_git(place: &Place, made: &Made, main: &Repository) -> Result<PathBuf, EngineError> {
    let path = place.path();
    let target = super::utf8(&path)?;
    let args = ["worktree", "add", "--no-checkout", "--", target, &made.branch];
    Call::new(main, &args).env(MARKER, made.mark.as_str()).run()?;
    Repository::find(&path).map(|found| found.git_dir).ok_or(EngineError::NoWorktree)
}

/// Takes away git's folders of worktrees that were at this path and are not there any more.
fn forget_stale(common_dir: &Path, path: &Path) -> Result<(), EngineError> {
    if path.join(".git").exists() {
        return Ok(());
    }
    for git_dir in registered(common_dir, path) {
        std::fs::remove_dir_all(&git_dir).map_err(|source| EngineError::Io {
            what: "take away what is left of an earlier worktree",
            source,
        })?;
    }
    Ok(())
}

/// Registered by a command that was killed before it could record that.
fn cut_off(common_dir: &Path, path: &Path) -> Option<PathBuf> {
    let text = dx_jobdir::read_bounded(&path.join(".git"), 64 << 10).ok()?;
    let text = String::from_utf8(text).ok()?;
    let to = PathBuf::from(text.strip_prefix("gitdir: ")?.trim_end_matches('\n'));
    registered(common_dir, path).into_iter().find(|git_dir| *git_dir == to)
}

/// Git's folders whose worktree is at this path.
pub(super) fn registered(common_dir: &Path, path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(common_dir.join("worktrees")) else { return Vec::new() };
    let of = |git_dir: PathBuf| Repository {
        git_dir,
        common_dir: common_dir.to_owned(),
        work_tree: path.to_owned(),
    };
    entries.flatten().map(|e| of(e.path())).filter(is_registered).map(|r| r.git_dir).collect()
}
