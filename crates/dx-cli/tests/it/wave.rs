//! Waves from outside: files that are refused, graphs, whole runs of scripted agents, kills of the coordinator.

mod beads;
mod cut;
mod fallback;
mod files;
mod kills;
mod meanwhile;
pub(crate) mod notify;
mod real;
mod runs;
pub(crate) mod world;
