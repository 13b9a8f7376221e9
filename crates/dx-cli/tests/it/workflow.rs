//! `workflow`: the agent pack in the folders that OpenCode reads.

mod guide;
mod inside;
mod install;
pub(crate) mod live;
mod models;
mod roles;
