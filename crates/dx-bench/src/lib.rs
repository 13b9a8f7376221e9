//! The benchmark of the lanes: real jobs through the same engine as every other job, figures with their intervals, reports.
//!
//! A run is a folder: its plan, a record for each job that has ended, and what is made from these. Records are the truth;
//! everything else is made again from them at any time. Must never: count what was not run, or show a figure without what
//! it rests on.

mod answer;
mod changed;
mod collect;
mod compare;
mod error;
mod folder;
mod gates;
mod governed;
mod html;
mod job;
mod jobs;
mod judge;
mod markdown;
mod plan;
mod plots;
mod progressive;
pub mod prompts;
mod render;
mod servers;
pub mod stats;
mod summary;
mod workflow;

pub use changed::Change;
pub use compare::compare;
pub use error::BenchError;
pub use folder::Folder;
pub use governed::{News, Request, dry_run, run};
pub use markdown::{fallbacks, succeed_differently, told, verdict};
pub use progressive::{PHASES, ProgressiveRequest, progressive};
pub use render::render;
pub use workflow::WORKFLOWS;
