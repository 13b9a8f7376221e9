//! A plan of several units: a wave, each item of which is a unit with its agents and tests in a worktree of its own.
//!
//! Order, what runs at once, bases and merging are the wave's; a unit's steps are `run`'s and `step`'s. Must never: begin a unit
//! with another specification than the approved one, or take over work that does not contain what it needs.

use super::files::{Project, Task};
use super::run::{TaskRunRequest, end, going_on, job_prefix, run_steps};
use super::step::Ground;
use super::{document, identity};
use crate::Engine;
use crate::error::EngineError;
use crate::git::{Call, Repository};
use crate::halt::Halt;
use crate::wave::conflict_text;
use crate::worktree;
use dx_core::wave::{Item, Wave};
use dx_jobdir::faults;
use dx_protocol::{
    BeadsId, ItemState, ProviderName, ReasonCode, TaskDocument, TaskState, TaskStatus, WaveItem, WavePlan,
    WaveUnit,
};
use dx_workflow::hash;
use dx_workflow::task::{TaskFiles, Unit, waits};
use std::path::Path;

/// So many units are at work at once.
const MAX_PARALLEL: u32 = 4;

/// A unit's turn in its wave.
pub(crate) struct UnitTurn<'a> {
    pub(crate) repo: &'a Path,
    pub(crate) unit: &'a WaveUnit,
    pub(crate) provider: &'a ProviderName,
    pub(crate) model: Option<&'a str>,
    /// Its worktree.
    pub(crate) place: &'a Path,
    pub(crate) halt: Halt<'a>,
}

impl Engine {
    /// Carries out an approved plan, from where it stands to its end.
    pub(super) fn run_plan(
        &self,
        request: &TaskRunRequest,
        project: &Project,
        task: &Task,
        files: &TaskFiles,
        units: &[Unit],
    ) -> Result<TaskDocument, EngineError> {
        let state = match going_on(task, &identity(files), request.again)? {
            Some(state) => state,
            None => self.begin_plan(project, task, files)?,
        };
        if state.status == TaskStatus::Done {
            return document(task);
        }
        faults::step("task.begun");
        let plan = wave_plan(request, project, task, files, units, &state)?;
        let wave = match self.carry_out(&plan) {
            Err(EngineError::WaveRunning { .. }) => {
                return Err(EngineError::TaskRunning { task: task.id.clone() });
            }
            wave => wave?,
        };
        settle(task, state, &wave)?;
        document(task)
    }

    /// Begins a new attempt, when nothing of the one before is at work any more, also in units that are not in the plan now.
    fn begin_plan(
        &self,
        project: &Project,
        task: &Task,
        files: &TaskFiles,
    ) -> Result<TaskState, EngineError> {
        for unit in &files.units {
            let unit = project.task(&format!("{}/{}", task.id, unit.folder));
            if let Some(before) = unit.state()? {
                self.end_attempt(&before)?;
            }
        }
        self.begin(task, &identity(files), None)
    }

    /// A unit from where it stands to its end.
    pub(crate) fn unit_run(&self, turn: &UnitTurn<'_>) -> Result<TaskState, EngineError> {
        let UnitTurn { repo, unit, place, halt, .. } = *turn;
        let (project, task) = unit_of(repo, unit);
        let files = task.files();
        let text = files.own.spec.clone().unwrap_or_default();
        if identity(&files) != unit.spec_sha256 {
            return Err(EngineError::TaskUnapproved { task: task.id });
        }
        let is_this =
            |state: &TaskState| state.attempt == unit.attempt && state.spec_sha256 == unit.spec_sha256;
        let state = match task.state()?.filter(is_this) {
            Some(state) => state,
            None => self.begin(&task, &unit.spec_sha256, Some(unit.attempt))?,
        };
        let request = TaskRunRequest {
            task: task.id.clone(),
            provider: turn.provider.clone(),
            own_worktree: true,
            model: turn.model.map(str::to_owned),
            models: unit.models.clone(),
            allow_model_override: unit.allow_model_override,
            again: false,
            yes: false,
        };
        let halt = Some(halt);
        let (engine, request) = (self, &request);
        run_steps(
            &Ground { engine, request, project: &project, task: &task, spec: &text, place, halt },
            state,
        )
    }
}

/// Notes the commit with a unit's work, for an attempt at the plan that keeps it.
pub(crate) fn unit_recorded(
    repo: &Path,
    unit: &WaveUnit,
    state: TaskState,
    commit: &str,
) -> Result<(), EngineError> {
    let (_, task) = unit_of(repo, unit);
    task.put_state(&TaskState { commit: Some(commit.to_owned()), ..state })?;
    faults::step("task.unit_recorded");
    Ok(())
}

fn unit_of(repo: &Path, unit: &WaveUnit) -> (Project, Task) {
    let project = Project { top: repo.to_owned() };
    let task = project.task(&unit.task);
    (project, task)
}

/// The wave of an attempt at a plan. Its name tells it from every other one, so that it is found again after a kill.
fn wave_plan(
    request: &TaskRunRequest,
    project: &Project,
    task: &Task,
    files: &TaskFiles,
    units: &[Unit],
    state: &TaskState,
) -> Result<WavePlan, EngineError> {
    let repo = worktree::utf8(&project.top)?;
    let main = worktree::repository(&project.top)?;
    let began = state.started_at.map_or(0, |at| at.0);
    let unique = hash(format!("{repo} {} {} {began}", task.id, state.attempt).as_bytes());
    let mut items: Vec<WaveItem> = Vec::new();
    // As the ids of its jobs begin.
    let id = |unit: &Unit| -> Result<BeadsId, EngineError> {
        Ok(job_prefix(project, &project.task(&format!("{}/{}", task.id, unit.folder())), state).parse()?)
    };
    for (unit, waits) in waits(units) {
        let folder = unit.folder();
        let spec = files.units.iter().find(|files| files.folder == folder);
        let spec = spec.and_then(|files| files.spec.as_deref()).unwrap_or_default();
        let needed = units.iter().filter(|unit| unit.number.is_some_and(|number| waits.contains(&number)));
        let needs = needed.map(id).collect::<Result<Vec<_>, _>>()?;
        let mut planned = WaveUnit {
            task: format!("{}/{folder}", task.id),
            spec_sha256: hash(spec.as_bytes()),
            attempt: state.attempt,
            commit: None,
            models: request.models.clone(),
            allow_model_override: request.allow_model_override,
        };
        let bases: Option<Vec<&str>> = needs.iter().map(|need| kept_commit(&items, need)).collect();
        planned.commit = match bases {
            Some(bases) => kept(project, &main, &planned, &bases)?,
            None => None,
        };
        items.push(WaveItem {
            id: id(unit)?,
            needs,
            providers: vec![request.provider.clone()],
            model: request.model.clone(),
            profile: None,
            command: Vec::new(),
            sandbox: None,
            scope: Vec::new(),
            check: None,
            require_commit: false,
            review: None,
            // A unit has its own fix cycle.
            max_attempts: 1,
            prompt_file: "none".to_owned(),
            prompt_bytes: 0,
            unit: Some(planned),
        });
    }
    let whole = format!("task-{}", task.id);
    let branch = if state.attempt == 1 { whole } else { format!("{whole}-{}", state.attempt) };
    Ok(WavePlan {
        name: format!("{}-{}", task.id, &unique[..8]),
        repo: repo.to_owned(),
        base: "HEAD".to_owned(),
        max_parallel: MAX_PARALLEL,
        fail_fast: false,
        merge_into: Some(branch),
        items,
    })
}

fn kept_commit<'a>(items: &'a [WaveItem], id: &BeadsId) -> Option<&'a str> {
    items.iter().find(|item| item.id == *id)?.unit.as_ref()?.commit.as_deref()
}

/// The work of an attempt before: done for this specification, still there, and built on what it needs now.
fn kept(
    project: &Project,
    main: &Repository,
    unit: &WaveUnit,
    bases: &[&str],
) -> Result<Option<String>, EngineError> {
    let is_done =
        |state: &TaskState| state.status == TaskStatus::Done && state.spec_sha256 == unit.spec_sha256;
    let state = project.task(&unit.task).state()?.filter(is_done);
    let Some(commit) = state.and_then(|state| state.commit) else { return Ok(None) };
    let wanted = format!("{commit}^{{commit}}");
    if !Call::new(main, &["rev-parse", "--verify", "--quiet", &wanted]).output()?.status.success() {
        return Ok(None);
    }
    for base in bases {
        if !main.git_says(&["merge-base", "--is-ancestor", base, &commit])? {
            return Ok(None);
        }
    }
    Ok(Some(commit))
}

/// What the end of its wave means for a plan.
fn settle(task: &Task, state: TaskState, wave: &Wave) -> Result<(), EngineError> {
    let mut state = TaskState { wave: Some(wave.created.wave_id.clone()), ..state };
    let (status, reason, message) = match undone(task, wave)? {
        Some(undone) => undone,
        None => match &wave.merged {
            Some(merge) if merge.commit.is_some() && merge.conflicts.is_empty() => {
                state.branch = Some(merge.branch.clone());
                (TaskStatus::Done, None, "done".to_owned())
            }
            merge => {
                let pairs = merge.iter().flat_map(|merge| &merge.conflicts);
                let mut why: Vec<String> = pairs.map(conflict_text).collect();
                why.extend(merge.iter().map(|merge| merge.message.clone()).filter(|text| !text.is_empty()));
                (TaskStatus::Failed, Some(ReasonCode::MergeConflict), why.join("; "))
            }
        },
    };
    end(task, state, status, reason, message).map(drop)
}

/// The first unit that did not get done, and why; those that only waited for another come last.
fn undone(task: &Task, wave: &Wave) -> Result<Option<(TaskStatus, Option<ReasonCode>, String)>, EngineError> {
    let mut open: Vec<&Item> = wave.items.iter().filter(|item| !item.is_done()).collect();
    open.sort_by_key(|item| match dx_core::wave::state_of(wave, item) {
        ItemState::Skipped => true,
        ItemState::Cancelled => item.attempts.is_empty(),
        _ => false,
    });
    let Some((item, unit)) = open.first().and_then(|item| Some((item, item.plan.unit.as_ref()?))) else {
        return Ok(None);
    };
    let folder = unit.task.rsplit('/').next().unwrap_or_default();
    let own = Task { id: unit.task.clone(), folder: task.folder.join(folder) }.state()?;
    let own = own.filter(|own| own.attempt == unit.attempt && own.spec_sha256 == unit.spec_sha256);
    let ended = own.filter(|own| !matches!(own.status, TaskStatus::Running | TaskStatus::Done));
    let said = |text: &str| format!("unit {folder}: {text}");
    if let Some(own) = ended {
        return Ok(Some((own.status, own.reason_code, said(&own.message))));
    }
    let why = if item.message.is_empty() { item.findings.join("; ") } else { item.message.clone() };
    Ok(Some((TaskStatus::Failed, item.reason, said(&why))))
}
