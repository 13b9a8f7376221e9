//! How each file of a target stands to the pack, and what an installation does about it. Pure.

use super::target::Content;
use dx_protocol::{PackFileAction, PackFileRow, PackFileState, PackManifest, PackManifestFile};
use dx_workflow::{FILES, hash, text_of};

/// How the files stand, those of the pack first and then stale ones of ours.
pub(super) fn states(
    manifest: Option<&PackManifest>,
    content: &dyn Fn(&str) -> Content,
) -> Vec<(String, PackFileState)> {
    let ours = |path: &str| manifest.and_then(|m| m.files.iter().find(|file| file.path == path));
    let mut rows: Vec<(String, PackFileState)> = FILES
        .iter()
        .map(|file| {
            let state = match content(file.path) {
                Content::Missing => PackFileState::Missing,
                Content::File(bytes) if bytes == file.text.as_bytes() => PackFileState::Current,
                Content::File(bytes) => match ours(file.path) {
                    Some(left) if is_as_left(left, &bytes) => PackFileState::Outdated,
                    Some(_) => PackFileState::Modified,
                    None => PackFileState::Foreign,
                },
                Content::Other if ours(file.path).is_some() => PackFileState::Modified,
                Content::Other => PackFileState::Foreign,
            };
            (file.path.to_owned(), state)
        })
        .collect();
    let stale = manifest.iter().flat_map(|m| &m.files).filter(|file| text_of(&file.path).is_none());
    for file in stale {
        match content(&file.path) {
            Content::Missing => {}
            Content::File(bytes) if is_as_left(file, &bytes) => {
                rows.push((file.path.clone(), PackFileState::Stale));
            }
            _ => rows.push((file.path.clone(), PackFileState::StaleModified)),
        }
    }
    rows
}

/// Whether a file is as one of ours left it, the version before an interrupted installation included.
pub(super) fn is_as_left(left: &PackManifestFile, bytes: &[u8]) -> bool {
    let now = hash(bytes);
    left.sha256 == now || left.previous.as_ref() == Some(&now)
}

/// What an installation does.
pub(super) fn install(
    states: Vec<(String, PackFileState)>,
    force: bool,
    replaceable: &dyn Fn(&str) -> bool,
) -> Vec<PackFileRow> {
    let act = |path: &str, state| match state {
        PackFileState::Current => PackFileAction::None,
        PackFileState::Missing => PackFileAction::Create,
        PackFileState::Outdated => PackFileAction::Update,
        PackFileState::Stale => PackFileAction::Remove,
        PackFileState::Modified | PackFileState::Foreign if force && replaceable(path) => {
            PackFileAction::Replace
        }
        PackFileState::StaleModified if force && replaceable(path) => PackFileAction::Remove,
        PackFileState::Modified | PackFileState::Foreign | PackFileState::StaleModified => {
            PackFileAction::Keep
        }
    };
    let row = |(path, state): (String, PackFileState)| PackFileRow {
        action: act(&path, state),
        path,
        state,
        backup: None,
    };
    states.into_iter().map(row).collect()
}
