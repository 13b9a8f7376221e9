//! The supervisor of one job: monitor, launcher and guard.
//!
//! ```text
//! start ──▶ monitor ──fork──▶ launcher ──fork──▶ agent
//!              ▲                  │
//!              └── --adopt ───────┘  a monitor that died without an end record is replaced by its partner
//! ```
//!
//! One poll loop each, one thread, no async runtime. Nobody here ever stands between the agent and its log, and no
//! failed write may end a process of ours while the agent lives.

/// A hash of the sources that a monitor is made of. `dx-runner` and `dx-monitor` pass plans and descriptors to each other,
/// so they must be of one build.
pub const BUILD: &str = env!("DX_MONITOR_BUILD");

mod args;
mod context;
mod cpu;
mod end;
mod finish;
mod guard;
mod handover;
mod helper;
mod identity;
mod launch;
mod launcher;
mod limits;
mod log;
mod masked_file;
mod members;
mod pace;
mod partner;
mod passed;
mod plan;
mod pty;
mod secrets;
mod supervise;
mod witness;

pub use args::BUILD_ENTRY;
pub use args::{
    AGENT_FD, ALLOCATOR_SETTINGS, ENTRY, Invocation, JOURNAL_FD, MARKER, PLAN_FD, READY_FD, SECRETS_FD,
    SETTLER_FD,
};
pub use end::{end_tree, sweep_marked};
pub use finish::{FinishError, finish};
pub use handover::{ADAPTER_MODE, rc_of};
pub use identity::{process_of, record_of};
pub use masked_file::{Access, MaskedFile};
pub use plan::Plan;
pub use secrets::SecretValues;
pub use supervise::main;
