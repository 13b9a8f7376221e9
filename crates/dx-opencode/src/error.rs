//! Everything a call to an OpenCode server can fail with.
//!
//! Called by: the client. Must never: hold a password.

use crate::http::HttpError;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No server, no answer in time, or a broken connection.
    #[error("{url}: {source}")]
    Http { url: String, source: HttpError },
    /// It wants a password, or another one.
    #[error("{url} asks for a password{}", if *.given { ", and not for this one" } else { "" })]
    Password { url: String, given: bool },
    /// Something else listens there.
    #[error("{url} is no OpenCode server: {found}")]
    NotOpencode { url: String, found: String },
    /// An OpenCode server with an API that this client does not speak.
    #[error("{url} is OpenCode {version}, whose API is another one (2.x)")]
    Api2 { url: String, version: String },
    /// It says of itself that it is not well.
    #[error("{url} answers, but says that it is not healthy")]
    Unhealthy { url: String },
    /// It refused the call.
    #[error("the server refused to {what} ({status} {name}): {message}")]
    Refused { what: &'static str, status: u16, name: String, message: String },
    /// It answered something that cannot be read.
    #[error("the server's answer to `{what}` cannot be read (status {status}): {body}")]
    Unreadable { what: &'static str, status: u16, body: String },
}

impl ClientError {
    /// Whether time ran out.
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Http { source: HttpError::Deadline(_), .. })
    }

    /// Whether nobody could be asked at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Http { .. })
    }
}
