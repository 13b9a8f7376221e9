//! Just enough HTTP/1.1 for a model server on loopback.
//!
//! What for: agents speak HTTP and the crate needs no framework. Called by `server`, `route` and `play`. Must never
//! buffer more than its limits.

mod read;
mod write;

pub(crate) use read::{ReadError, Request, read_request};
pub(crate) use write::{Sse, wait, write_page, write_partial};
