//! Where Gemini CLI's credentials will come from: by name only, never by value.
//!
//! Refuses a start only when there is nothing that Gemini CLI could use: it would exit with 41 before it asks a model.
//! Must never: read a credential, or decide for Gemini CLI between two of them.

use super::{folder, value};
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use std::ffi::OsString;
use std::path::Path;

/// What was found.
pub(super) struct Found {
    pub(super) source: String,
    /// What the agent's environment needs beside it.
    pub(super) env: Option<(&'static str, String)>,
}

/// Says that a Google API key is for Vertex AI: the only use Gemini CLI has for one.
const VERTEX: &str = "GOOGLE_GENAI_USE_VERTEXAI";
/// Variables that choose a kind of credentials that is kept elsewhere.
const KINDS: [&str; 3] = ["GOOGLE_GENAI_USE_GCA", VERTEX, "GEMINI_CLI_USE_COMPUTE_ADC"];
/// Files of a login, below its folder.
const LOGINS: [&str; 2] = ["oauth_creds.json", "gemini-credentials.json"];
/// How the chosen kind of credentials is called in its settings, now and formerly.
const CHOSEN: [&str; 2] = ["selectedType", "selectedAuthType"];
/// Its settings for all users.
const SYSTEM: &str = "/etc/gemini-cli/settings.json";

/// The source that Gemini CLI will use, as far as can be seen from outside.
pub(super) fn find(env: &[(OsString, OsString)], worktree: &Path) -> Result<Found, EngineError> {
    let folder = folder(env);
    let folder = folder.as_deref();
    let set = |name: &&str| value(env, name).is_some();
    let found = |source: String| Ok(Found { source, env: None });
    if set(&"GEMINI_API_KEY") {
        return found("variable GEMINI_API_KEY".to_owned());
    }
    if set(&"GOOGLE_API_KEY") {
        let env = KINDS.iter().all(|name| !set(name)).then(|| (VERTEX, "true".to_owned()));
        return Ok(Found { source: "variable GOOGLE_API_KEY".to_owned(), env });
    }
    if let Some(name) = KINDS.iter().find(|name| set(name)) {
        return found(format!("what {name} chooses"));
    }
    let below = |name: &str| folder.is_some_and(|folder| folder.join(name).is_file());
    if LOGINS.iter().any(|name| below(name)) {
        return found("Gemini CLI's cached login".to_owned());
    }
    let system = value(env, "GEMINI_CLI_SYSTEM_SETTINGS_PATH").map_or(Path::new(SYSTEM), Path::new);
    let own = folder.map(|folder| folder.join("settings.json"));
    if own.iter().map(AsRef::as_ref).chain([system]).any(chooses) {
        return found("what Gemini CLI's settings choose".to_owned());
    }
    // The first of these that it finds is read, from the worktree upwards and then at home.
    let homes = folder.and_then(Path::parent);
    if worktree
        .ancestors()
        .chain(homes)
        .any(|dir| dir.join(".gemini/.env").is_file() || dir.join(".env").is_file())
    {
        return found("a .env file, if it names some".to_owned());
    }
    Err(EngineError::Provider {
        reason: ReasonCode::GeminiAuthMissing,
        message: "no credentials for Gemini CLI were found".to_owned(),
        next_action: None,
    })
}

fn chooses(settings: &Path) -> bool {
    let text = std::fs::read_to_string(settings).unwrap_or_default();
    CHOSEN.iter().any(|key| text.contains(key))
}
