//! Backups: the old content of files that an installation writes over or removes, and a record of all that it does, so that it
//! can be undone byte for byte.
//!
//! A file's old content is beside it, `<path>.bak-<time>`; the record is `.dx-runner-workflow.json.bak-<time>`. Must never: be made
//! when nothing is lost, or be removed before what it undoes is undone.

use super::plan;
use super::target::{Content, MANIFEST, Target, is_below};
use crate::error::EngineError;
use dx_jobdir::faults;
use dx_proc::clock;
use dx_protocol::{
    PackBackup, PackBackupFile, PackFileAction, PackFileRow, PackFileState, PackManifest, PackManifestFile,
    Timestamp,
};
use dx_workflow::{hash, text_of};
use std::os::unix::fs::MetadataExt;

const SCHEMA: &str = "dx-runner/pack-backup/1";
const MARK: &str = ".bak-";
/// Of a record whose installation has not ended.
const PENDING: &str = ".pending";

fn record_name(name: &str) -> String {
    format!("{MANIFEST}{MARK}{name}")
}

/// The record of a backup: that of an installation that was cut off has another name.
fn file_of(target: &Target, name: &str) -> String {
    let file = record_name(name);
    let pending = format!("{file}{PENDING}");
    if target.path(&pending).exists() { pending } else { file }
}

/// Names of all backups, newest first; that of an installation that was cut off is one of them.
pub(super) fn all(target: &Target) -> Vec<String> {
    let prefix = record_name("");
    let entries = std::fs::read_dir(&target.folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned))
        .map(|name| name.strip_suffix(PENDING).map_or(name.clone(), str::to_owned))
        .collect();
    names.sort_by(|a, b| b.cmp(a));
    names
}

/// The backup of an installation that was cut off, with its name.
pub(super) fn pending(target: &Target) -> Result<Option<(String, PackBackup)>, EngineError> {
    let prefix = record_name("");
    let entries = std::fs::read_dir(&target.folder).into_iter().flatten().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.find_map(|name| Some(name.strip_prefix(&prefix)?.strip_suffix(PENDING)?.to_owned()));
    let Some(name) = name else { return Ok(None) };
    let record = read(target, &format!("{}{PENDING}", record_name(&name)))?;
    Ok(record.map(|record| (name, record)))
}

fn read(target: &Target, file: &str) -> Result<Option<PackBackup>, EngineError> {
    let Some(record) = target.record::<PackBackup>(file, SCHEMA)? else { return Ok(None) };
    let kept = record.kept.iter().flat_map(|file| [&file.path, &file.backup]);
    let why = "names files outside of the pack's folders".to_owned();
    if kept.chain(record.created.iter().map(|file| &file.path)).all(|path| is_below(path)) {
        return Ok(Some(record));
    }
    Err(EngineError::PackRecord { path: target.path(file), why, newer: false })
}

/// Records what is about to be done and keeps old contents; the backup's name, when something would be lost.
pub(super) fn make(
    target: &Target,
    pending: Option<(String, PackBackup)>,
    before: Option<String>,
    rows: &mut [PackFileRow],
    made: &[String],
) -> Result<Option<String>, EngineError> {
    let loses = |row: &PackFileRow| row.action.changes() && row.state != PackFileState::Missing;
    if pending.is_none() && !rows.iter().any(loses) {
        return Ok(None);
    }
    let (name, mut record) = pending.unwrap_or_else(|| {
        let record = PackBackup {
            schema: SCHEMA.to_owned(),
            manifest: before,
            kept: Vec::new(),
            created: Vec::new(),
            folders: made.to_vec(),
        };
        (free_name(target), record)
    });
    for row in rows.iter_mut().filter(|row| row.action.changes()) {
        let written = text_of(&row.path)
            .filter(|_| row.action != PackFileAction::Remove)
            .map(|text| hash(text.as_bytes()));
        let backup = format!("{}{MARK}{name}", row.path);
        if row.state != PackFileState::Missing {
            row.backup = Some(backup.clone());
        }
        let known = record.kept.iter().any(|file| file.path == row.path)
            || record.created.iter().any(|file| file.path == row.path);
        match written {
            _ if known => {}
            Some(sha256) if row.state == PackFileState::Missing => {
                record.created.push(PackManifestFile { path: row.path.clone(), sha256, previous: None });
            }
            written => record.kept.push(PackBackupFile { path: row.path.clone(), backup, written }),
        }
    }
    let file = format!("{}{PENDING}", record_name(&name));
    target.put_record(&file, &record)?;
    faults::step("workflow.backup_recorded");
    for row in rows.iter() {
        if let Some(backup) = &row.backup {
            target.keep(&row.path, backup)?;
        }
    }
    Ok(Some(name))
}

/// Whether a file that the backup keeps is neither as it was kept nor as its installation writes it.
pub(super) fn is_outdated(target: &Target, record: &PackBackup) -> bool {
    record.kept.iter().any(|file| {
        let (now, kept) = (target.content(&file.path), target.content(&file.backup));
        let is_written = match (&now, &file.written) {
            (Content::File(bytes), Some(sha256)) => hash(bytes) == *sha256,
            (Content::Missing, None) => true,
            _ => false,
        };
        kept != Content::Missing && now != kept && !is_written
    })
}

/// The installation has ended: the backup is whole.
pub(super) fn settle(target: &Target, name: &str) -> Result<(), EngineError> {
    let file = record_name(name);
    target.rename(&format!("{file}{PENDING}"), &file)
}

/// No installation goes on: the backup of one that was cut off is whole as it is.
pub(super) fn settle_pending(target: &Target) -> Result<(), EngineError> {
    match pending(target)? {
        Some((name, _)) => settle(target, &name),
        None => Ok(()),
    }
}

/// Whether what is kept is what stands in its place: one file with two names, or the same text.
fn is_in_place(target: &Target, file: &PackBackupFile) -> bool {
    let look = |path: &str| std::fs::symlink_metadata(target.path(path)).ok();
    let one = look(&file.path).zip(look(&file.backup));
    one.is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()))
        || matches!((target.content(&file.path), target.content(&file.backup)),
            (Content::File(a), Content::File(b)) if a == b)
}

/// A name that sorts by time and that nothing has yet.
fn free_name(target: &Target) -> String {
    let time = Timestamp(clock::now_ms()).compact();
    let taken = |name: &str| {
        let file = record_name(name);
        [file.clone(), format!("{file}{PENDING}")].iter().any(|file| target.path(file).exists())
    };
    let names = std::iter::once(time.clone()).chain((2..).map(|n| format!("{time}-{n}")));
    names.into_iter().find(|name| !taken(name)).unwrap_or(time)
}

/// Whether a file that a backup keeps was one of the pack's, as an installation had left it.
fn was_ours(target: &Target, record: &PackBackup, file: &PackBackupFile) -> bool {
    let manifest: Option<PackManifest> =
        record.manifest.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let Content::File(bytes) = target.content(&file.backup) else { return false };
    let known = manifest.iter().flat_map(|m| &m.files).find(|known| known.path == file.path);
    known.is_some_and(|known| plan::is_as_left(known, &bytes))
}

/// Files of the user's that installations took the place of, each with the newest copy of it.
pub(super) fn returns(target: &Target) -> Result<Vec<(String, String)>, EngineError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for name in all(target) {
        let Some(record) = read(target, &file_of(target, &name))? else { continue };
        for file in &record.kept {
            let is_known = found.iter().any(|(path, _)| *path == file.path);
            let is_there = std::fs::symlink_metadata(target.path(&file.backup)).is_ok();
            if is_there && !is_known && !was_ours(target, &record, file) {
                found.push((file.path.clone(), file.backup.clone()));
            }
        }
    }
    Ok(found)
}

/// Removes backups in which nothing of the user's is left.
pub(super) fn drop_used(target: &Target) -> Result<(), EngineError> {
    for name in all(target) {
        let Some(record) = read(target, &record_name(&name))? else { continue };
        let mine = |file: &&PackBackupFile| {
            target.content(&file.backup) != Content::Missing
                && !was_ours(target, &record, file)
                && !is_in_place(target, file)
        };
        if record.kept.iter().any(|file| mine(&file)) {
            continue;
        }
        for file in &record.kept {
            target.remove(&file.backup)?;
        }
        target.remove(&record_name(&name))?;
        target.remove_folders(&record.folders);
    }
    Ok(())
}

/// Undoes what the backup's installation did; the files, and whether anything changed.
pub(super) fn restore(target: &Target, name: &str) -> Result<(Vec<PackFileRow>, bool), EngineError> {
    let file = record_name(name);
    let known = || EngineError::NoPackBackup { name: Some(name.to_owned()), known: all(target) };
    let record = read(target, &file)?.ok_or_else(known)?;
    let is = |path: &str, sha256: Option<&String>| match target.content(path) {
        Content::Missing => sha256.is_none(),
        Content::File(bytes) => sha256.is_some_and(|sha256| *sha256 == hash(&bytes)),
        Content::Other => false,
    };
    let (mut rows, mut whole) = (Vec::new(), true);
    let mut row = |path: &str, state, action, backup| {
        rows.push(PackFileRow { path: path.to_owned(), state, action, backup });
    };
    for kept in &record.kept {
        if std::fs::symlink_metadata(target.path(&kept.backup)).is_err() {
            // An earlier restore that was cut off has brought it back.
            row(&kept.path, PackFileState::Current, PackFileAction::None, None);
        } else if is_in_place(target, kept) {
            // The installation was cut off before it came to this one.
            target.remove(&kept.backup)?;
            row(&kept.path, PackFileState::Current, PackFileAction::None, None);
        } else if is(&kept.path, kept.written.as_ref()) || target.content(&kept.path) == Content::Missing {
            target.rename(&kept.backup, &kept.path)?;
            row(&kept.path, PackFileState::Current, PackFileAction::Restore, None);
            faults::step("workflow.restored");
        } else {
            whole = false;
            row(&kept.path, PackFileState::Modified, PackFileAction::Keep, Some(kept.backup.clone()));
        }
    }
    for created in &record.created {
        if is(&created.path, Some(&created.sha256)) {
            target.remove(&created.path)?;
            row(&created.path, PackFileState::Current, PackFileAction::Remove, None);
        } else if target.content(&created.path) != Content::Missing {
            whole = false;
            row(&created.path, PackFileState::Modified, PackFileAction::Keep, None);
        }
    }
    match &record.manifest {
        Some(text) => target.put(MANIFEST, text.as_bytes())?,
        None => target.remove(MANIFEST)?,
    }
    if whole {
        target.remove(&file)?;
        target.remove_folders(&record.folders);
    }
    Ok((rows, true))
}
