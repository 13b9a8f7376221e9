//! What a run's agent is confined to: from what was asked, what the kernel can, and where things are on this machine.
//!
//! Called by `start`; the result goes into the record and, as rules, into the launch plan. Every path is resolved here, and
//! the launcher takes no link on its way to it: nothing that an earlier agent left can lead a rule elsewhere. Must never
//! make anything for a dry run.

mod places;
mod repository;

use crate::api::StartRequest;
use crate::error::EngineError;
use crate::git::Repository;
use crate::providers::StatePath;
use crate::settings::{Layers, SANDBOX_CACHES, SANDBOX_HIDE};
use dx_proc::sandbox::{Abi, DEVICES, Rules};
use dx_protocol::{Confinement, Sandbox, SandboxMode, SandboxSpec};
use rustix::fs::{CWD, Mode, OFlags};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A folder like any other.
const SHARED_MEMORY: &str = "/dev/shm";
/// Why there is no sandbox for jobs of a server's lanes.
const SHARED: &str = "shared_server";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    mode: Option<SandboxMode>,
    write: Vec<PathBuf>,
    /// In the place of the built-in lists.
    caches: Option<Vec<PathBuf>>,
    hidden: Option<Vec<PathBuf>>,
    /// The worktree and its repository are not to be written.
    read_only: bool,
}

impl Asked {
    /// From words of the configuration; any other mode than strict and off is strict where the kernel can.
    pub(crate) fn configured(
        mode: Option<SandboxMode>,
        write: Vec<PathBuf>,
        settings: &Layers,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            mode,
            write,
            caches: settings.paths_if_said(&SANDBOX_CACHES)?,
            hidden: settings.paths_if_said(&SANDBOX_HIDE)?,
            read_only: false,
        })
    }

    /// From the request, in which configuration left nothing open.
    pub(crate) fn of(request: &StartRequest, settings: &Layers) -> Result<Self, EngineError> {
        let write = request.sandbox_write.clone().unwrap_or_default();
        Self::configured(request.sandbox, write, settings)
    }

    /// So that the worktree is only read.
    pub(crate) fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }

    /// With one more place that may be written.
    pub(crate) fn also(mut self, place: Option<&Path>) -> Self {
        self.write.extend(place.map(Path::to_owned));
        self
    }

    /// For the record.
    pub(crate) fn spec(&self) -> SandboxSpec {
        SandboxSpec { mode: self.mode, write: texts(&self.write) }
    }
}

/// What decides about a sandbox.
pub(crate) struct Wanted<'a> {
    pub(crate) asked: &'a Asked,
    /// The provider's name: its own credentials are not hidden from it.
    pub(crate) provider: &'a str,
    /// Resolved.
    pub(crate) worktree: &'a Path,
    pub(crate) repository: Option<&'a Repository>,
    /// The run's own folder for temporary files; need not exist yet.
    pub(crate) tmp: &'a Path,
    /// What the provider says that it must be able to change.
    pub(crate) state: &'a [StatePath],
    /// The agent's environment, which tells where its caches are.
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) dry: bool,
    /// The tools run in a server that others use, too: nothing can hold them.
    pub(crate) shared: bool,
}

/// What was decided.
#[derive(Debug)]
pub(crate) struct Confined {
    pub(crate) record: Sandbox,
    /// `None`: the agent is not confined.
    pub(crate) rules: Option<Rules>,
}

impl Confined {
    fn not(mode: Confinement, reason: &str) -> Self {
        Self { record: Sandbox::none(mode, reason), rules: None }
    }
}

/// Whether a job that asks so will be confined, if it is started at all.
pub(crate) fn confines(asked: &Asked) -> bool {
    match asked.mode {
        Some(SandboxMode::Off) => false,
        Some(SandboxMode::Strict) => true,
        None => Abi::of_kernel().is_ok(),
    }
}

/// Decides. Fails with [`EngineError::SandboxUnavailable`] when strict was asked for and cannot be had, and when a list
/// in the environment is wrong.
pub(crate) fn resolve(wanted: &Wanted<'_>) -> Result<Confined, EngineError> {
    if wanted.asked.mode == Some(SandboxMode::Off) {
        return Ok(Confined::not(Confinement::Off, "asked"));
    }
    if wanted.shared && (wanted.asked.mode == Some(SandboxMode::Strict) || wanted.asked.read_only) {
        return Err(EngineError::SandboxUnavailable(sentence(SHARED)));
    }
    let abi = match Abi::of_kernel() {
        Ok(abi) => abi,
        Err(_) if wanted.shared => return Ok(Confined::not(Confinement::None, SHARED)),
        Err(error) => {
            let reason = why_not(&error);
            return if wanted.asked.mode == Some(SandboxMode::Strict) {
                Err(EngineError::SandboxUnavailable(sentence(reason)))
            } else {
                Ok(Confined::not(Confinement::None, reason))
            };
        }
    };
    // A kernel's rule takes nothing away from another one: what holds the worktree is left out as a whole.
    let shared = wanted.repository.map(|repository| repository.common_dir.as_path());
    let guarded = [Some(wanted.worktree), shared].into_iter().flatten().filter(|_| wanted.asked.read_only);
    let mut trees = Trees { guarded: guarded.filter_map(real).collect(), places: Vec::new() };
    let git = if wanted.asked.read_only {
        repository::Git::default()
    } else {
        trees.add(wanted.worktree);
        repository::trees(wanted.repository, wanted.worktree, wanted.dry)
    };
    for path in &git.trees {
        // Already resolved, all but the last name, which must be no link.
        trees.add_resolved(path.clone());
    }
    trees.add(wanted.tmp);
    for place in wanted.state {
        let path = match place {
            StatePath::Folder(path) | StatePath::JsonFile(path) => path,
        };
        if !wanted.dry {
            match place {
                StatePath::Folder(path) => make(path),
                StatePath::JsonFile(path) => make_json(path),
            }
        }
        trees.add(path);
    }
    let caches = wanted
        .asked
        .caches
        .clone()
        .unwrap_or_else(|| places::caches(wanted.env, wanted.worktree, wanted.dry));
    for place in &caches {
        trees.add(place);
    }
    for place in &wanted.asked.write {
        trees.add(place);
    }
    trees.add(Path::new(SHARED_MEMORY));
    let trees = trees.places;
    // What may be written may be read.
    let hidden = wanted.asked.hidden.clone().unwrap_or_else(|| places::hidden(wanted.env, wanted.provider));
    let hidden: Vec<PathBuf> = hidden
        .iter()
        .filter_map(|path| real(path))
        .filter(|path| !trees.iter().any(|tree| path.starts_with(tree) || tree.starts_with(path)))
        .collect();
    let (writable, hidden_texts) = (texts(&trees), texts(&hidden));
    if wanted.shared {
        // The server's tools are out of reach. The check is a child of our monitor, which makes its sandbox from these.
        let none = Sandbox::none(Confinement::None, SHARED);
        let record = Sandbox { abi: abi.0, writable, hidden: hidden_texts, ..none };
        return Ok(Confined { record, rules: None });
    }
    let record = Sandbox {
        mode: Confinement::Strict,
        abi: abi.0,
        reason: "-".to_owned(),
        limits: git.limit.into_iter().chain(missing(abi)).map(str::to_owned).collect(),
        writable,
        hidden: hidden_texts,
    };
    let devices = DEVICES.iter().filter_map(|device| real(Path::new(device))).collect();
    Ok(Confined { record, rules: Some(Rules { trees, devices, appended: Vec::new(), hidden }) })
}

/// What a caller should hear of a sandbox.
pub(crate) fn warnings(sandbox: &Sandbox) -> Vec<String> {
    match sandbox.mode {
        Confinement::None => {
            vec![format!("no sandbox: {}; the agent has all rights of its user", sentence(&sandbox.reason))]
        }
        Confinement::Strict | Confinement::Off => Vec::new(),
    }
}

/// What this kernel offers, for `doctor`: the version, or why there is none.
pub(crate) fn of_kernel() -> Result<(u32, Vec<&'static str>), &'static str> {
    match Abi::of_kernel() {
        Ok(abi) => Ok((abi.0, missing(abi))),
        Err(error) => Err(sentence(why_not(&error))),
    }
}

fn why_not(error: &dx_proc::Error) -> &'static str {
    let errno = error.errno().map(rustix::io::Errno::from_raw_os_error);
    match errno {
        Some(rustix::io::Errno::NOSYS) => "no_landlock",
        Some(rustix::io::Errno::OPNOTSUPP) => "landlock_off",
        _ => "landlock_refused",
    }
}

fn sentence(reason: &str) -> &'static str {
    match reason {
        SHARED => "the job's tools run in an OpenCode server that others use, too",
        "no_landlock" => "the kernel has no Landlock, or a filter hides it",
        "landlock_off" => "Landlock is not among the security modules that this kernel was started with",
        _ => "the kernel refuses to use Landlock",
    }
}

/// What an older kernel cannot refuse, or refuses too much.
fn missing(abi: Abi) -> Vec<&'static str> {
    let all = [
        (abi.has_refer(), "rename_refused"),
        (abi.has_truncate(), "truncate_open"),
        (abi.has_ioctl(), "ioctl_open"),
        (abi.has_scopes(), "signals_open"),
    ];
    all.into_iter().filter(|(has, _)| !has).map(|(_, word)| word).collect()
}

/// Resolved places, none below another.
#[derive(Debug, Default)]
struct Trees {
    places: Vec<PathBuf>,
    /// Nothing that holds one of these, or is in one, is taken.
    guarded: Vec<PathBuf>,
}

impl Trees {
    /// Takes a place that need not exist yet, if the folder that it shall be in does.
    fn add(&mut self, path: &Path) {
        if let Some(path) = real_or_to_be(path) {
            self.add_resolved(path);
        }
    }

    fn add_resolved(&mut self, path: PathBuf) {
        // All of the file system is what `--sandbox off` is for.
        let taken = path == Path::new("/") || self.places.iter().any(|tree| path.starts_with(tree));
        if taken || self.guarded.iter().any(|place| place.starts_with(&path) || path.starts_with(place)) {
            return;
        }
        self.places.retain(|tree| !tree.starts_with(&path));
        self.places.push(path);
    }
}

/// A folder that its user cannot make later, as the folder around it is not writable. That it cannot be made shows when
/// the agent misses it.
fn make(folder: &Path) {
    let _made = std::fs::create_dir_all(folder);
}

/// Makes a file with nothing in it, for what may only be written when it is there; private, as its owner would.
fn make_json(path: &Path) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let _made = file.and_then(|mut file| file.write_all(b"{}\n"));
}

/// The path without links; `None` when there is nothing.
fn real(path: &Path) -> Option<PathBuf> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let target = rustix::fs::readlinkat(CWD, link, Vec::new()).ok()?;
    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
    target.is_absolute().then_some(target)
}

fn real_or_to_be(path: &Path) -> Option<PathBuf> {
    real(path).or_else(|| Some(real(path.parent()?)?.join(path.file_name()?)))
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// The value of a variable of the agent's.
fn variable<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a OsStr> {
    env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_resolved_and_none_lies_below_another() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), root.join("link")).unwrap();
        let mut trees = Trees::default();
        for path in ["a/b", "link/to-be", "link", "none/at/all", "a/../a/b"] {
            trees.add(&root.join(path));
        }
        trees.add(Path::new("/"));
        assert_eq!(trees.places, [root.join("a")]);
    }
}
