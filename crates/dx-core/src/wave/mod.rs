//! Waves: the graph of their items, what their journal adds up to, and what is to be done next. Pure.

mod decide;
mod fold;
mod graph;
mod notice;
mod scope;

pub use decide::{Next, Step, next_steps, state_of};
pub use fold::{Attempt, Item, Merge, Parked, Phase, Wave, fold};
pub use graph::Graph;
pub use notice::Notices;
pub use scope::overlap;
