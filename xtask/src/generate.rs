//! `cargo xtask gen`: references and schemas that are made from the code.
//!
//! For: documents that cannot fall behind the program.
//! Called by: `main`.
//! Must never: write anything with `--check`.

use crate::Failure;

/// Writes the generated files; with `check` writes nothing and fails when one would change, naming it.
pub(crate) fn run(check: bool) -> Result<(), Failure> {
    // To build: one list of (path, content), then either write it or compare it; add `gen --check` to `test::STEPS`.
    let what = if check { "gen --check" } else { "gen" };
    Err(format!("{what}: not built yet"))
}
