//! A scripted model server on loopback.
//!
//! What for: tests and the `demo` command need a model whose every answer is known beforehand, faults included,
//! without a network and without credentials. Who calls it: the integration tests of the workspace, `dx-testkit`,
//! and `dx-runner demo`. It must never listen on anything but 127.0.0.1, never start a process and never
//! outlive the [`ScriptedModel`] value that owns it.
//!
//! [`demo_agent`] is the other end: a tiny coding agent for machines on which no real one is installed.

mod api;
mod calls;
mod codex;
pub mod demo_agent;
mod hold;
mod http;
mod opencode;
mod percent;
mod play;
mod progress;
mod route;
mod sample;
mod scenario;
mod server;
mod tools;
mod workdir;

pub use calls::CallRecord;
pub use codex::codex_config;
pub use opencode::opencode_config;
pub use scenario::{RateLimit, Scenario, ScenarioError, Step};
pub use server::{ScriptedModel, ServerError};
