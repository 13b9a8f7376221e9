//! A real git for the unit tests of this crate: no configuration but its own, and every failure is the test's.
//!
//! Must never: be part of a build that is not a test's.

use std::path::Path;
use std::process::Command;

/// The trimmed output of one call in `dir`.
#[track_caller]
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "commit.gpgsign=false"];
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).args(identity).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}
