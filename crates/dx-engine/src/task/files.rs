//! The folders of tasks in a project: found, read, made.
//!
//! Must never: follow a link out of the project, or read without a bound.

use crate::error::{EngineError, told};
use crate::git::Repository;
use crate::worktree::lock::Lock;
use dx_protocol::{PackFinding, TaskState, TaskStatus};
use dx_workflow::task::{ReportKind, SPEC, TaskFiles, UnitFiles, number, slug};
use std::fs;
use std::path::{Path, PathBuf};

/// Below the project.
pub(super) const TASKS: &str = ".ai/tasks";
const STATE: &str = "state.json";
const STATE_SCHEMA: &str = "dx-runner/task-state/1";
/// In the names of reports of earlier attempts.
const EARLIER: &str = "-report.attempt-";
/// No document is larger.
const MAX_BYTES: u64 = 1 << 20;
const MAX_STATE_BYTES: u64 = 16 << 20;

/// A project.
#[derive(Debug, Clone)]
pub(super) struct Project {
    /// The top of the repository that we are in, else the current directory.
    pub(super) top: PathBuf,
}

/// One task's folder.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// `001-slug`.
    pub(super) id: String,
    pub(super) folder: PathBuf,
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |source| EngineError::Io { what, source }
}

/// The text of a plain file; `None` when there is none.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = dx_jobdir::read_bounded(path, MAX_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this is a folder and no link to one.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

fn folders(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let named =
        entries.filter(|entry| is_folder(&entry.path())).filter_map(|e| e.file_name().into_string().ok());
    let mut names: Vec<String> = named.collect();
    names.sort();
    names
}

impl Project {
    pub(super) fn here() -> Result<Self, EngineError> {
        let here = std::env::current_dir().map_err(io("read the current directory"))?;
        Ok(Self { top: Repository::find(&here).map_or(here, |repository| repository.work_tree) })
    }

    pub(super) fn context(&self) -> Option<String> {
        text(&self.top.join(".ai/context.md"))
    }

    pub(super) fn task(&self, id: &str) -> Task {
        Task { id: id.to_owned(), folder: self.top.join(TASKS).join(id) }
    }

    /// All tasks by number.
    pub(super) fn all(&self) -> Vec<Task> {
        let mut ids: Vec<(u32, String)> =
            folders(&self.top.join(TASKS)).into_iter().filter_map(|id| Some((number(&id)?, id))).collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| self.task(&id)).collect()
    }

    /// By its name, or by its number.
    pub(super) fn find(&self, word: &str) -> Result<Task, EngineError> {
        let all = self.all();
        let word = word.trim_end_matches('/').rsplit('/').next().unwrap_or(word);
        if let Some(task) = all.iter().find(|task| task.id == word) {
            return Ok(task.clone());
        }
        if let Ok(wanted) = word.parse::<u32>() {
            let hits: Vec<&Task> = all.iter().filter(|task| number(&task.id) == Some(wanted)).collect();
            match hits.as_slice() {
                [] => {}
                [task] => return Ok((*task).clone()),
                several => {
                    let ids = several.iter().map(|task| task.id.clone()).collect();
                    return Err(EngineError::TaskAmbiguous { number: wanted, ids });
                }
            }
        }
        let near = |task: &&Task| task.id.contains(word) || strsim::jaro_winkler(&task.id, word) > 0.8;
        let near = all.iter().filter(near).take(3).map(|task| task.id.clone()).collect();
        Err(EngineError::NoTask { task: word.to_owned(), near })
    }

    /// Makes the folder of a new task. Under a lock: two tasks with different names would both get the same number.
    pub(super) fn make(&self, title: &str) -> Result<Task, EngineError> {
        let slug = slug(title);
        if slug.is_empty() {
            let message = format!("`{title}` has no letter or digit that a folder's name could be made of");
            return Err(EngineError::Argument(message));
        }
        let tasks = self.top.join(TASKS);
        fs::create_dir_all(&tasks).map_err(io("make .ai/tasks"))?;
        let _lock = Lock::existing(&tasks)?;
        let last = self.all().iter().filter_map(|task| number(&task.id)).max().unwrap_or(0);
        for next in (last..=u32::MAX).skip(1) {
            let task = self.task(&format!("{next:03}-{slug}"));
            match fs::create_dir(&task.folder) {
                // Somebody makes folders by hand.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                other => return other.map(|()| task).map_err(io("make the task's folder")),
            }
        }
        Err(EngineError::Argument("there are too many tasks".to_owned()))
    }
}

impl Task {
    /// A path for people and agents, below the project.
    pub(super) fn path(&self, name: &str) -> String {
        let path = format!("{TASKS}/{}", self.id);
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }

    /// Other tasks with its number: folders that were made by hand, or on two branches.
    pub(super) fn namesakes(&self) -> Vec<String> {
        let all = self.folder.parent().map(folders).unwrap_or_default();
        let own = number(&self.id);
        all.into_iter().filter(|id| *id != self.id && own.is_some() && number(id) == own).collect()
    }

    /// Gives reports of an attempt that is over names of their own, so that a new one neither loses them nor takes them for its.
    pub(super) fn put_reports_aside(&self, attempt: u32) -> Result<(), EngineError> {
        for kind in ReportKind::ALL {
            let (path, stem) = (self.folder.join(kind.file()), kind.file().trim_end_matches("-report.md"));
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            let name = |n: u32| match n {
                0 => format!("{stem}{EARLIER}{attempt}.md"),
                n => format!("{stem}{EARLIER}{attempt}-{n}.md"),
            };
            let mut names = (0..).map(|n| self.folder.join(name(n)));
            let free = names.find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_default();
            fs::rename(&path, free).map_err(io("keep a report of an earlier attempt"))?;
        }
        Ok(())
    }

    /// Reports of attempts that are over, below the task's folder.
    pub(super) fn earlier_reports(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in std::iter::once(String::new()).chain(folders(&self.folder).into_iter().map(|f| f + "/"))
        {
            let entries = fs::read_dir(self.folder.join(&folder)).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            found.extend(
                names.filter(|name| name.contains(EARLIER)).map(|name| self.path(&format!("{folder}{name}"))),
            );
        }
        found.sort();
        found
    }

    fn unit_files(folder: &Path, name: &str) -> UnitFiles {
        let report = |kind: ReportKind| Some((kind, text(&folder.join(kind.file()))?));
        UnitFiles {
            folder: name.to_owned(),
            spec: text(&folder.join(SPEC)),
            reports: ReportKind::ALL.into_iter().filter_map(report).collect(),
        }
    }

    pub(super) fn files(&self) -> TaskFiles {
        let units =
            folders(&self.folder).into_iter().map(|name| Self::unit_files(&self.folder.join(&name), &name));
        TaskFiles { own: Self::unit_files(&self.folder, &self.id), units: units.collect() }
    }

    /// Records of the runner, its own and those of its units, that cannot be read.
    pub(super) fn unreadable_states(&self) -> Vec<PackFinding> {
        let own = std::iter::once((self.id.clone(), self.folder.clone()));
        let units = folders(&self.folder)
            .into_iter()
            .map(|name| (format!("{}/{name}", self.id), self.folder.join(name)));
        let broken = |(id, folder): (String, PathBuf)| {
            let error = read_state(&folder.join(STATE)).err()?;
            Some(PackFinding {
                file: format!("{id}/{STATE}"),
                line: 1,
                rule: "state".to_owned(),
                message: told(&error),
                fix: "bring it back as the runner wrote it, or remove it: then the task begins anew"
                    .to_owned(),
            })
        };
        own.chain(units).filter_map(broken).collect()
    }

    /// What the runner saw; `None` when it never ran.
    pub(super) fn state(&self) -> Result<Option<TaskState>, EngineError> {
        read_state(&self.folder.join(STATE))
    }

    pub(super) fn state_path(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// Writes it whole or not at all.
    pub(super) fn put_state(&self, state: &TaskState) -> Result<(), EngineError> {
        let mut bytes =
            serde_json::to_vec_pretty(state).map_err(|source| io("write the task's state")(source.into()))?;
        bytes.push(b'\n');
        Ok(dx_jobdir::disk::replace_synced(&self.state_path(), &bytes)?)
    }

    /// A state in which nothing has happened.
    pub(super) fn new_state(&self) -> TaskState {
        TaskState {
            schema: STATE_SCHEMA.to_owned(),
            task: self.id.clone(),
            status: TaskStatus::Planned,
            spec_sha256: String::new(),
            attempt: 0,
            approved: None,
            worktree: String::new(),
            wave: None,
            branch: None,
            commit: None,
            steps: Vec::new(),
            commands: Vec::new(),
            reason_code: None,
            message: String::new(),
            started_at: None,
            ended_at: None,
        }
    }
}

fn read_state(path: &Path) -> Result<Option<TaskState>, EngineError> {
    let broken = |why: String, newer| EngineError::PackRecord { path: path.to_owned(), why, newer };
    let bytes = match dx_jobdir::read_bounded(path, MAX_STATE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(format!("cannot be read: {error}"), false)),
    };
    let state: TaskState =
        serde_json::from_slice(&bytes).map_err(|error| broken(format!("is damaged: {error}"), false))?;
    if state.schema == STATE_SCHEMA {
        return Ok(Some(state));
    }
    Err(broken(format!("has the schema `{}`, and this program knows `{STATE_SCHEMA}`", state.schema), true))
}
