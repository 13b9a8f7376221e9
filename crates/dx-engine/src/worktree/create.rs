//! Making a worktree, whole or not at all: plan, registration, checkout, copies, set-up, each recorded before it begins, so
//! that what a kill leaves is gone on with by the next command for the same id.

use super::lock::Lock;
use super::made::{Made, Place, Stage, is_registered};
use super::project::Project;
use super::{copy, disk_use, main_checkout, register, remove, setup, utf8};
use crate::error::EngineError;
use crate::git::{Call, Repository, line};
use crate::halt::Halt;
use crate::permission::Places;
use crate::sandbox::Asked;
use dx_jobdir::{StateDir, claim, faults};
use dx_monitor::MARKER;
use dx_protocol::BeadsId;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) beads: &'a BeadsId,
    /// In the repository, or a bare one itself.
    pub(crate) repo: &'a Path,
    /// The repository's HEAD when `None`.
    pub(crate) base: Option<&'a str>,
    /// The id when `None`.
    pub(crate) branch: Option<&'a str>,
    pub(crate) places: &'a Places,
    /// What the set-up is confined to.
    pub(crate) sandbox: &'a Asked,
    pub(crate) progress: &'a dyn Fn(&str),
    /// Once it is over nothing is made, and what was not made to its end is taken away.
    pub(crate) halt: Option<Halt<'a>>,
}

/// A worktree that may be used. While this is held, nobody removes it.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) made: Made,
    pub(crate) place: Place,
    /// It was made by this call.
    pub(crate) fresh: bool,
    pub(crate) remarks: Vec<String>,
    /// For the answer of the start that uses it.
    pub(crate) warnings: Vec<String>,
    lock: Lock,
}

/// The repository at a path, which may itself be a bare one.
pub(crate) fn repository(repo: &Path) -> Result<Repository, EngineError> {
    // The names of its folders are taken from it.
    let dir = repo.canonicalize().map_err(|_| EngineError::NoRepository(repo.to_owned()))?;
    let bare = ["HEAD", "objects", "refs"].iter().all(|name| dir.join(name).exists());
    if bare && !dir.join(".git").exists() {
        return Ok(Repository { git_dir: dir.clone(), common_dir: dir.clone(), work_tree: dir });
    }
    Repository::find(&dir).ok_or_else(|| EngineError::NoRepository(repo.to_owned()))
}

/// Where [`create`] makes it: `<root>/<id>/<repo>`.
pub(crate) fn place(beads: &BeadsId, repo: &Path, places: &Places) -> Result<Place, EngineError> {
    place_of(beads, &repository(repo)?, places)
}

pub(super) fn place_of(
    beads: &BeadsId,
    repository: &Repository,
    places: &Places,
) -> Result<Place, EngineError> {
    Place::new(places.worktree_root()?, beads, &name(repository))
}

/// What people call the repository: the folder that holds its `.git`; of a bare one its own name; of a submodule or one
/// with its git directory elsewhere the work tree's.
fn name(repository: &Repository) -> OsString {
    let common = &repository.common_dir;
    let folder = if common.file_name().is_some_and(|n| n == ".git") {
        common.parent().and_then(Path::file_name)
    } else if repository.git_dir == *common && repository.work_tree != *common {
        repository.work_tree.file_name()
    } else {
        common.file_stem()
    };
    folder.unwrap_or_else(|| OsStr::new("repo")).to_owned()
}

/// Makes the worktree, or answers with the one that is there.
pub(crate) fn create(wish: &Wish) -> Result<Ready, EngineError> {
    let repository = repository(wish.repo)?;
    let common_dir = real(&repository.common_dir);
    let place = place_of(wish.beads, &repository, wish.places)?;
    utf8(&common_dir)?;
    let branch = branch_name(wish)?;
    let wanted = Wanted { wish, branch, repository: &repository, common_dir: &common_dir };
    let lock = Lock::folder(&place.folder)?;
    let done = wanted.create(&place);
    let (made, fresh, remarks) = match done {
        Ok(done) => done,
        Err(error) => {
            let _empty = std::fs::remove_dir(lock.path());
            return Err(error);
        }
    };
    // Others may use it at the same time, but not remove it.
    lock.share()?;
    Ok(Ready { made, place, fresh, remarks, warnings: Vec::new(), lock })
}

pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The branch's name; one that git would not take is refused with a better word.
fn branch_name(wish: &Wish) -> Result<String, EngineError> {
    let name = wish.branch.unwrap_or(wish.beads.as_str());
    if is_branch_name(name) { Ok(name.to_owned()) } else { Err(EngineError::BranchName(name.to_owned())) }
}

/// The rules of git-check-ref-format(1).
pub(crate) fn is_branch_name(name: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.strip_suffix(".lock").is_none();
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    name.split('/').all(part)
        && !name.starts_with('-')
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains(bad)
        && name != "@"
        && name != "HEAD"
}

struct Wanted<'a> {
    wish: &'a Wish<'a>,
    branch: String,
    repository: &'a Repository,
    common_dir: &'a Path,
}

impl Wanted<'_> {
    fn create(&self, place: &Place) -> Result<(Made, bool, Vec<String>), EngineError> {
        let path = place.path();
        let taken = || EngineError::WorktreeTaken(path.clone());
        let mut remarks = Vec::new();
        let mut made = match place.load() {
            Some(made) if real(Path::new(&made.common_dir)) != self.common_dir => return Err(taken()),
            Some(made) if made.stage == Stage::Removing => {
                setup::end_leftovers(&made.mark);
                remove::finish(place, &made)?;
                std::fs::create_dir_all(&place.folder)
                    .map_err(|source| EngineError::Io { what: "make the worktree's folder", source })?;
                None
            }
            Some(made) if made.stage == Stage::Ready && path.join(".git").exists() => {
                self.is_as_wished(&made)?;
                return Ok((made, false, remarks));
            }
            // Somebody deleted the folder.
            Some(made) if made.stage == Stage::Ready => None,
            Some(made) => {
                setup::end_leftovers(&made.mark);
                self.is_as_wished(&made)?;
                remarks.push(
                    "an earlier command was cut off while it made this worktree; it was finished".to_owned(),
                );
                Some(made)
            }
            None if path.join(".git").exists() => {
                let made = self.adopt(place)?.ok_or_else(taken)?;
                self.is_as_wished(&made)?;
                place.save(&made)?;
                return Ok((made, false, remarks));
            }
            None => None,
        };
        if let Some(halt) = self.halted() {
            if let Some(made) = made {
                abandon(place, made)?;
            }
            return Err(halt.error());
        }
        if made.is_none() && std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(taken());
        }
        let cut_off = made.is_some();
        let mut made = match made.take() {
            Some(made) => made,
            None => self.plan(place, &mut remarks)?,
        };
        match self.make(place, &mut made, &mut remarks) {
            Ok(()) => Ok((made, true, remarks)),
            Err(error) => {
                if let Some(halt) = self.halted() {
                    abandon(place, made)?;
                    return Err(halt.error());
                }
                if !cut_off {
                    undo(place, &made);
                }
                Err(error)
            }
        }
    }

    fn halted(&self) -> Option<Halt<'_>> {
        self.wish.halt.filter(Halt::is_over)
    }

    /// What is there must be what is asked for.
    fn is_as_wished(&self, made: &Made) -> Result<(), EngineError> {
        let other_branch =
            self.wish.branch.is_some() && made.branch != self.branch && !made.branch.is_empty();
        let other_base = match self.wish.base {
            Some(base) if !made.base.is_empty() => self.base(base)? != made.base,
            _ => false,
        };
        if other_branch || other_base {
            return Err(EngineError::WorktreeExists {
                beads: made.beads.to_string(),
                branch: made.branch.clone(),
                base: made.base.clone(),
            });
        }
        Ok(())
    }

    fn base(&self, name: &str) -> Result<String, EngineError> {
        self.repository.commit_of(name)?.ok_or_else(|| EngineError::NoBase { name: name.to_owned() })
    }

    fn plan(&self, place: &Place, remarks: &mut Vec<String>) -> Result<Made, EngineError> {
        let checkout = main_checkout(self.repository);
        let repo = checkout.as_deref().unwrap_or(self.common_dir);
        let mut made = Made::plan(self.wish.beads, &real(repo), self.common_dir)?;
        made.base = self.base(self.wish.base.unwrap_or("HEAD"))?;
        made.branch.clone_from(&self.branch);
        if let Some(checkout) = checkout {
            let project = Project::read(&checkout)?;
            made.setup = project.setup;
            made.copy = project.copy;
        }
        remarks.extend(disk_use::check_budget(self.wish.places)?);
        place.save(&made)?;
        Ok(made)
    }

    fn make(&self, place: &Place, made: &mut Made, remarks: &mut Vec<String>) -> Result<(), EngineError> {
        faults::step("worktree.planned");
        let registered =
            made.repository(place).is_some_and(|r| is_registered(&r) && r.work_tree.join(".git").exists());
        if !registered {
            register::register(place, made, self.wish.base)?;
        }
        faults::step("worktree.registered");
        let unplaced = || EngineError::WorktreeTaken(place.path());
        let worktree = made.repository(place).ok_or_else(unplaced)?;
        // Git writes the index last: without one the checkout was cut off.
        if !worktree.git_dir.join("index").exists() {
            let _stale = std::fs::remove_file(worktree.git_dir.join("index.lock"));
            let args = ["reset", "--hard", "--quiet", "--no-recurse-submodules"];
            Call::new(&worktree, &args).env(MARKER, made.mark.as_str()).run()?;
        }
        faults::step("worktree.checked_out");
        let checkout = Path::new(&made.repo);
        made.copied = copy::copy(&made.copy, checkout, &worktree, remarks)?;
        if !made.setup.is_empty() {
            place.save(made)?;
            (self.wish.progress)(&format!("sets the worktree up: {}", made.setup.join("; ")));
            setup::run(&setup::Setup {
                commands: &made.setup,
                beads: &made.beads,
                mark: &made.mark,
                worktree: &worktree,
                log: &place.setup_log(),
                tmp: &place.setup_tmp(),
                sandbox: self.wish.sandbox,
                progress: self.wish.progress,
                halt: self.wish.halt,
            })?;
        }
        faults::step("worktree.set_up");
        made.stage = Stage::Ready;
        place.save(made)
    }

    /// A worktree of this repository that an earlier version made without a record; `None` when it is another's.
    fn adopt(&self, place: &Place) -> Result<Option<Made>, EngineError> {
        let Some(found) = Repository::find(&place.path()) else { return Ok(None) };
        let whole = found.git_dir.join("index").exists() && is_registered(&found);
        if real(&found.common_dir) != self.common_dir || found.work_tree != place.path() || !whole {
            return Ok(None);
        }
        let repo = main_checkout(self.repository);
        let mut made =
            Made::plan(self.wish.beads, &real(repo.as_deref().unwrap_or(self.common_dir)), self.common_dir)?;
        made.git_dir = Some(utf8(&found.git_dir)?.to_owned());
        made.stage = Stage::Ready;
        made.branch = line(&found.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).unwrap_or_default());
        made.base = line(&found.git(&["rev-parse", "--verify", "HEAD"])?);
        Ok(Some(made))
    }
}

/// Takes away a worktree that nobody wants to have made any more, however far it is.
fn abandon(place: &Place, mut made: Made) -> Result<(), EngineError> {
    setup::end_leftovers(&made.mark);
    made.stage = Stage::Removing;
    place.save(&made)?;
    remove::finish(place, &made).map(drop)
}

/// Takes away a worktree that was just made and never used.
fn undo(place: &Place, made: &Made) {
    setup::end_leftovers(&made.mark);
    // What stays is found by the next command for the id.
    let _removed = remove::finish(place, made);
}

/// Takes away the worktree of a start that was refused, unless somebody else took it into use meanwhile.
pub(crate) fn undo_unused(state: &StateDir, ready: &Ready) {
    if !ready.fresh || !ready.lock.try_exclusive() {
        return;
    }
    if claim::claims(state).iter().all(|claim| claim.beads != ready.made.beads) {
        undo(&ready.place, &ready.made);
    }
}

impl Ready {
    /// The text of its path, which was checked to be one.
    pub(crate) fn path(&self) -> PathBuf {
        self.place.path()
    }
}
