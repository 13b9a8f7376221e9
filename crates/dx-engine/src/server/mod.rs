//! OpenCode servers: the shared one of ours, finding one, and whether one can be used.
//!
//! Called by: the commands `server` and `probe-attach`, and everything that asks a server. Must never: start a server
//! without being told to.

mod access;
mod find;
mod managed;
mod models;
mod probe;
mod shell;

pub(crate) use access::{Access, run_at};
pub(crate) use models::{in_directory, is_connected};
pub(crate) use probe::is_old;
pub(crate) use shell::Began;
pub use shell::{SHELL, shell};

use dx_opencode::ClientError;
use dx_protocol::ReasonCode;

/// Why a server cannot be used, in the table's words.
pub(crate) fn reason_of(error: &ClientError) -> ReasonCode {
    match error {
        ClientError::Http { .. } => ReasonCode::ServerUnreachable,
        ClientError::Password { .. } => ReasonCode::ServerPasswordRefused,
        ClientError::NotOpencode { .. } => ReasonCode::ServerNotOpencode,
        ClientError::Api2 { .. } => ReasonCode::ServerApiUnsupported,
        ClientError::Unhealthy { .. } => ReasonCode::ServerUnhealthy,
        ClientError::Refused { .. } | ClientError::Unreadable { .. } => ReasonCode::ServerRefused,
    }
}
