//! Why a command failed, with everything that its user is told: reason, causes, next action, exit code.
//!
//! Called by: every command. Must never: print (that is `output`), or lose the cause it was made from.

use dx_protocol::{ErrorBody, ErrorDocument, ExitCode, ReasonCode};
use std::fmt::Write;
use std::io;

use dx_engine::EngineError;

/// Schema word of the error document.
const SCHEMA: &str = "dx-runner/error/1";

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The command line refused.
    #[error("{message}")]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// What was wrong.
        message: String,
        /// What to do; `None`: what the reason code says.
        next_action: Option<String>,
    },
    /// A file or stream could not be read or written.
    #[error("failed to {what}")]
    Io {
        /// As in "failed to …".
        what: String,
        /// Why, in the table's words.
        reason: ReasonCode,
        /// What the system said.
        source: io::Error,
    },
    /// A system call for waiting failed.
    #[error("failed to wait for what happens next")]
    Wait(#[from] dx_proc::Error),
    /// A document could not be written as JSON.
    #[error("failed to write a document as JSON")]
    Json(#[from] serde_json::Error),
}

impl CliError {
    /// A refusal with the reason code's own next action.
    pub(crate) fn refused(reason: ReasonCode, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into(), next_action: None }
    }

    /// The same, with the next action.
    pub(crate) fn refused_try(
        reason: ReasonCode,
        message: impl Into<String>,
        next_action: impl Into<String>,
    ) -> Self {
        Self::Refused { reason, message: message.into(), next_action: Some(next_action.into()) }
    }

    /// A failed read of a record's file.
    pub(crate) fn reading(path: &std::path::Path, source: io::Error) -> Self {
        Self::Io { what: format!("read {}", path.display()), reason: ReasonCode::RecordUnreadable, source }
    }

    /// The word from the closed set.
    pub(crate) fn reason(&self) -> ReasonCode {
        match self {
            Self::Engine(error) => error.reason(),
            Self::Refused { reason, .. } | Self::Io { reason, .. } => *reason,
            Self::Wait(_) | Self::Json(_) => ReasonCode::Internal,
        }
    }

    /// What to do next; `-` when there is nothing.
    pub(crate) fn next_action(&self) -> String {
        match self {
            Self::Engine(error) => error.next_action(),
            Self::Refused { next_action: Some(text), .. } => text.clone(),
            _ => self.reason().next_action().to_owned(),
        }
    }

    /// What the program ends with. Never 0: a failure with a reason of a live job would be one of ours.
    pub(crate) fn exit_code(&self) -> ExitCode {
        let code = match self {
            Self::Engine(error) => error.exit_code(),
            _ => self.reason().exit_code(),
        };
        if code == ExitCode::Ok { ExitCode::Error } else { code }
    }

    /// The causes behind the message, outermost first; none repeats what its error says already.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut said = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.ends_with(&text) {
                causes.push(text.clone());
            }
            said = text;
            next = cause.source();
        }
        causes
    }

    /// As `--json` shows it.
    pub(crate) fn document(&self) -> ErrorDocument {
        ErrorDocument {
            schema: SCHEMA.to_owned(),
            error: ErrorBody {
                reason_code: self.reason(),
                message: self.to_string(),
                causes: self.causes(),
                next_action: self.next_action(),
                exit_code: self.exit_code().code(),
            },
        }
    }

    /// As people see it.
    pub(crate) fn text(&self) -> String {
        // Writing to a String cannot fail.
        let mut text = format!("error: {self}\n");
        for cause in self.causes() {
            let _ignored = writeln!(text, "  cause: {cause}");
        }
        let _ignored = writeln!(text, "  reason: {}", self.reason());
        let next = self.next_action();
        if !matches!(next.as_str(), "" | "-") {
            let _ignored = writeln!(text, "  try: {next}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_everything_and_is_never_zero() {
        let source = io::Error::other("disk gone");
        let error = CliError::reading(std::path::Path::new("/x/log"), source);
        assert_eq!(
            error.text(),
            "error: failed to read /x/log\n  cause: disk gone\n  reason: record_unreadable\n  try: look at the file that is named\n"
        );
        assert_eq!(error.document().error.causes, ["disk gone"]);
        assert_eq!(error.exit_code(), ExitCode::Format);
        assert_eq!(CliError::refused(ReasonCode::ProviderEvent, "x").exit_code(), ExitCode::Error);
    }
}
