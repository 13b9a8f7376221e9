//! Pure parsers of coding agents' output: bytes in, [`AgentEvent`]s of `dx-protocol` out.
//!
//! Called by the monitor while it tails a job's log, by the settler for the final verdict, and by `logs`, `check`
//! and friends when they read a log again. Never does I/O, looks at a clock, keeps more than a bounded buffer,
//! or fails: what it cannot read stays in the log and is counted.
//!
//! [`AgentEvent`]: dx_protocol::AgentEvent

mod claude;
mod claude_error;
mod claude_record;
mod clean;
mod codex;
mod codex_error;
mod gemini;
mod gemini_error;
mod gemini_record;
mod instant;
mod lines;
mod loose;
pub mod mask;
mod opencode;
mod opencode_error;
mod opencode_status;
mod parser;
mod render;
mod squeeze;
mod stderr;
mod summary;

pub use clean::{MESSAGE_MAX, printable};
pub use dx_protocol::{Grammar, ProviderVerdict};
pub use lines::{Line, LineSplitter, MAX_LINE};
pub use opencode_error::{SERVER_LOST, opencode_error_class};
pub use opencode_status::opencode_retry_class;
pub use parser::Parser;
pub use render::render;
pub use stderr::stderr_event;
pub use summary::{EventKind, LastError, LastResult, Summary, ToolCount, Waiting, trouble_of};
