//! `probe-attach`: whether jobs can run on a server, without asking a model.
//!
//! Must never: take longer than its bound, or leave a session.

use super::reason_of;
use crate::Engine;
use crate::error::EngineError;
use dx_opencode::{Client, ClientError};
use dx_protocol::{ExitCode, ProbeAttachDocument, ReasonCode};
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything together.
const BOUND: Duration = Duration::from_secs(10);
/// Kept for the deletion of what was made.
const FOR_DELETION: Duration = Duration::from_secs(2);
/// Servers before this one end attached runs with "No context found for instance" (tried: 1.2.6).
const FIRST_WITH_CONTEXT: (u32, u32) = (1, 3);

/// What was found so far.
struct Found {
    version: String,
    reason: ReasonCode,
    details: String,
    next_action: Option<String>,
}

impl Engine {
    /// Probes a server. A server that cannot be used is an answer, not an error.
    pub fn probe_attach(&self, url: &str, directory: Option<&Path>) -> ProbeAttachDocument {
        let found =
            self.client(url).map_or_else(|error| failed(&error, "-"), |client| probe(&client, directory));
        let exit_code = match found.reason {
            ReasonCode::AttachReady => ExitCode::Ok,
            reason if reason.exit_code() == ExitCode::BeadsGate => ExitCode::BeadsGate,
            _ => ExitCode::Error,
        };
        ProbeAttachDocument {
            schema: "dx-runner/probe-attach/1".to_owned(),
            url: url.to_owned(),
            status: if exit_code == ExitCode::Ok { "ok" } else { "failed" }.to_owned(),
            exit_code: exit_code.code(),
            reason_code: found.reason,
            version: found.version,
            details: found.details,
            next_action: found.next_action.unwrap_or_else(|| found.reason.next_action().to_owned()),
        }
    }
}

fn failed(error: &EngineError, version: &str) -> Found {
    Found {
        version: version.to_owned(),
        reason: error.reason(),
        details: error.to_string(),
        next_action: Some(error.next_action()),
    }
}

fn probe(client: &Client, directory: Option<&Path>) -> Found {
    let until = Instant::now() + BOUND.saturating_sub(FOR_DELETION);
    let left = || until.saturating_duration_since(Instant::now());
    let health = match client.health(left()) {
        Ok(health) => health,
        Err(error) => {
            let version =
                if let ClientError::Api2 { version, .. } = &error { version.clone() } else { "-".to_owned() };
            return failed(&error.into(), &version);
        }
    };
    let found =
        |reason, details| Found { version: health.version.clone(), reason, details, next_action: None };
    if is_old(&health.version) {
        let details = format!("OpenCode {} cannot run attached jobs", health.version);
        return found(ReasonCode::AttachVersionUnsupported, details);
    }
    let client = match directory {
        // The server would take any name and work in nothing.
        Some(path) if !path.is_dir() => {
            let details = format!("there is no directory {}", path.display());
            return found(ReasonCode::AttachDirectoryMissing, details);
        }
        Some(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            client.in_directory(&path.to_string_lossy())
        }
        None => client.clone(),
    };
    let no_context = |error: ClientError| match error {
        ClientError::Refused { .. } | ClientError::Unreadable { .. } => {
            found(ReasonCode::AttachNoContext, error.to_string())
        }
        error if error.is_deadline() => found(ReasonCode::AttachNoContext, error.to_string()),
        error => Found { reason: reason_of(&error), ..found(ReasonCode::Internal, error.to_string()) },
    };
    let agents = match client.agents(left()) {
        Ok(agents) => agents.iter().filter(|agent| agent.mode != "subagent").count(),
        Err(error) => return no_context(error),
    };
    if agents == 0 {
        return found(
            ReasonCode::AttachNoContext,
            "the server lists no agent that can lead a run".to_owned(),
        );
    }
    match client.create_session("dx-runner probe", &[], None, left()) {
        Err(error) => no_context(error),
        Ok(session) => match client.delete(&session.id, FOR_DELETION) {
            Ok(()) => found(ReasonCode::AttachReady, format!("{agents} agents can lead a run")),
            Err(error) => no_context(error),
        },
    }
}

/// Whether a server is of a version whose attached runs fail.
pub(crate) fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < FIRST_WITH_CONTEXT,
        // One that does not tell is asked.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn versions_without_context() {
        assert!(is_old("1.2.6") && is_old("0.15.3"));
        assert!(!is_old("1.18.33") && !is_old("1.3.0") && !is_old("dev"));
    }
}
