//! `task run`: the agents of a specification in their order, each as a job, and what the runner sees of them.
//!
//! Everything that is decided is written to `state.json` first; jobs have keys, so that going on after a kill starts none twice.
//! Must never: begin anything that the record does not say, or let two run one task.

use super::files::{Project, Task};
use super::step::{self, Ground};
use super::{document, identity, is_approved, refuse_findings};
use crate::Engine;
use crate::error::EngineError;
use crate::permission;
use crate::worktree::{self, Wish};
use dx_jobdir::faults;
use dx_proc::clock;
use dx_protocol::{BeadsId, ProviderName, ReasonCode, TaskDocument, TaskState, TaskStatus, Timestamp};
use dx_workflow::task::{Next, Spec, next, number};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// `task run`.
#[derive(Debug, Clone)]
pub struct TaskRunRequest {
    /// Number or name.
    pub task: String,
    pub provider: ProviderName,
    /// Work in a worktree of its own instead of here.
    pub own_worktree: bool,
    /// For all agents.
    pub model: Option<String>,
    /// For one agent.
    pub models: BTreeMap<String, String>,
    pub allow_model_override: bool,
    /// Begin anew after a run that failed.
    pub again: bool,
}

impl Engine {
    /// Carries out a task; returns when it has ended, or cannot go on.
    pub fn task_run(&self, request: &TaskRunRequest) -> Result<TaskDocument, EngineError> {
        crate::start::refuse_nested()?;
        let project = Project::here()?;
        let task = project.find(&request.task)?;
        let _lock = lock(&task)?;
        let files = task.files();
        let Some(text) = files.own.spec.clone() else {
            return Err(EngineError::TaskUnplanned { task: task.id });
        };
        let spec = Spec::parse(&text);
        if let Some(units) = &spec.units {
            refuse_findings(&task, &files)?;
            if !is_approved(&task, &files)? {
                return Err(EngineError::TaskUnapproved { task: task.id });
            }
            return self.run_plan(request, &project, &task, &files, units);
        }
        if spec.execution.is_empty() {
            let state = begun(&task, &identity(&files), None)?;
            let message = "`## Execution` names nobody, so nobody runs".to_owned();
            end(&task, state, TaskStatus::Blocked, Some(ReasonCode::ExecutionEmpty), message)?;
            return document(&task);
        }
        refuse_findings(&task, &files)?;
        if !request.own_worktree {
            self.refuse_here(&project, &task, &identity(&files))?;
        }
        let state = resumed(&task, &identity(&files), request.again)?;
        if state.status != TaskStatus::Done {
            let place = self.place(request, &project, &task, &state)?;
            let (spec, halt) = (text.as_str(), None);
            let ground =
                Ground { engine: self, request, project: &project, task: &task, spec, place: &place, halt };
            run_steps(&ground, state)?;
        }
        document(&task)
    }

    /// Refuses a run in the checkout itself where no job may work, before anything is written.
    fn refuse_here(&self, project: &Project, task: &Task, identity: &str) -> Result<(), EngineError> {
        let state = task.state()?.filter(|state| state.spec_sha256 == identity);
        let goes_on = |state: TaskState| match state.status {
            TaskStatus::Running => is_elsewhere(&state, project),
            status => status == TaskStatus::Done,
        };
        if state.is_some_and(goes_on) {
            return Ok(());
        }
        let denied = |why| EngineError::TaskPlace { task: task.id.clone(), why: Box::new(why) };
        permission::check(&project.top, self.state()?.root(), &self.places()?).map(drop).map_err(denied)
    }

    /// Where the agents work: a run goes on where it began.
    fn place(
        &self,
        request: &TaskRunRequest,
        project: &Project,
        task: &Task,
        state: &TaskState,
    ) -> Result<PathBuf, EngineError> {
        if is_elsewhere(state, project) {
            return Ok(state.worktree.clone().into());
        }
        if !request.own_worktree {
            return Ok(project.top.clone());
        }
        let beads: BeadsId = format!("task-{}", task.id).parse()?;
        let ready = worktree::create(&Wish {
            beads: &beads,
            repo: &project.top,
            base: None,
            branch: None,
            places: &self.places()?,
            sandbox: &self.sandbox_in(&project.top)?,
            progress: &|_| {},
        })?;
        Ok(ready.path())
    }
}

/// Whether a run began in a worktree of its own that is still there.
fn is_elsewhere(state: &TaskState, project: &Project) -> bool {
    let place = Path::new(&state.worktree);
    place.is_dir() && place != project.top
}

/// One specification, from where it stands to its end.
pub(super) fn run_steps(ground: &Ground<'_>, mut state: TaskState) -> Result<TaskState, EngineError> {
    let Ground { engine, project, task, place, .. } = *ground;
    let spec = Spec::parse(ground.spec);
    state.worktree = place.display().to_string();
    task.put_state(&state)?;
    faults::step("task.begun");
    step::bring(project, task, place)?;
    let commands: Vec<String> = spec.test_commands.iter().map(|(_, command)| command.clone()).collect();
    loop {
        match next(&spec.execution, &commands, &state) {
            Next::Step { agent, round } => {
                engine.progress(&format!("{}: {agent}, round {round}", task.id));
                step::turn(ground, &mut state, &agent, round)?;
            }
            Next::Command { index, round } => {
                let Some(command) = commands.get(index) else { return Ok(state) };
                step::command(ground, &mut state, command, index, round)?;
            }
            Next::End { status, reason, message } => {
                return end(task, state, status, reason, message);
            }
        }
    }
}

/// The state of a run that has begun: the one that is there, when it is of this specification.
pub(super) fn resumed(task: &Task, identity: &str, again: bool) -> Result<TaskState, EngineError> {
    let state = task.state()?;
    let same = state.as_ref().is_some_and(|state| state.spec_sha256 == identity);
    match state {
        Some(state) if same && matches!(state.status, TaskStatus::Running | TaskStatus::Done) => Ok(state),
        Some(state) if same && !again && state.attempt > 0 && state.status != TaskStatus::Planned => {
            Err(EngineError::TaskEnded {
                task: task.id.clone(),
                status: state.status,
                message: state.message,
            })
        }
        _ => begun(task, identity, None),
    }
}

/// A new attempt, the next one or this; an approval stays, and so do the reports of the one before, under other names.
pub(super) fn begun(task: &Task, identity: &str, attempt: Option<u32>) -> Result<TaskState, EngineError> {
    let before = task.state()?;
    task.put_reports_aside(before.as_ref().map_or(0, |state| state.attempt))?;
    let next = || before.as_ref().map_or(0, |state| state.attempt) + 1;
    let attempt = attempt.unwrap_or_else(next);
    let state = TaskState {
        status: TaskStatus::Running,
        spec_sha256: identity.to_owned(),
        attempt,
        approved: before.and_then(|state| state.approved),
        started_at: Some(Timestamp(clock::now_ms())),
        ..task.new_state()
    };
    task.put_state(&state)?;
    Ok(state)
}

pub(super) fn end(
    task: &Task,
    state: TaskState,
    status: TaskStatus,
    reason_code: Option<ReasonCode>,
    message: String,
) -> Result<TaskState, EngineError> {
    let ended_at = Some(Timestamp(clock::now_ms()));
    let state = TaskState { status, reason_code, message, ended_at, ..state };
    task.put_state(&state)?;
    faults::step("task.ended");
    Ok(state)
}

/// Only one runs a task; the lock is its folder and goes with the process.
fn lock(task: &Task) -> Result<OwnedFd, EngineError> {
    let io = |source: rustix::io::Errno| EngineError::Io { what: "lock the task", source: source.into() };
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&task.folder, flags, Mode::empty()).map_err(io)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(EngineError::TaskRunning { task: task.id.clone() }),
        Err(error) => Err(io(error)),
    }
}

/// The beginning of all ids of a task's jobs.
pub(super) fn job_prefix(task: &Task, state: &TaskState) -> String {
    let (whole, unit) = task.id.split_once('/').unwrap_or((&task.id, ""));
    let unit = unit.split('-').next().filter(|unit| !unit.is_empty()).map(|unit| format!(".{unit}"));
    let number = number(whole).unwrap_or_default();
    format!("task-{number}{}-{}", unit.unwrap_or_default(), state.attempt)
}
