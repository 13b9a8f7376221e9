//! Configuration: files, variables and flags by one table of settings, merged by `dx-core`, with where each value is from.
//!
//! Called by: the use cases that start jobs or show configuration. Must never: be read on the way of `status`, `check`,
//! `wait` or `logs`; those go by what a job's record says.

mod error;
mod file;
mod gates;
mod layers;
mod profile;
mod show;
mod table;
mod value;

pub use error::{Place, SettingsError};
pub(crate) use file::{Content, group_may_write};
pub(crate) use layers::{Inputs, Layers, Looked, PROJECT_FILE};
pub use show::{SettingInfo, built_in_profiles, settings_reference};
pub(crate) use table::{
    AGENT, ALLOW_MODEL_OVERRIDE, ALLOWED_MODELS, BEADS, BEADS_REMOTE, BEADS_REPO_PATH, BEADS_TIMEOUT,
    CC_GLM_ALLOWED_MODELS, CC_GLM_BASE_URL, CC_GLM_CANONICAL_MODEL, CHECK, CLAUDE_CODE_ALLOWED_MODELS,
    CODEX_ALLOWED_MODELS, ENV, FALLBACK, FEATURE_KEY, GEMINI_ALLOWED_MODELS, GEMINI_CANONICAL_MODEL,
    GEMINI_NO_YOLO, LANE, MAX_RUNTIME, MODEL, MUTATION_BUDGET, NESTING, NO_MUTATION_TIMEOUT,
    OPENCODE_ALLOWED_MODELS, OPENCODE_CANONICAL_MODEL, PROVIDER, PTY, READ_ONLY, REQUIRE_COMMIT,
    REQUIRED_BASELINE, SANDBOX, SANDBOX_CACHES, SANDBOX_HIDE, SANDBOX_WRITE, SCOPE, SIGNOFF_FILE, STALL,
    Setting, WORKTREE_COPY, WORKTREE_SETUP,
};
pub(crate) use table::{ENDPOINTS, ROUTES};
pub(crate) use value::Kind;

use std::path::Path;

/// Refuses an adapter script that others than the user could have written.
pub(crate) fn check_script(path: &Path) -> Result<(), SettingsError> {
    match file::read(path, file::Owner::User)? {
        Some(_) => Ok(()),
        None => Err(SettingsError::Unreadable {
            path: path.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        }),
    }
}

/// What a project's file says; nothing when it is not there.
pub(crate) fn project_file(path: &Path) -> Result<Content, SettingsError> {
    match file::read(path, file::Owner::Project)? {
        Some(text) => parse_project(&text, &path.display().to_string()),
        None => Ok(Content::default()),
    }
}

/// Takes apart what a project's file says.
pub(crate) fn parse_project(text: &str, file: &str) -> Result<Content, SettingsError> {
    file::parse(text, file, file::Shape::Project, &crate::providers::Providers::open())
}
