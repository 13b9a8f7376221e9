//! Where the `fake-agent` binary is.
//!
//! For: tests of other packages, for which cargo sets no `CARGO_BIN_EXE_fake-agent`.
//! Called by: tests, and `TestEnv::fake_agent`.
//! Must never: build into another target folder than the running test's own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of the `fake-agent` binary, built first when it is missing or older than its source.
///
/// The build happens at most once per test process; two processes at once are kept apart by cargo's own lock.
///
/// # Panics
/// When the test executable is not in a cargo target folder, or the build fails (with what cargo printed).
pub fn fake_agent() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(locate).clone()
}

fn locate() -> PathBuf {
    let exe =
        std::env::current_exe().unwrap_or_else(|error| panic!("no path of the test executable: {error}"));
    // target/<profile>/deps/<test> or target/<profile>/<binary>; documentation tests run from elsewhere.
    let Some(profile_dir) =
        exe.ancestors().skip(1).find(|dir| !dir.ends_with("deps") && !dir.ends_with("examples"))
    else {
        panic!("{} is not in a cargo target folder", exe.display());
    };
    let binary = profile_dir.join("fake-agent");
    if !is_current(&binary) {
        build(profile_dir);
        assert!(binary.exists(), "cargo built fake-agent, but not at {}", binary.display());
    }
    binary
}

/// Whether the binary exists and no file of its source is younger.
fn is_current(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|meta| meta.modified()) else { return false };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/fake-agent");
    newest(&sources).is_none_or(|changed| changed <= built)
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

fn build(profile_dir: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let Some(target_dir) = profile_dir.parent() else { panic!("{} has no parent", profile_dir.display()) };
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--package", "dx-testkit", "--bin", "fake-agent", "--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo to build fake-agent: {error}"));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "building fake-agent failed with {}:\n{printed}", output.status);
}
