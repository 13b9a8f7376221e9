//! `task run`: the agents of a specification in their order, each as a job, and what the runner sees of them.
//!
//! Everything that is decided is written to `state.json` first; jobs have keys, so that going on after a kill starts none twice.
//! Must never: begin anything that the record does not say, or let two run one task.

use super::files::{Project, Task};
use super::seen;
use super::step::{self, Ground};
use super::{approve, document, identity, is_approved, refuse_findings};
use super::{command, papers};
use crate::Engine;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup;
use crate::permission;
use crate::worktree::{self, Wish};
use dx_jobdir::{claim, faults};
use dx_proc::clock;
use dx_protocol::{BeadsId, ProviderName, ReasonCode, TaskDocument, TaskState, TaskStatus, Timestamp};
use dx_workflow::hash;
use dx_workflow::task::{Next, Spec, next, number};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

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
    /// Say yes to a plan as it is now.
    pub yes: bool,
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
                if !request.yes {
                    return Err(EngineError::TaskUnapproved { task: task.id });
                }
                approve(&task, &files)?;
            }
            return self.run_plan(request, &project, &task, &files, units);
        }
        if spec.execution.is_empty() {
            let state = self.begin(&task, &identity(&files), None)?;
            let message = "`## Execution` names nobody, so nobody runs".to_owned();
            end(&task, state, TaskStatus::Blocked, Some(ReasonCode::ExecutionEmpty), message)?;
            return document(&task);
        }
        refuse_findings(&task, &files)?;
        if !request.own_worktree {
            self.refuse_here(&project, &task, &identity(&files))?;
        }
        let going_on = going_on(&task, &identity(&files), request.again)?;
        if going_on.as_ref().is_none_or(|state| state.status != TaskStatus::Done) {
            // Before anything is recorded: where no worktree can be made, nothing has begun.
            let place = self.place(request, &project, &task, going_on.as_ref())?;
            let state = match going_on {
                Some(state) => state,
                None => self.begin(&task, &identity(&files), None)?,
            };
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
            TaskStatus::Running => began_in(&state, project).is_some_and(|place| place != project.top),
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
        going_on: Option<&TaskState>,
    ) -> Result<PathBuf, EngineError> {
        if let Some(place) = going_on.and_then(|state| began_in(state, project)) {
            return Ok(place);
        }
        if !request.own_worktree {
            return Ok(project.top.clone());
        }
        let create = |name: String| {
            let beads: BeadsId = name.parse()?;
            let ready = worktree::create(&Wish {
                beads: &beads,
                repo: &project.top,
                base: None,
                branch: None,
                places: &self.places()?,
                sandbox: &self.sandbox_in(&project.top)?,
                progress: &|_| {},
                halt: None,
            })?;
            Ok(ready.path())
        };
        let name = format!("task-{}", task.id);
        match create(name.clone()) {
            // Another project, whose folder has the same name, has such a task, too.
            Err(EngineError::WorktreeTaken(_)) => {
                let own = hash(project.top.display().to_string().as_bytes());
                create(format!("{name}-{}", &own[..8]))
            }
            other => other,
        }
    }

    /// Begins a new attempt, the next one or this, when nothing of the one before is at work any more.
    pub(super) fn begin(
        &self,
        task: &Task,
        identity: &str,
        attempt: Option<u32>,
    ) -> Result<TaskState, EngineError> {
        if let Some(before) = task.state()? {
            self.end_attempt(&before)?;
        }
        begun(task, identity, attempt)
    }

    /// Ends the jobs that an attempt left at work, and waits for their end: they would write where the next one works.
    pub(super) fn end_attempt(&self, attempt: &TaskState) -> Result<(), EngineError> {
        let Some(state) = self.state_for_reading()? else { return Ok(()) };
        let mark = step::mark(attempt);
        for claim in claim::claims(&state) {
            // One that cannot be read has ended meanwhile, or is none of ours.
            let Ok(found) = lookup::read_run(&state, &claim.path, true) else { continue };
            let key = found.run.created.spec.idempotency_key.as_deref();
            if !key.is_some_and(|key| key.ends_with(&mark)) {
                continue;
            }
            self.progress(&format!("ends {}, which an earlier attempt left at work", claim.beads));
            let job = JobName { beads: claim.beads.clone(), provider: Some(claim.provider.clone()) };
            match self.stop(&job, None) {
                Err(error) if claim.path.exists() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where a run goes on: where its first step was, whether that is still there or not, or in the worktree that was made for it.
fn began_in(state: &TaskState, project: &Project) -> Option<PathBuf> {
    let place = PathBuf::from(&state.worktree);
    let is_made = place != project.top && place.is_dir();
    (!state.steps.is_empty() || is_made).then_some(place)
}

/// One specification, from where it stands to its end.
pub(super) fn run_steps(ground: &Ground<'_>, mut state: TaskState) -> Result<TaskState, EngineError> {
    let Ground { engine, project, task, place, .. } = *ground;
    let spec = Spec::parse(ground.spec);
    if seen::is_lost(ground, &state)? {
        let message = format!(
            "{} is gone, or another worktree stands there: what its steps made is not in it",
            state.worktree
        );
        return end(task, state, TaskStatus::Failed, Some(ReasonCode::TaskWorktreeLost), message);
    }
    state.worktree = place.display().to_string();
    task.put_state(&state)?;
    faults::step("task.begun");
    papers::bring(project, task, place)?;
    let commands: Vec<String> = spec.test_commands.iter().map(|(_, command)| command.clone()).collect();
    loop {
        match next(&spec.execution, &commands, &state) {
            Next::Step { agent, round } => {
                engine.progress(&format!("{}: {agent}, round {round}", task.id));
                step::turn(ground, &mut state, &agent, round)?;
            }
            Next::Command { index, round } => {
                let Some(command) = commands.get(index) else { return Ok(state) };
                command::run(ground, &mut state, command, index, round)?;
            }
            Next::End { status, reason, message } => {
                return end(task, state, status, reason, message);
            }
        }
    }
}

/// The run that goes on: the one that is there, when it is of this specification. `None`: a new attempt begins.
pub(super) fn going_on(task: &Task, identity: &str, again: bool) -> Result<Option<TaskState>, EngineError> {
    let state = task.state()?;
    let same = state.as_ref().is_some_and(|state| state.spec_sha256 == identity);
    match state {
        Some(state) if same && matches!(state.status, TaskStatus::Running | TaskStatus::Done) => {
            Ok(Some(state))
        }
        Some(state) if same && !again && state.attempt > 0 && state.status != TaskStatus::Planned => {
            Err(EngineError::TaskEnded {
                task: task.id.clone(),
                status: state.status,
                message: state.message,
            })
        }
        _ => Ok(None),
    }
}

/// A new attempt, the next one or this; an approval stays, and so do the reports of the one before, under other names.
fn begun(task: &Task, identity: &str, attempt: Option<u32>) -> Result<TaskState, EngineError> {
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

/// The beginning of all ids of a task's jobs: projects number theirs alike, and may share a state directory.
pub(super) fn job_prefix(project: &Project, task: &Task, state: &TaskState) -> String {
    let (whole, unit) = task.id.split_once('/').unwrap_or((&task.id, ""));
    let unit = unit.split('-').next().filter(|unit| !unit.is_empty()).map(|unit| format!(".{unit}"));
    let number = number(whole).unwrap_or_default();
    let own = hash(project.top.as_os_str().as_encoded_bytes());
    format!("task-{}-{number}{}-{}", &own[..6], unit.unwrap_or_default(), state.attempt)
}
