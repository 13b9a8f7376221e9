//! The texts of the pack, as they were when the program was built.
//!
//! Must never: hold a text that is not a file below `pack/`; a test compares the two.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// One file of the pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFile {
    /// Below the folder that OpenCode reads: `agents/implementer.md`.
    pub path: &'static str,
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal)*) => {
        /// All files, agents first, then commands, and what OpenCode runs.
        pub const FILES: &[PackFile] =
            &[$(PackFile { path: $path, text: include_str!(concat!("../../../pack/", $path)) },)*];
    };
}

files! {
    "agents/documentation.md"
    "agents/executor.md"
    "agents/implementer.md"
    "agents/init.md"
    "agents/model-config.md"
    "agents/orchestrator.md"
    "agents/research.md"
    "agents/shipper.md"
    "agents/task-planner.md"
    "agents/test-writer.md"
    "agents/validator.md"
    "commands/code-loop.md"
    "commands/code-review.md"
    "commands/execute.md"
    "commands/final-review.md"
    "commands/planning.md"
    "commands/system-review.md"
    "plugins/dx-runner.js"
}

/// The version that is written beside an installed pack.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names of the agents, in alphabetical order.
pub fn agents() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter_map(|file| file.path.strip_prefix("agents/")?.strip_suffix(".md"))
}

/// The text of a file of the pack.
pub fn text_of(path: &str) -> Option<&'static str> {
    FILES.iter().find(|file| file.path == path).map(|file| file.text)
}

/// The first line of a file that is not the pack's, however its lines end.
pub(crate) fn differs_at(path: &str, bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let mut there = text.trim_start_matches('\u{feff}').lines();
    let mut ours = text_of(path)?.lines();
    for line in 1.. {
        match (there.next(), ours.next()) {
            (None, None) => return None,
            (there, ours) if there == ours => {}
            _ => return Some(line),
        }
    }
    None
}

/// SHA-256 in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _fits = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_carries_exactly_the_files_of_the_pack() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pack");
        let mut there = Vec::new();
        for folder in ["agents", "commands", "plugins"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                there.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
            }
        }
        there.sort();
        assert_eq!(FILES.iter().map(|file| file.path).collect::<Vec<_>>(), there);
        assert_eq!(agents().count(), 11);
        let plugin = text_of("plugins/dx-runner.js").unwrap();
        let names = format!("  \"{}\"\n", agents().collect::<Vec<_>>().join(" "));
        assert!(plugin.contains(&names), "the plugin knows who is the pack's: {names}");
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
