//! The published contract of dx-runner: what is on disk, what is printed as JSON, what exit codes mean.
//!
//! Types and tables only: no I/O, no clock, no process. Every crate may use it; it uses none of ours.
//! Formats only grow: a field may be added, never renamed, retyped or removed, and old records load for ever.

mod agent_event;
mod bench;
mod config_document;
mod document;
mod exit_code;
mod exit_record;
mod gate;
mod history;
mod identity;
mod ids;
mod journal;
mod observation;
mod outcome;
mod output_rules;
mod preflight;
mod reason;
mod report;
mod request;
mod sandbox;
mod server;
mod spec;
mod state;
mod task;
mod timestamp;
mod verdict;
mod watchdog;
mod wave;
mod wave_document;
mod wave_notice;
mod workflow;
mod worktree;

pub use agent_event::*;
pub use bench::*;
pub use config_document::*;
pub use document::*;
pub use exit_code::*;
pub use exit_record::*;
pub use gate::*;
pub use history::*;
pub use identity::*;
pub use ids::*;
pub use journal::*;
pub use observation::*;
pub use outcome::*;
pub use output_rules::*;
pub use preflight::*;
pub use reason::*;
pub use report::*;
pub use request::*;
pub use sandbox::*;
pub use server::*;
pub use spec::*;
pub use state::*;
pub use task::*;
pub use timestamp::*;
pub use verdict::*;
pub use watchdog::*;
pub use wave::*;
pub use wave_document::*;
pub use wave_notice::*;
pub use workflow::*;
pub use worktree::*;
