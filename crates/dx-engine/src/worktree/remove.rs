//! `worktree remove`: takes a worktree away when all its work is in refs that stay. What is not saved is named, and then
//! nothing is touched.

use super::branch_ref::{refused, update_ref};
use super::inspect::{Trees, recorded};
use super::lock::Lock;
use super::made::{Made, Place, Stage, is_registered};
use super::{create, register, salvage, setup};
use crate::Engine;
use crate::error::EngineError;
use crate::git::{Call, Repository, line};
use crate::lookup;
use crate::permission::Places;
use dx_jobdir::{ClaimLock, StateDir, claim, disk, faults};
use dx_protocol::{BeadsId, WorktreeRemovedDocument};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why a worktree stays; a sentence for each kind of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unsaved {
    /// A live job works in it.
    Live(String),
    /// So does a process; perhaps of a job that another state directory records.
    Occupied(String),
    Work {
        work: Vec<String>,
        /// Some of it no salvage can hold.
        beyond_salvage: bool,
    },
}

/// The one worktree of an id, locked.
pub(super) fn find(
    beads: &BeadsId,
    repo: Option<&Path>,
    places: &Places,
) -> Result<(Place, Made, Lock), EngineError> {
    let root = places.worktree_root()?;
    let none = || EngineError::NoWorktreeOf(beads.to_string());
    let repository = repo.map(create::repository).transpose()?;
    let place = match &repository {
        Some(repository) => {
            let place = create::place_of(beads, repository, places)?;
            // A folder below the root names itself, not what else its repository has there.
            let (named, path) = (create::real(&repository.work_tree), create::real(&place.path()));
            if named.starts_with(create::real(root)) && named != path {
                return Err(none());
            }
            place
        }
        None => match &Place::of_id(root, beads)[..] {
            [] => return Err(none()),
            [one] => one.clone(),
            several => {
                let paths: Vec<String> = several.iter().map(|p| p.path().display().to_string()).collect();
                return Err(EngineError::Argument(format!(
                    "{beads} has several worktrees, name one with --repo: {}",
                    paths.join(", ")
                )));
            }
        },
    };
    let lock = Lock::existing(&place.folder)?.ok_or_else(none)?;
    match place.load() {
        // Another one's of the same name.
        Some(made)
            if repository.as_ref().is_some_and(|repository| {
                create::real(&repository.common_dir) != create::real(Path::new(&made.common_dir))
            }) =>
        {
            Err(none())
        }
        Some(made) => Ok((place, made, lock)),
        None if place.path().join(".git").exists() => Err(EngineError::WorktreeUnrecorded(place.path())),
        None => Err(none()),
    }
}

impl Engine {
    /// Removes a worktree whose work is saved.
    pub fn worktree_remove(
        &self,
        beads: &BeadsId,
        repo: Option<&Path>,
    ) -> Result<WorktreeRemovedDocument, EngineError> {
        let state = self.state()?;
        let (place, made, _lock) = find(beads, repo, &self.places()?)?;
        let branch = made.branch.clone();
        let removed = match remove_saved(&state, &place, made, Keep::Unsaved)? {
            Ok(removed) => removed,
            Err(Unsaved::Live(job)) => return Err(EngineError::WorktreeInUse { path: place.path(), job }),
            Err(Unsaved::Occupied(process)) => {
                return Err(EngineError::WorktreeOccupied { path: place.path(), process });
            }
            Err(Unsaved::Work { work, beyond_salvage }) => {
                return Err(EngineError::WorktreeUnsaved {
                    beads: beads.to_string(),
                    path: place.path(),
                    work,
                    beyond_salvage,
                });
            }
        };
        Ok(WorktreeRemovedDocument {
            schema: "dx-runner/worktree-removed/1".to_owned(),
            beads: beads.to_string(),
            path: place.path().display().to_string(),
            branch,
            branch_removed: removed.branch,
            salvaged: removed.salvaged,
        })
    }
}

/// What keeps a worktree from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Work that is in no ref.
    Unsaved,
    /// Work that is in no branch, tag or remote; a salvage is not enough.
    Unmerged,
}

/// What went with a removed worktree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Removed {
    /// The branch went too.
    pub(crate) branch: bool,
    /// Refs that hold the work.
    pub(crate) salvaged: Vec<String>,
}

/// Removes the worktree when everything in it is saved; the inner error says what is not. The caller holds its lock.
pub(crate) fn remove_saved(
    state: &StateDir,
    place: &Place,
    mut made: Made,
    keep: Keep,
) -> Result<Result<Removed, Unsaved>, EngineError> {
    let mut salvaged = Vec::new();
    if made.stage != Stage::Ready {
        setup::end_leftovers(&made.mark);
    }
    let whole = made.repository(place).filter(|w| is_registered(w) && w.work_tree.is_dir());
    if let (Some(worktree), Stage::Ready) = (&whole, made.stage) {
        if let Some(user) = user(state, &place.path()) {
            return Ok(Err(user));
        }
        let trees = Trees::take(worktree, &made, &recorded(state, &made, &place.path()))?;
        if keep == Keep::Unsaved {
            salvaged = salvages(&made, &trees)?;
        }
        let applied = is_applied(&made, &trees)?;
        let mut work = unsaved_work(&trees, applied || !salvaged.is_empty());
        work.extend(unsaved_commits(&made, &trees.head, keep)?);
        if !work.is_empty() {
            let beyond_salvage = !trees.nested.is_empty() || !trees.unseen.is_empty();
            return Ok(Err(Unsaved::Work { work, beyond_salvage }));
        }
    } else if made.stage == Stage::Ready && std::fs::symlink_metadata(place.path()).is_ok() {
        let unknown = "what is in it cannot be told: the repository does not lead to it any more";
        return Ok(Err(Unsaved::Work { work: vec![unknown.to_owned()], beyond_salvage: false }));
    }
    // No start can claim a job between this look and the renaming.
    let lock = ClaimLock::take(state)?;
    if let Some(user) = user(state, &place.path()) {
        return Ok(Err(user));
    }
    made.stage = Stage::Removing;
    place.save(&made)?;
    faults::step("worktree.removing");
    set_aside(place)?;
    drop(lock);
    let branch = finish(place, &made)?;
    Ok(Ok(Removed { branch, salvaged }))
}

/// Who works in this folder. The claims are those of one state directory, and others may use the same worktrees.
fn user(state: &StateDir, path: &Path) -> Option<Unsaved> {
    let job = live_job(state, path).map(Unsaved::Live);
    job.or_else(|| process_in(path).map(Unsaved::Occupied))
}

/// A process that has its working directory in this folder.
fn process_in(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let pid = *dx_proc::tree::working_in(&path).first()?;
    let name = dx_proc::command_name(pid).unwrap_or_default();
    Some(format!("{pid} ({name})"))
}

/// A process in this folder that no live job of this state directory accounts for.
pub(crate) fn stranger(state: &StateDir, path: &Path) -> Option<String> {
    if live_job(state, path).is_some() { None } else { process_in(path) }
}

/// A live job that works in this folder.
fn live_job(state: &StateDir, path: &Path) -> Option<String> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    claim::claims(state).into_iter().find_map(|claim| {
        // One that cannot be read may work anywhere.
        let there = lookup::read_run(state, &claim.path, true)
            .map_or(true, |found| Path::new(&found.run.created.spec.worktree).starts_with(&path));
        there.then(|| claim.beads.to_string())
    })
}

/// The salvages that hold exactly this state.
fn salvages(made: &Made, trees: &Trees) -> Result<Vec<String>, EngineError> {
    let main = made.main();
    let below = format!("{}/", salvage::refs_of(&made.beads));
    let list = Call::new(&main, &["for-each-ref", "--format=%(refname)", &below]).run()?;
    let mut found = Vec::new();
    for name in String::from_utf8_lossy(&list).lines() {
        let object = |what: &str| {
            let output =
                Call::new(&main, &["rev-parse", "--verify", "--quiet", &format!("{name}{what}")]).output()?;
            Ok::<_, EngineError>(output.status.success().then(|| line(&output.stdout)))
        };
        if object("^{tree}")?.as_ref() == Some(&trees.work_tree)
            && object("^1")?.as_ref() == Some(&trees.head)
            && object("^2^{tree}")?.as_ref() == Some(&trees.index_tree)
            && object("^3^{tree}")? == trees.untracked_tree
        {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// Whether `apply` brought exactly this state onto a branch that still has it.
fn is_applied(made: &Made, trees: &Trees) -> Result<bool, EngineError> {
    let main = made.main();
    let name = super::apply_ref(&made.beads);
    if !exists(&main, &name)? {
        return Ok(false);
    }
    let tree = Call::new(&main, &["rev-parse", "--verify", &format!("{name}^{{tree}}")]).line()?;
    // What was staged and then changed again was not applied.
    let staged = [&trees.head_tree, &trees.work_tree, &trees.full_tree].contains(&&trees.index_tree);
    if tree != trees.full_tree
        || !staged
        || !main.git_says(&["merge-base", "--is-ancestor", &trees.head, &name])?
    {
        return Ok(false);
    }
    let left = ["rev-list", "--count", &name, "--not", "--branches", "--tags", "--remotes"];
    Ok(Call::new(&main, &left).line()? == "0")
}

fn unsaved_work(trees: &Trees, salvaged: bool) -> Vec<String> {
    let mut work: Vec<String> = trees
        .nested
        .iter()
        .map(|path| format!("{path} is a repository with work of its own, which cannot be salvaged"))
        .collect();
    work.extend(trees.unseen.iter().cloned());
    if salvaged {
        return work;
    }
    let some = [
        (trees.index_tree != trees.head_tree, "staged changes"),
        (trees.work_tree != trees.index_tree, "changes that are not staged"),
    ];
    work.extend(some.into_iter().filter(|(there, _)| *there).map(|(_, what)| what.to_owned()));
    if trees.untracked > 0 {
        work.push(format!("{} files that are in no commit", trees.untracked));
    }
    work.extend(trees.operation.map(|what| format!("{what} that is not finished")));
    work
}

/// Commits that only this worktree's HEAD and branch lead to.
fn unsaved_commits(made: &Made, head: &str, keep: Keep) -> Result<Option<String>, EngineError> {
    let main = made.main();
    let branch = format!("refs/heads/{}", made.branch);
    let exclude = format!("--exclude={}", made.branch);
    let not_base = format!("^{}", made.base);
    let mut args = vec!["rev-list", "--count", head, &not_base];
    if exists(&main, &branch)? {
        args.push(&branch);
    }
    args.extend(["--not", &exclude, "--branches", "--tags", "--remotes"]);
    if keep == Keep::Unsaved {
        args.push("--glob=refs/dx-runner/salvage/*");
    }
    let count = Call::new(&main, &args).line()?;
    Ok((count != "0").then(|| format!("{count} commits that no other branch, tag or remote has")))
}

fn exists(main: &Repository, name: &str) -> Result<bool, EngineError> {
    Ok(Call::new(main, &["rev-parse", "--verify", "--quiet", name]).output()?.status.success())
}

/// Takes the worktree from its place, so that nobody finds half of it there.
fn set_aside(place: &Place) -> Result<(), EngineError> {
    let trash = place.trash();
    match std::fs::rename(place.path(), &trash) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // An earlier removal was cut off, and the place was used again.
        Err(_) if trash.exists() => remove_tree(&trash).and_then(|()| {
            std::fs::rename(place.path(), &trash)
                .map_err(|source| EngineError::Io { what: "set the worktree aside", source })
        }),
        other => other.map_err(|source| EngineError::Io { what: "set the worktree aside", source }),
    }
}

/// Does what is left of a removal, in an order that can be cut off anywhere; tells whether the branch went too.
pub(super) fn finish(place: &Place, made: &Made) -> Result<bool, EngineError> {
    set_aside(place)?;
    remove_tree(&place.trash())?;
    remove_tree(&place.setup_tmp())?;
    let main = made.main();
    let lock = Lock::repository(&main.common_dir)?;
    let path = place.path();
    for git_dir in register::registered(&main.common_dir, &path) {
        remove_tree(&git_dir)?;
    }
    drop(lock);
    let branch = made.branch_is_new && !made.branch.is_empty() && remove_branch(&main, made)?;
    // That of a worktree that was never ready tells why it was not.
    if made.stage == Stage::Removing {
        disk::remove(&place.setup_log())?;
    }
    place.forget()?;
    Ok(branch)
}

/// Removes the branch that was made for the worktree when other refs have all its commits; `false` when it stays or was gone.
fn remove_branch(main: &Repository, made: &Made) -> Result<bool, EngineError> {
    let name = format!("refs/heads/{}", made.branch);
    let tip = || {
        let output = Call::new(main, &["rev-parse", "--verify", "--quiet", &name]).output()?;
        Ok::<_, EngineError>(output.status.success().then(|| line(&output.stdout)))
    };
    let Some(at) = tip()? else { return Ok(false) };
    let form = "--format=%(refname)%00%(worktreepath)";
    let list = Call::new(main, &["for-each-ref", form, &name]).run()?;
    let checked_out = String::from_utf8_lossy(&list)
        .lines()
        .any(|l| l.split_once('\0').is_some_and(|(found, path)| found == name && !path.is_empty()));
    if checked_out || (at != made.base && unsaved_commits(made, &at, Keep::Unsaved)?.is_some()) {
        return Ok(false);
    }
    // With the value that was looked at: whoever moved it meanwhile keeps it.
    let delete = ["-d", &name, &at];
    let output = update_ref(main, made, &delete)?;
    if output.status.success() {
        return Ok(true);
    }
    // Another git was in the way: the removal is not done, and the next command goes on with it.
    if tip()?.as_ref() == Some(&at) {
        return Err(refused(&delete, &output));
    }
    Ok(false)
}

/// Removes a folder, also one with folders in it that may not be written.
pub(super) fn remove_tree(path: &Path) -> Result<(), EngineError> {
    let remove = || match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let removed = remove().or_else(|e| {
        if e.kind() != io::ErrorKind::PermissionDenied {
            return Err(e);
        }
        make_writable(path)?;
        remove()
    });
    removed.map_err(|source| EngineError::Io { what: "remove a worktree's files", source })
}

fn make_writable(path: &Path) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let meta = std::fs::symlink_metadata(&folder)?;
        if meta.permissions().mode() & 0o700 != 0o700 {
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        }
        for entry in std::fs::read_dir(&folder)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}
