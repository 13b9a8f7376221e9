//! `workflow`: the agent pack in a folder that OpenCode reads.
//!
//! What the pack is and what is wrong with it says `dx_workflow`; here are the effects. Must never: touch a file of the user's
//! that is not named like one of the pack, or `AGENTS.md`, skills, templates and configuration at all.

mod asking;
mod backup;
mod check;
mod install;
mod models;
mod plan;
mod target;

pub use models::ModelsRequest;
pub use target::WorkflowScope;

use crate::Engine;
use crate::error::EngineError;
use dx_jobdir::faults;
use dx_protocol::{
    PackFileAction, PackFileRow, PackFileState, PackManifest, WorkflowDiffDocument, WorkflowDocument,
};
use dx_workflow::VERSION;
use std::fmt::Write;
use target::{Content, MANIFEST, Target};

const RESTART: &str = "restart OpenCode, so that it reads the agents";

impl Engine {
    /// Puts the pack into the scope's folder; with `dry_run` says what it would do.
    pub fn workflow_install(
        &self,
        scope: WorkflowScope,
        force: bool,
        dry_run: bool,
    ) -> Result<WorkflowDocument, EngineError> {
        let target = Target::of(scope)?;
        let before = target.manifest()?;
        if dry_run {
            target.check_writable()?;
            let (rows, changed) = install::plan_of(&target, before.as_ref(), force);
            let next = format!("dx-runner workflow install{} without --dry-run", target.flag());
            let document = document("install", &target, before.as_ref(), rows, changed, &next);
            return Ok(WorkflowDocument { dry_run, ..document });
        }
        let done = install::run(&target, force)?;
        let kept = done.rows.iter().any(|row| row.action == PackFileAction::Keep);
        let next = match (done.changed, kept) {
            (_, true) => format!(
                "dx-runner workflow diff{} shows what was kept; --force replaces it, after a backup",
                target.flag()
            ),
            (true, false) => {
                let undo = done.backup.as_ref().map_or_else(
                    || format!("uninstall{}", target.flag()),
                    |backup| format!("restore {backup}{}", target.flag()),
                );
                format!("{RESTART}; dx-runner workflow {undo} undoes this")
            }
            (false, false) => "-".to_owned(),
        };
        let document = document("install", &target, before.as_ref(), done.rows, done.changed, &next);
        Ok(WorkflowDocument { backup: done.backup, ..document })
    }

    /// How the files of the scope's folder stand to the pack; writes nothing.
    pub fn workflow_status(&self, scope: WorkflowScope) -> Result<WorkflowDocument, EngineError> {
        let target = Target::of(scope)?;
        let manifest = target.manifest()?;
        let (rows, changed) = install::plan_of(&target, manifest.as_ref(), false);
        let next = match (&manifest, changed) {
            (None, _) | (_, true) => format!("dx-runner workflow install{}", target.flag()),
            _ if rows.iter().any(|row| row.action == PackFileAction::Keep) => {
                format!("dx-runner workflow diff{}", target.flag())
            }
            _ => "-".to_owned(),
        };
        let document = document("status", &target, manifest.as_ref(), rows, false, &next);
        Ok(WorkflowDocument { dry_run: true, ..document })
    }

    /// From what is installed to the pack, as text.
    pub fn workflow_diff(&self, scope: WorkflowScope) -> Result<WorkflowDiffDocument, EngineError> {
        let target = Target::of(scope)?;
        let manifest = target.manifest()?;
        let (rows, _) = install::plan_of(&target, manifest.as_ref(), false);
        let mut diff = String::new();
        for row in rows.iter().filter(|row| row.state != PackFileState::Current) {
            let old = match target.content(&row.path) {
                Content::File(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Content::Missing => String::new(),
                Content::Other => {
                    // Writing to a String cannot fail.
                    let _fits = writeln!(diff, "{} is no plain file", row.path);
                    continue;
                }
            };
            let new = dx_workflow::text_of(&row.path).unwrap_or_default();
            let name = |side: &str, is_there: bool| {
                if is_there { format!("{side}/{}", row.path) } else { "/dev/null".to_owned() }
            };
            let names =
                (name("installed", row.state != PackFileState::Missing), name("pack", !new.is_empty()));
            let text = similar::TextDiff::from_lines(old.as_str(), new);
            let _fits = write!(diff, "{}", text.unified_diff().header(&names.0, &names.1));
        }
        let schema = "dx-runner/workflow-diff/1".to_owned();
        Ok(WorkflowDiffDocument { schema, target: target.folder.display().to_string(), diff })
    }

    /// Takes the pack out of the scope's folder: files that are as we left them, and nothing else.
    pub fn workflow_uninstall(
        &self,
        scope: WorkflowScope,
        dry_run: bool,
    ) -> Result<WorkflowDocument, EngineError> {
        let target = Target::of(scope)?;
        let missing = || EngineError::PackNotInstalled(target.folder.clone());
        if target.manifest()?.is_none() {
            return Err(missing());
        }
        target.check_writable()?;
        let lock = target.lock()?;
        let manifest = target.manifest()?.ok_or_else(missing)?;
        if !dry_run {
            backup::settle_pending(&target)?;
        }
        let mut rows = Vec::new();
        let returns = backup::returns(&target)?;
        for file in &manifest.files {
            let (state, action) = match target.content(&file.path) {
                Content::Missing => (PackFileState::Missing, PackFileAction::None),
                Content::File(bytes) if plan::is_as_left(file, &bytes) => {
                    (PackFileState::Current, PackFileAction::Remove)
                }
                _ => (PackFileState::Modified, PackFileAction::Keep),
            };
            rows.push(PackFileRow { path: file.path.clone(), state, action, backup: None });
        }
        let stays =
            |path: &str| rows.iter().any(|row| row.path == path && row.action == PackFileAction::Keep);
        // What the pack took the place of, when nothing else is there by now.
        let returns: Vec<_> = returns
            .into_iter()
            .filter(|(path, _)| match rows.iter().find(|row| row.path == *path) {
                Some(_) => !stays(path),
                None => target.content(path) == Content::Missing,
            })
            .collect();
        for (path, backup) in &returns {
            let own = rows.iter().find(|row| row.path == *path);
            let row = PackFileRow {
                path: path.clone(),
                state: own.map_or(PackFileState::Missing, |own| own.state),
                action: PackFileAction::Restore,
                backup: Some(backup.clone()),
            };
            match rows.iter_mut().find(|row| row.path == *path) {
                Some(own) => *own = row,
                None => rows.push(row),
            }
        }
        if !dry_run {
            target.sweep();
            for row in rows.iter().filter(|row| row.action.changes()) {
                // In one step from ours to the user's.
                match &row.backup {
                    Some(backup) => target.rename(backup, &row.path)?,
                    None => target.remove(&row.path)?,
                }
                faults::step("workflow.removed");
            }
            backup::drop_used(&target)?;
            target.remove(MANIFEST)?;
            target.remove_folders(&manifest.folders);
        }
        drop(lock);
        let next = match backup::all(&target).first() {
            _ if dry_run => format!("dx-runner workflow uninstall{} without --dry-run", target.flag()),
            Some(newest) => format!(
                "{RESTART}; dx-runner workflow restore {newest}{} brings back more of what was there before",
                target.flag()
            ),
            None => RESTART.to_owned(),
        };
        let document = document("uninstall", &target, Some(&manifest), rows, true, &next);
        Ok(WorkflowDocument { dry_run, ..document })
    }

    /// Undoes the installation that made a backup; the newest when none is named.
    pub fn workflow_restore(
        &self,
        scope: WorkflowScope,
        name: Option<&str>,
    ) -> Result<WorkflowDocument, EngineError> {
        let target = Target::of(scope)?;
        let known = backup::all(&target);
        let newest = || EngineError::NoPackBackup { name: None, known: Vec::new() };
        let name = match name {
            // A path that was copied from the output is as good as the name.
            Some(name) => name.rsplit_once(".bak-").map_or(name, |(_, time)| time).to_owned(),
            None => known.first().cloned().ok_or_else(newest)?,
        };
        if !known.contains(&name) {
            return Err(EngineError::NoPackBackup { name: Some(name), known });
        }
        target.check_writable()?;
        let lock = target.lock()?;
        let manifest = target.manifest()?;
        backup::settle_pending(&target)?;
        let (rows, changed) = backup::restore(&target, &name)?;
        drop(lock);
        let kept = rows.iter().any(|row| row.action == PackFileAction::Keep);
        let next = if kept {
            "files that were changed since are kept; move them away and restore again"
        } else {
            RESTART
        };
        let document = document("restore", &target, manifest.as_ref(), rows, changed, next);
        Ok(WorkflowDocument { backup: Some(name), ..document })
    }
}

fn document(
    action: &str,
    target: &Target,
    manifest: Option<&PackManifest>,
    files: Vec<PackFileRow>,
    changed: bool,
    next_action: &str,
) -> WorkflowDocument {
    WorkflowDocument {
        schema: "dx-runner/workflow/1".to_owned(),
        action: action.to_owned(),
        scope: target.scope.as_str().to_owned(),
        target: target.folder.display().to_string(),
        version: VERSION.to_owned(),
        installed_version: manifest.map(|manifest| manifest.version.clone()),
        dry_run: false,
        changed,
        files,
        backup: None,
        backups: backup::all(target),
        next_action: next_action.to_owned(),
    }
}
