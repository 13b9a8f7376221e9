//! The gates of a job before it starts: as they are recorded, and what of them can be refused at once.
//!
//! Called by `prepare`. Must never: judge what a job did; that is `crate::gates` at its end.

use crate::error::EngineError;
use crate::gates;
use crate::gates::scope::Scope;
use crate::git::Repository;
use crate::secrets::is_masked;
use dx_protocol::{BeadsId, GateReport, Gates, ReasonCode};

/// As a feature key: the job's id.
const OWN_KEY: &str = "job";

/// With the job's own id where a key is asked for by the word for it.
pub(super) fn gates_of(gates: &Gates, beads: &BeadsId) -> Gates {
    let key = |key: &String| if key == OWN_KEY { beads.to_string() } else { key.clone() };
    Gates { feature_keys: gates.feature_keys.iter().map(key).collect(), ..gates.clone() }
}

/// What can be refused before anything is made: gates that could never be answered, and the baseline.
pub(super) fn gates_at_start(gates: &Gates, repository: Option<&Repository>) -> Result<(), EngineError> {
    if gates.check.as_ref().is_some_and(|command| command.trim().is_empty() || command.contains('\0')) {
        return Err(EngineError::Argument("--check takes a command".to_owned()));
    }
    // It is run from the record.
    if gates.check.as_ref().is_some_and(|command| is_masked(command)) {
        let message = "--check holds a secret, and it would be recorded; let the command read it from a file";
        return Err(EngineError::Argument(message.to_owned()));
    }
    if let Some(key) = gates.feature_keys.iter().find(|key| !gates::feature_key::is_key(key)) {
        let details = format!("`{key}` is no key");
        let report = GateReport::new(false, ReasonCode::FeatureKeyInvalidFormat, details);
        return Err(EngineError::Gate(report));
    }
    Scope::parse(&gates.scopes(), &gates.forbidden)?;
    let asks_git = gates.require_commit
        || gates.read_only
        || gates.judges_paths()
        || !gates.feature_keys.is_empty()
        || gates.baselines().next().is_some();
    let Some(repository) = repository else {
        let details = "gates that look at commits or changed paths need a worktree of a git repository";
        let report = GateReport::new(false, ReasonCode::NotAGitRepo, details);
        return if asks_git { Err(EngineError::Gate(report)) } else { Ok(()) };
    };
    for required in gates.baselines() {
        let report = gates::baseline(repository, required)?.report;
        if !report.passed {
            return Err(EngineError::Gate(report));
        }
    }
    Ok(())
}
