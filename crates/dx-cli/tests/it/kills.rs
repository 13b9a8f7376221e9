//! What is true after SIGKILL of our own processes: at every named step, one after the other, both at once, at random.
//!
//! For: invariants 2, 3 and 4. `soak.rs` uses `random` and `world` for the long runs. Must never: accept a step that was
//! not reached.

mod both;
pub(crate) mod random;
mod sequence;
mod steps;
pub(crate) mod world;

/// `DX_KILL_RUNS` and `DX_KILL_SEED` make it longer or other; a failure names the seed of its job.
#[test]
fn one_of_ours_is_killed_at_a_random_instant() {
    let seed = random::number("DX_KILL_SEED").unwrap_or(1);
    random::kill_at_random_instants(random::number("DX_KILL_RUNS").unwrap_or(100), seed);
}
