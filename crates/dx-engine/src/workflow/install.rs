//! Puts the pack into a target: plan, intent, backup, files, manifest. May be killed at any point: each file is the old or the new
//! one, and the next installation goes on, into the same backup.
//!
//! Must never: write over what is not ours without being told to, or without a backup.

use super::backup;
use super::plan;
use super::target::{Content, MANIFEST, MANIFEST_SCHEMA, Target};
use crate::error::EngineError;
use dx_jobdir::faults;
use dx_protocol::{PackFileAction, PackFileRow, PackFileState, PackManifest, PackManifestFile};
use dx_workflow::{FILES, VERSION, hash, text_of};

/// What was done.
pub(super) struct Done {
    pub(super) rows: Vec<PackFileRow>,
    pub(super) changed: bool,
    pub(super) backup: Option<String>,
}

/// What would be done.
pub(super) fn plan_of(
    target: &Target,
    manifest: Option<&PackManifest>,
    force: bool,
) -> (Vec<PackFileRow>, bool) {
    let content = |path: &str| target.content(path);
    // A folder or what cannot be read stays where it is: nobody could put it back.
    let replaceable =
        |path: &str| std::fs::symlink_metadata(target.path(path)).is_ok_and(|meta| !meta.is_dir());
    let rows = plan::install(plan::states(manifest, &content), force, &replaceable);
    let settled = manifest.is_some_and(|manifest| *manifest == final_manifest(manifest, &rows, &[]));
    let changed = !settled || rows.iter().any(|row| row.action.changes());
    (rows, changed)
}

pub(super) fn run(target: &Target, force: bool) -> Result<Done, EngineError> {
    target.check_writable()?;
    let (rows, changed) = plan_of(target, target.manifest()?.as_ref(), force);
    if !changed && backup::pending(target)?.is_none() {
        return Ok(Done { rows, changed, backup: None });
    }
    let (_lock, made) = target.prepare()?;
    // Again, with the lock: somebody else may have been quicker.
    let before = target.manifest()?;
    let before_text = target.manifest_text();
    let (mut rows, changed) = plan_of(target, before.as_ref(), force);
    target.sweep();
    let mut pending = backup::pending(target)?;
    // One that has nothing left to do was cut off at its very end; and what somebody wrote since into a file of a cut-off one
    // is in no backup yet, and gets one of its own.
    if let Some((name, record)) = &pending
        && (!changed || backup::is_outdated(target, record))
    {
        backup::settle(target, name)?;
        pending = None;
    }
    if !changed {
        return Ok(Done { rows, changed, backup: None });
    }
    let intent = intent(before.as_ref(), &rows, &made, target);
    // First, so that it holds the manifest that was there before anything happened.
    let backup = backup::make(target, pending, before_text, &mut rows, &made)?;
    faults::step("workflow.backed_up");
    target.put_record(MANIFEST, &intent)?;
    faults::step("workflow.planned");
    target.unmark(&intent.folders);
    for row in &rows {
        let Some(text) = text_of(&row.path).filter(|_| row.action.changes()) else { continue };
        target.put(&row.path, text.as_bytes())?;
        faults::step("workflow.file_written");
    }
    faults::step("workflow.files_written");
    for row in rows.iter().filter(|row| row.action == PackFileAction::Remove) {
        target.remove(&row.path)?;
        faults::step("workflow.stale_removed");
    }
    target.put_record(MANIFEST, &final_manifest(&intent, &rows, &made))?;
    faults::step("workflow.finished");
    if let Some(name) = &backup {
        backup::settle(target, name)?;
    }
    Ok(Done { rows, changed, backup })
}

/// What is written before the first file changes: with it every file of ours is known in its old and in its new form.
fn intent(
    before: Option<&PackManifest>,
    rows: &[PackFileRow],
    made: &[String],
    target: &Target,
) -> PackManifest {
    let old = |path: &str| before.and_then(|m| m.files.iter().find(|file| file.path == path));
    // One that was there and is like the pack's stays the user's.
    let is_ours = |row: &PackFileRow| match row.action {
        PackFileAction::Keep => false,
        action => action.changes() || old(&row.path).is_some(),
    };
    let mut files: Vec<PackManifestFile> = FILES
        .iter()
        .filter(|file| rows.iter().any(|row| row.path == file.path && is_ours(row)))
        .map(|file| {
            // What the user wrote is not ours because we are about to take its place.
            let was_ours =
                rows.iter().any(|row| row.path == file.path && row.state == PackFileState::Outdated);
            let previous = match target.content(file.path) {
                Content::File(bytes) if was_ours => Some(hash(&bytes)),
                _ => None,
            };
            PackManifestFile { path: file.path.to_owned(), sha256: hash(file.text.as_bytes()), previous }
        })
        .collect();
    // What is kept stays as we know it, and what is stale is still to be removed.
    let others = rows.iter().filter(|row| {
        row.action == PackFileAction::Keep
            || matches!(row.state, PackFileState::Stale | PackFileState::StaleModified)
    });
    files.extend(others.filter_map(|row| old(&row.path).cloned()));
    PackManifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        version: VERSION.to_owned(),
        folders: folders(before, made),
        files,
    }
}

/// Which files are ours when all is done: those that were written now or before, and as we last left them those that are kept.
fn final_manifest(intent: &PackManifest, rows: &[PackFileRow], made: &[String]) -> PackManifest {
    let known = |row: &PackFileRow| intent.files.iter().find(|file| file.path == row.path).cloned();
    let file = |row: &PackFileRow| match (row.action, text_of(&row.path)) {
        (PackFileAction::Keep, _) => known(row).map(|file| PackManifestFile { previous: None, ..file }),
        (action, Some(text)) if action.changes() || known(row).is_some() => {
            let sha256 = hash(text.as_bytes());
            Some(PackManifestFile { path: row.path.clone(), sha256, previous: None })
        }
        _ => None,
    };
    PackManifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        version: VERSION.to_owned(),
        folders: folders(Some(intent), made),
        files: rows.iter().filter_map(file).collect(),
    }
}

fn folders(before: Option<&PackManifest>, made: &[String]) -> Vec<String> {
    let mut folders = before.map(|m| m.folders.clone()).unwrap_or_default();
    folders.extend(made.iter().filter(|name| !before.is_some_and(|m| m.folders.contains(name))).cloned());
    folders
}
