//! `cargo xtask bench`: the benchmarks.
//!
//! For: numbers to quote, each beside a bare `fork+exec` baseline of the same run.
//! Called by: `main`.
//! Must never: print a number that was not measured in this run.

use crate::Failure;

/// Runs the benchmarks of the workspace; with `peers` also the same work by other programs, where installed.
pub(crate) fn run(peers: bool) -> Result<(), Failure> {
    // To build: measure here, or run the benchmark binary with `workspace::cargo()` and pass its status on.
    let what = if peers { "bench --peers" } else { "bench" };
    Err(format!("{what}: not built yet"))
}
