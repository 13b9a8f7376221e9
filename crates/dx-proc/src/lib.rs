//! Process primitives of dx-runner: identity, pidfd, wait, spawn, tree, subreaper, signals, poll, inotify,
//! clocks, sandbox.
//!
//! Used by the monitor, the launcher, the engine and tests. It is the only crate with unsafe code, and it is linked
//! into the tiny monitor process: no threads, no big dependencies, no policy. It must never decide about a job; it
//! only tells what the kernel says and does what it is told.

mod child;
pub mod clock;
mod detached;
pub mod error;
pub mod identity;
pub mod inherit;
pub mod inotify;
pub mod listener;
pub mod memory;
pub mod pidfd;
pub mod poll;
mod program;
pub mod pty;
pub mod sandbox;
pub mod signals;
pub mod spawn;
mod stat;
pub mod subreaper;
pub mod sweep;
pub mod tree;
pub mod wait;
pub mod write_alarm;

pub use error::{Error, Result};
pub use identity::{Host, Liveness, ProcessIdentity, boot_id, command_name, hostname, pid_namespace};
pub use pidfd::PidFd;
pub use signals::{Received, SignalFd};
pub use spawn::{
    AgentCommand, ForkResult, Held, Released, fork_held, fork_here, spawn_detached, umask_of_self,
};
pub use sweep::{ChildrenState, reap_zombies};
pub use wait::{AnyChild, ExitStatus};
pub use write_alarm::WriteAlarm;
