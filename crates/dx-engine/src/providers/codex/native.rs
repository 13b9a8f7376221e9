//! The program behind npm's wrapper.
//!
//! The `codex` that npm puts on PATH is a script that starts the real program and passes signals on. A job that ran it
//! would have the wrapper's process as its agent, and a kill of the wrapper would leave the agent at work until the sweep.
//! Must never guess: whatever does not look like npm's package is run as it is.

use std::path::{Path, PathBuf};

/// The real program of this `codex`, or this one.
pub(super) fn behind(codex: PathBuf) -> PathBuf {
    let native = codex.canonicalize().ok().and_then(|script| find(&script));
    native.unwrap_or(codex)
}

/// Where Node.js would look for the package of this platform, and where older versions had it in their own.
fn find(script: &Path) -> Option<PathBuf> {
    let package = script.parent()?.parent()?;
    if !script.ends_with("@openai/codex/bin/codex.js") {
        return None;
    }
    let (platform, target) = match std::env::consts::ARCH {
        "x86_64" => ("codex-linux-x64", "x86_64-unknown-linux-musl"),
        "aarch64" => ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
        _ => return None,
    };
    let program = |package: PathBuf| package.join("vendor").join(target).join("bin/codex");
    let beside = package.ancestors().map(|folder| folder.join("node_modules/@openai").join(platform));
    beside
        .chain([package.to_owned()])
        .map(program)
        .find(|path| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn executable(path: &Path) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn npms_wrapper_is_passed_over_and_nothing_else() {
        let (platform, target) = match std::env::consts::ARCH {
            "x86_64" => ("codex-linux-x64", "x86_64-unknown-linux-musl"),
            "aarch64" => ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
            other => panic!("no Codex for {other}"),
        };
        let tmp = tempfile::tempdir().unwrap();
        let modules = tmp.path().join("lib/node_modules/@openai");
        executable(&modules.join("codex/bin/codex.js"));
        let on_path = tmp.path().join("codex");
        symlink("lib/node_modules/@openai/codex/bin/codex.js", &on_path).unwrap();
        assert_eq!(behind(on_path.clone()), on_path, "nothing else is there");
        let vendor = format!("vendor/{target}/bin/codex");
        // The three places, the one that Node.js would take last made last.
        for package in [
            modules.join("codex"),
            modules.join(platform),
            modules.join("codex/node_modules/@openai").join(platform),
        ] {
            let native = executable(&package.join(&vendor));
            assert_eq!(behind(on_path.clone()), native);
        }
        let other = executable(&tmp.path().join("other/bin/codex"));
        assert_eq!(behind(other.clone()), other);
    }
}
