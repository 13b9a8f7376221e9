//! Pure decisions: what a job's records add up to, how it ended, how it is doing. Facts and times are arguments; nothing
//! here reads a file, a clock or a process.

mod fold;
mod health;
mod outcome;

pub use fold::{IllegalEvent, Phase, Run, fold};
pub use health::{Judgement, Observation, WaitKind, classify};
pub use outcome::{Ended, decide};
