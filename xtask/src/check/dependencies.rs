//! Rules about dependencies: how many, from where, and what the monitor may carry.
//!
//! For: `check`. The monitor lives as long as its agent, once per job: what it links is memory times jobs.
//! Called by: its table of rules.
//! Must never: widen the monitor's list without a reason in the row.

use super::{Findings, TextFile};
use crate::{Failure, workspace};

/// Crates in the lock file, ours included.
const MOST_CRATES: usize = 220;

/// The registry every crate comes from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What may be among the monitor's normal dependencies, and why.
#[rustfmt::skip]
const MONITOR_MAY_USE: &[(&str, &str)] = &[
    ("dx-monitor", "itself"),
    ("dx-protocol", "the contract"),
    ("dx-core", "the decisions"),
    ("dx-proc", "processes"),
    ("dx-jobdir", "the records"),
    ("dx-events", "the parsers"),
    ("serde", "records"), ("serde_core", "serde"), ("serde_derive", "serde, compile time"),
    ("serde_json", "records"), ("itoa", "serde_json"), ("memchr", "serde_json"), ("zmij", "serde_json: floats"),
    ("schemars", "the contract describes itself"), ("dyn-clone", "schemars"), ("ref-cast", "schemars"),
    ("ref-cast-impl", "schemars, compile time"), ("schemars_derive", "schemars, compile time"),
    ("serde_derive_internals", "schemars, compile time"),
    ("thiserror", "errors"), ("thiserror-impl", "thiserror, compile time"),
    ("rustix", "system calls"), ("linux-raw-sys", "rustix"), ("bitflags", "rustix"), ("libc", "what rustix does not wrap"),
    ("proc-macro2", "compile time"), ("quote", "compile time"), ("syn", "compile time"), ("unicode-ident", "compile time"),
];

fn file<'a>(files: &'a [TextFile], path: &str) -> Option<&'a TextFile> {
    files.iter().find(|file| file.path == path)
}

/// `Cargo.lock` stays under its bound.
pub(super) fn few(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    match file(files, "Cargo.lock") {
        None => found.error("Cargo.lock is not there"),
        Some(lock) => {
            let count = lock.text.lines().filter(|line| *line == "[[package]]").count();
            if count > MOST_CRATES {
                found.error(format!("Cargo.lock: {count} crates, at most {MOST_CRATES}"));
            }
        }
    }
    found
}

/// Lock files name the public registry or none, so that they work everywhere.
pub(super) fn addresses(files: &[TextFile]) -> Findings {
    let mut found = Findings::default();
    for lock in files {
        let name = lock.path.rsplit('/').next().unwrap_or_default();
        let wrong = |line: &str| match name {
            "Cargo.lock" => line.starts_with("source = ") && !line.contains(REGISTRY),
            "package-lock.json" => line.trim_start().starts_with("\"resolved\""),
            _ => false,
        };
        for (index, line) in lock.text.lines().enumerate().filter(|(_, line)| wrong(line)) {
            found.error(format!("{}:{}: {}", lock.path, index + 1, line.trim()));
        }
    }
    found
}

/// The monitor's tree is within its list.
pub(super) fn light_monitor() -> Result<Findings, Failure> {
    let args = [
        "tree",
        "--locked",
        "--package",
        "dx-monitor",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    Ok(judge_tree(&workspace::output(workspace::cargo().args(args))?))
}

fn judge_tree(tree: &str) -> Findings {
    let mut found = Findings::default();
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        if !MONITOR_MAY_USE.iter().any(|(allowed, _)| allowed == name) {
            found.error(format!(
                "dx-monitor depends on {name}; see MONITOR_MAY_USE in xtask/src/check/dependencies.rs"
            ));
        }
    }
    for (name, _) in MONITOR_MAY_USE.iter().filter(|(name, _)| !names.contains(name)) {
        found.warnings.push(format!("{name} is allowed, but dx-monitor does not use it"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{TextFile, addresses, judge_tree};

    #[test]
    fn a_heavy_crate_is_named() {
        let found = judge_tree("dx-monitor v0.1.0 (x)\ntokio v1.0.0\nserde v1.0.0 (*)\nserde v1.0.0\n");
        assert_eq!(found.errors.len(), 1);
        assert!(found.errors[0].contains("tokio"));
        assert!(found.warnings.iter().any(|line| line.starts_with("rustix ")));
    }

    #[test]
    fn other_addresses_are_named() {
        let lock = |path: &str, text: &str| TextFile { path: path.into(), text: text.into() };
        let files = [
            lock("Cargo.lock", "source = \"git+https://x.invalid/y\"\n"),
            lock("a/package-lock.json", "  \"resolved\": \"https://x.invalid/z.tgz\",\n"),
            lock("a/package.json", "  \"resolved\": \"allowed here\",\n"),
        ];
        assert_eq!(addresses(&files).errors.len(), 2);
    }
}
