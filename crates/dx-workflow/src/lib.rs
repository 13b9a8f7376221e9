//! The agent pack and task files: their texts, what they allow, what is wrong with them.
//!
//! Used by the engine, which reads and writes the files, and by the reference. A crate of its own for its parser of YAML.
//! Pure: no I/O, no clock, no process. Must never: decide about a job.

mod boundary;
mod check;
mod definition;
mod findings;
mod keys;
mod pack;
mod permission;
mod prompt_needs;
mod roles;
mod shell;
pub mod task;
mod yaml;

pub use check::{Finding, Source, check};
pub use definition::{Broken, Definition, Effect, Rule};
pub use pack::{FILES, PackFile, VERSION, agents, hash, text_of};
pub use permission::{Decided, decide, effect, matches};
pub use roles::{reference, rules_of};
