//! `workflow`: the agent pack in the folders that OpenCode reads.

mod install;
mod live;
mod models;
