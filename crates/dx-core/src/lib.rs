//! Pure decisions: what a job's records add up to, how it ended, how it is doing. Facts and times are arguments; nothing
//! here reads a file, a clock or a process.

pub mod duration;
mod fold;
mod gates;
mod health;
mod notice;
mod outcome;
pub mod settings;
pub mod signoff;
pub mod watchdog;
pub mod wave;

pub use fold::{IllegalEvent, Phase, Run, fold, limit_end};
pub use gates::{check_is_due, commit_gate, gates_due, read_only_gate};
pub use health::{Judgement, Observation, WaitKind, classify};
pub use notice::job_notices;
pub use outcome::{Ended, decide, ended_for};
