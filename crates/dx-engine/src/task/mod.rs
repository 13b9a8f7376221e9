//! `task`: work that is described in files, and carried out by the agents that the files name.
//!
//! What the files say and what is wrong with them is `dx_workflow::task`'s; here are the effects. Must never: take an agent's word
//! for what the runner can see itself.

mod command;
mod files;
mod handoff;
mod ignored;
mod judge;
mod papers;
mod plan;
mod prompt;
mod run;
mod seen;
mod step;

pub(crate) use plan::{UnitTurn, unit_recorded};
pub use run::TaskRunRequest;

use crate::Engine;
use crate::error::EngineError;
use dx_proc::clock;
use dx_protocol::{
    PackFinding, ReasonCode, TaskApproval, TaskCheckDocument, TaskDocument, TaskRow, TaskStatus, TaskUnit,
    TasksDocument, Timestamp,
};
use dx_workflow::hash;
use dx_workflow::task::{Spec, TaskFiles, check_context, check_task, layers};
use files::{Project, Task};

impl Engine {
    /// Makes the folder of a new task.
    pub fn task_new(&self, title: &str) -> Result<TaskDocument, EngineError> {
        let project = Project::here()?;
        document(&project.make(title)?)
    }

    /// All tasks, and which is next.
    pub fn task_list(&self) -> Result<TasksDocument, EngineError> {
        let project = Project::here()?;
        let mut tasks = Vec::new();
        for task in project.all() {
            tasks.push(row(&task)?);
        }
        let next = tasks.iter().find(|row| row.waits_for == "-").map(|row| row.id.clone());
        Ok(TasksDocument { schema: "dx-runner/tasks/1".to_owned(), tasks, next })
    }

    /// One task.
    pub fn task_show(&self, id: &str) -> Result<TaskDocument, EngineError> {
        document(&Project::here()?.find(id)?)
    }

    /// What is wrong with the files of one task, or of all and with the project's facts.
    pub fn task_check(&self, id: Option<&str>) -> Result<TaskCheckDocument, EngineError> {
        let project = Project::here()?;
        let tasks = match id {
            Some(id) => vec![project.find(id)?],
            None => project.all(),
        };
        let mut findings: Vec<PackFinding> = check_context(project.context().as_deref());
        for task in &tasks {
            findings.extend(found_in(task, &task.files()));
        }
        Ok(TaskCheckDocument {
            schema: "dx-runner/task-check/1".to_owned(),
            tasks: tasks.into_iter().map(|task| task.id).collect(),
            findings,
        })
    }

    /// A user's yes to a plan as it is now. No job may give it.
    pub fn task_approve(&self, id: &str) -> Result<TaskDocument, EngineError> {
        let task = Project::here()?.find(id)?;
        let files = task.files();
        refuse_findings(&task, &files)?;
        approve(&task, &files)?;
        document(&task)
    }
}

/// A user's yes: no job's.
fn approve(task: &Task, files: &TaskFiles) -> Result<(), EngineError> {
    crate::start::refuse_in_job()?;
    let mut state = task.state()?.unwrap_or_else(|| task.new_state());
    state.approved = Some(TaskApproval { sha256: plan_hash(files), at: Timestamp(clock::now_ms()) });
    task.put_state(&state)
}

/// What is wrong with a task's files and its folder.
fn found_in(task: &Task, files: &TaskFiles) -> Vec<PackFinding> {
    let twice = task.namesakes().into_iter().map(|other| PackFinding {
        file: format!("{}/{}", task.id, dx_workflow::task::SPEC),
        line: 1,
        rule: "number_twice".to_owned(),
        message: format!("{other} has the same number"),
        fix: "give one of the two folders another number; jobs are named by it".to_owned(),
    });
    twice.chain(check_task(files)).chain(task.unreadable_states()).collect()
}

/// What keeps it from being run: all but the reports, which a run makes.
fn hindrances(task: &Task, files: &TaskFiles) -> Vec<PackFinding> {
    found_in(task, &files.without_reports())
}

/// Refuses a task with findings, with the first of them.
fn refuse_findings(task: &Task, files: &TaskFiles) -> Result<(), EngineError> {
    match hindrances(task, files).as_slice() {
        [] => Ok(()),
        found => Err(EngineError::TaskInvalid { task: task.id.clone(), findings: found.to_vec() }),
    }
}

/// Of all specifications together, names of folders included.
fn plan_hash(files: &TaskFiles) -> String {
    let all = std::iter::once(&files.own).chain(&files.units);
    let lines = all.map(|unit| {
        format!(
            "{} {}\n",
            unit.folder,
            unit.spec.as_ref().map_or_else(String::new, |text| hash(text.as_bytes()))
        )
    });
    hash(lines.collect::<String>().as_bytes())
}

/// What a run is of: the specification, or all of a plan.
fn identity(files: &TaskFiles) -> String {
    let text = files.own.spec.as_deref().unwrap_or_default();
    if Spec::parse(text).units.is_some() { plan_hash(files) } else { hash(text.as_bytes()) }
}

fn is_approved(task: &Task, files: &TaskFiles) -> Result<bool, EngineError> {
    let approved = task.state()?.and_then(|state| state.approved);
    Ok(approved.is_some_and(|approval| approval.sha256 == plan_hash(files)))
}

/// How a task stands by its files: what was run for an older specification counts no more.
fn status(files: &TaskFiles, state: Option<&dx_protocol::TaskState>) -> TaskStatus {
    match (&files.own.spec, state) {
        (None, _) => TaskStatus::Unplanned,
        (Some(_), Some(state)) if state.spec_sha256 == identity(files) => state.status,
        _ => TaskStatus::Planned,
    }
}

fn row(task: &Task) -> Result<TaskRow, EngineError> {
    let files = task.files();
    let (findings, hindrances) = (found_in(task, &files), hindrances(task, &files));
    let spec = files.own.spec.as_deref().map(Spec::parse);
    let state = task.state();
    let status = match &state {
        Ok(state) => status(&files, state.as_ref()),
        Err(_) => TaskStatus::Blocked,
    };
    let is_plan = spec.as_ref().is_some_and(|spec| spec.units.is_some());
    let waits_for = match status {
        _ if state.is_err() => "a state.json that can be read".to_owned(),
        TaskStatus::Unplanned => "a specification".to_owned(),
        TaskStatus::Done => "nothing, it is done".to_owned(),
        TaskStatus::Escalated | TaskStatus::Failed | TaskStatus::Blocked => "a person".to_owned(),
        _ if !hindrances.is_empty() => format!("{} findings of task check", hindrances.len()),
        _ if is_plan && !is_approved(task, &files)? => "approval".to_owned(),
        _ => "-".to_owned(),
    };
    Ok(TaskRow {
        id: task.id.clone(),
        title: spec.as_ref().map(|spec| spec.title.clone()).unwrap_or_default(),
        status,
        units: spec.and_then(|spec| spec.units).map_or(0, |units| units.len() as u64),
        findings: findings.len() as u64,
        waits_for,
    })
}

fn document(task: &Task) -> Result<TaskDocument, EngineError> {
    let files = task.files();
    let state = task.state()?;
    let spec = files.own.spec.as_deref().map(Spec::parse);
    let units = spec.as_ref().and_then(|spec| spec.units.clone()).unwrap_or_default();
    let status = status(&files, state.as_ref());
    let approved = is_approved(task, &files)?;
    let id = &task.id;
    let reason = state.as_ref().and_then(|state| state.reason_code);
    let next_action = match status {
        TaskStatus::Unplanned => format!("write {}", task.path(dx_workflow::task::SPEC)),
        TaskStatus::Done if !found_in(task, &files).is_empty() => format!("dx-runner task check {id}"),
        _ if !hindrances(task, &files).is_empty() => format!("dx-runner task check {id}"),
        TaskStatus::Planned if !units.is_empty() && !approved => format!("dx-runner task approve {id}"),
        TaskStatus::Planned | TaskStatus::Running => format!("dx-runner task run {id}"),
        TaskStatus::Done => "-".to_owned(),
        TaskStatus::Failed if reason == Some(ReasonCode::MergeConflict) => format!(
            "in the table of units let one of the two depend on the other, then dx-runner task approve {id} and dx-runner task run {id}"
        ),
        TaskStatus::Failed | TaskStatus::Escalated | TaskStatus::Blocked => {
            format!("read what is said of it, then dx-runner task run {id} --again")
        }
    };
    let mut reports = Vec::new();
    for unit in std::iter::once(&files.own).chain(&files.units) {
        let folder = if unit.folder == *id { String::new() } else { format!("{}/", unit.folder) };
        reports.extend(unit.reports.iter().map(|(kind, _)| task.path(&format!("{folder}{}", kind.file()))));
    }
    let second = |pairs: &[(usize, String)]| pairs.iter().map(|(_, text)| text.clone()).collect();
    Ok(TaskDocument {
        schema: "dx-runner/task/1".to_owned(),
        id: id.clone(),
        path: task.path(""),
        title: spec.as_ref().map(|spec| spec.title.clone()).unwrap_or_default(),
        status,
        spec_sha256: files.own.spec.as_ref().map(|text| hash(text.as_bytes())),
        execution: spec.as_ref().map(|spec| spec.execution.clone()).unwrap_or_default(),
        test_paths: spec.as_ref().map(|spec| second(&spec.test_paths)).unwrap_or_default(),
        test_commands: spec.as_ref().map(|spec| second(&spec.test_commands)).unwrap_or_default(),
        layers: layers(&units).unwrap_or_default(),
        units: units
            .iter()
            .map(|unit| TaskUnit {
                number: unit.number.unwrap_or_default(),
                folder: unit.folder(),
                delivers: unit.delivers.clone(),
                needs: unit.needs().collect(),
                parallel_with: unit.parallel_with.iter().flatten().copied().collect(),
                status: unit_status(task, &unit.folder(), &files),
            })
            .collect(),
        reports,
        earlier_reports: task.earlier_reports(),
        approved,
        state,
        next_action,
    })
}

fn unit_status(task: &Task, folder: &str, files: &TaskFiles) -> TaskStatus {
    let own = files.units.iter().find(|unit| unit.folder == folder).cloned().unwrap_or_default();
    let unit = Task { id: format!("{}/{folder}", task.id), folder: task.folder.join(folder) };
    // A state that cannot be read is told where it is needed.
    let state = unit.state().ok().flatten();
    status(&TaskFiles { own, units: Vec::new() }, state.as_ref())
}
