//! Profiles: named sets of what `start` takes. The user's, the project's, and those of the program.
//!
//! Called by: the layers, for the one that is named; `profiles`, for all. Must never: list a folder when one is named.

use super::error::SettingsError;
use super::file::{self, Content, Owner, Shape};
use super::layers;
use crate::providers::Providers;
use std::path::{Path, PathBuf};

/// Below the user's configuration folder, and below [`PROJECT_FOLDER`].
const FOLDER: &str = "profiles";
const PROJECT_FOLDER: &str = ".dx-runner";

/// The program's own.
pub(super) const BUILT_IN: [(&str, &str); 5] = [
    ("cc-glm-fallback", include_str!("profiles/cc-glm-fallback.toml")),
    ("dev", include_str!("profiles/dev.toml")),
    ("gemini-burst", include_str!("profiles/gemini-burst.toml")),
    ("opencode-prod", include_str!("profiles/opencode-prod.toml")),
    ("review", include_str!("profiles/review.toml")),
];

/// A profile.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// Its file, or the words for one of the program's own.
    pub(crate) file: String,
    /// `user`, `built-in` or `project`.
    pub(crate) source: &'static str,
    /// Whether the user or the program made it.
    pub(crate) own: bool,
    pub(crate) content: Content,
}

/// The folders, the user's first: a project cannot put its own in the place of one of the user's.
fn folders(project: Option<&Path>) -> Vec<(PathBuf, bool)> {
    let user = layers::user_folder().map(|folder| (folder.join(FOLDER), true));
    let project = project.map(|top| (top.join(PROJECT_FOLDER).join(FOLDER), false));
    user.into_iter().chain(project).collect()
}

/// Whether a name may be that of a file.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}

fn read(
    name: &str,
    folder: &Path,
    own: bool,
    providers: &Providers,
) -> Result<Option<Profile>, SettingsError> {
    let path = folder.join(format!("{name}.toml"));
    let owner = if own { Owner::User } else { Owner::Project };
    if !own {
        refuse_linked(folder)?;
    }
    let Some(text) = file::read(&path, owner)? else { return Ok(None) };
    let file = path.display().to_string();
    let content = file::parse(&text, &file, Shape::Profile, providers)?;
    Ok(Some(Profile {
        name: name.to_owned(),
        file,
        source: if own { "user" } else { "project" },
        own,
        content,
    }))
}

/// A project's folder that is a link would lead out of the project.
fn refuse_linked(folder: &Path) -> Result<(), SettingsError> {
    for part in [folder.parent().unwrap_or(folder), folder] {
        if std::fs::symlink_metadata(part).is_ok_and(|meta| meta.is_symlink()) {
            return Err(SettingsError::Unsafe {
                path: part.to_owned(),
                why: "is a symbolic link".to_owned(),
                next_action: "put the folder itself there".to_owned(),
            });
        }
    }
    Ok(())
}

fn built_in(name: &str) -> Result<Option<Profile>, SettingsError> {
    let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else { return Ok(None) };
    let file = format!("built-in profile {name}");
    let content = file::parse(text, &file, Shape::Profile, &Providers::default())?;
    Ok(Some(Profile { name: (*name).to_owned(), file, source: "built-in", own: true, content }))
}

/// The profile of this name: the user's, the program's, the project's, in this order, so that a project cannot take the
/// place of one that is known.
pub(crate) fn find(
    name: &str,
    project: Option<&Path>,
    providers: &Providers,
) -> Result<Profile, SettingsError> {
    let missing = || SettingsError::NoProfile { name: name.to_owned(), known: names(project) };
    if !is_name(name) {
        return Err(missing());
    }
    let folders = folders(project);
    let of = |own: bool| {
        folders
            .iter()
            .find(|(_, of)| *of == own)
            .map_or(Ok(None), |(folder, _)| read(name, folder, own, providers))
    };
    let found = match of(true)? {
        Some(found) => Some(found),
        None => match built_in(name)? {
            Some(found) => Some(found),
            None => of(false)?,
        },
    };
    found.ok_or_else(missing)
}

/// All names, sorted.
pub(crate) fn names(project: Option<&Path>) -> Vec<String> {
    let mut names: Vec<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (folder, own) in folders(project) {
        if !own && refuse_linked(&folder).is_err() {
            continue;
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files =
            entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".toml").map(str::to_owned));
        names.extend(files.filter(|name| is_name(name)));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_program_are_sound() {
        for (name, _) in BUILT_IN {
            let profile = built_in(name).unwrap().unwrap();
            assert!(profile.content.description.is_some(), "{name}");
            assert!(!profile.content.entries.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["", ".", "..", "../x", "a/b", ".hidden", "a b"] {
            assert!(
                matches!(find(name, None, &Providers::default()), Err(SettingsError::NoProfile { .. })),
                "{name}"
            );
        }
    }
}
