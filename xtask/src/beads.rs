//! The real `bd` of the soak suite `beads`: `br` of the crate `beads_rust`, the one that the registries have, built once
//! into the cache folder.
//!
//! For: a test of the Beads gate against a real store. The version is the newest that builds with a stable compiler, for
//! which some of its features must be unlocked.
//! Called by: `soak`.
//! Must never: build twice at once, or leave a half-made folder under its final name.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, workspace};

/// Crate, version, program.
const CRATE: &str = "beads_rust";
const VERSION: &str = "0.2.11";
const PROGRAM: &str = "br";

/// Tells the tests where the program is.
pub(crate) const BEADS_PROGRAM: &str = "DX_TEST_BD";

/// Builds it unless it is there, and returns its path. Takes minutes the first time.
pub(crate) fn install() -> Result<PathBuf, Failure> {
    let all = workspace::cache_dir()?.join("beads");
    fs::create_dir_all(&all).map_err(|e| format!("{}: {e}", all.display()))?;
    let lock = File::create(all.join(".lock")).map_err(|e| format!("{}: {e}", all.display()))?;
    lock.lock().map_err(|e| format!("{}: {e}", all.display()))?;
    let home = all.join(VERSION);
    let program = home.join("bin").join(PROGRAM);
    if program.is_file() {
        println!("   already installed: {}", program.display());
        return Ok(program);
    }
    let stage = all.join(".unfinished");
    // What an interrupted build left; the lock is held.
    drop(fs::remove_dir_all(&stage));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["install", "--locked", "--jobs", "1", "--no-default-features", "--root"])
        .arg(&stage)
        .arg(format!("{CRATE}@{VERSION}"))
        .env("RUSTC_BOOTSTRAP", "1")
        // Not among this workspace's.
        .env("CARGO_TARGET_DIR", stage.join("target"))
        .env_remove("RUSTFLAGS");
    workspace::run(&mut build)?;
    drop(fs::remove_dir_all(stage.join("target")));
    fs::rename(&stage, &home).map_err(|e| format!("{}: {e}", home.display()))?;
    Ok(program)
}
