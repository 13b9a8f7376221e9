//! A task's papers between the project and the worktree in which its agents work.
//!
//! Called by `run` and `step`. Must never: bring home what its writer may not write.

use super::files::{Project, TASKS, Task, text};
use super::step::Ground;
use crate::error::EngineError;
use dx_protocol::TaskStep;
use dx_workflow::task::SPEC;
use std::fs;
use std::path::Path;

/// Puts what the agents need to read into a worktree: project facts, decisions, the specification.
pub(super) fn bring(project: &Project, task: &Task, place: &Path) -> Result<(), EngineError> {
    if place == project.top {
        return Ok(());
    }
    let mut files = vec![".ai/context.md".to_owned(), task.path(SPEC)];
    let whole = task.id.split('/').next().unwrap_or(&task.id);
    files.push(format!("{TASKS}/{whole}/{SPEC}"));
    let decisions = fs::read_dir(project.top.join(".ai/decisions")).into_iter().flatten().flatten();
    let names = decisions.filter_map(|entry| entry.file_name().into_string().ok());
    files.extend(names.map(|name| format!(".ai/decisions/{name}")));
    for file in files {
        if let Some(content) = text(&project.top.join(&file)) {
            put(&place.join(&file), &content)?;
        }
    }
    Ok(())
}

/// Brings home from a worktree what an agent wrote below `.ai`: its report, decisions, facts of the project.
pub(super) fn take_back(ground: &Ground<'_>, step: &TaskStep) -> Result<(), EngineError> {
    let is_ours = |path: &&String| path.starts_with(".ai/") && !step.violations.contains(path);
    for path in step.changed_paths.iter().filter(is_ours) {
        if let Some(content) = text(&ground.place.join(path)) {
            put(&ground.project.top.join(path), &content)?;
        }
    }
    Ok(())
}

fn put(path: &Path, content: &str) -> Result<(), EngineError> {
    if text(path).as_deref() == Some(content) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, content));
    made.map_err(|source| EngineError::Io { what: "copy a task's file", source })
}
