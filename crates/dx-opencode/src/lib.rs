//! A client for `opencode serve` (the API of 1.x), and the small HTTP layer under it.
//!
//! For: everything that speaks to an OpenCode server, and members that are asked over plain HTTP. Every call has a
//! deadline, every body is parsed: an OpenCode server answers an unknown route with its web page and status 200.
//! Called by: `dx-engine`. Must never: write a file, start a process, keep a password in an error, or wait without end.

mod client;
mod error;
mod events;
mod http;
mod types;

pub use client::{Client, PATIENCE};
pub use error::ClientError;
pub use events::{Event, Events};
pub use http::{Answer, Http, HttpError};
pub use types::*;
