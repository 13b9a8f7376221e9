//! Which programs the tests need, and which of them are there.
//!
//! For: saying plainly what to install on a fresh machine.
//! Called by: `test`, `agents`.
//! Must never: install anything.

use std::process::{Command, Stdio};

/// A program the tests need.
pub(crate) struct Tool {
    /// What to call it.
    pub(crate) name: &'static str,
    /// The command that proves it is there.
    probe: &'static [&'static str],
    /// How to get it.
    hint: &'static str,
    /// Needed for the real agents only, so not with `--fast`.
    pub(crate) agents_only: bool,
}

#[rustfmt::skip]
pub(crate) const TOOLS: &[Tool] = &[
    Tool { name: "rustfmt", probe: &["cargo", "fmt", "--version"], hint: "rustup component add rustfmt", agents_only: false },
    Tool { name: "clippy", probe: &["cargo", "clippy", "--version"], hint: "rustup component add clippy", agents_only: false },
    Tool { name: "git", probe: &["git", "--version"], hint: "the system's package git", agents_only: false },
    Tool { name: "cc", probe: &["cc", "--version"], hint: "a C compiler, for crates with C code", agents_only: false },
    Tool { name: "node", probe: &["node", "--version"], hint: "Node.js 20 or newer", agents_only: true },
    Tool { name: "npm", probe: &["npm", "--version"], hint: "comes with Node.js", agents_only: true },
];

impl Tool {
    /// The first line of its version, or nothing when it cannot be run.
    pub(crate) fn version(&self) -> Option<String> {
        let mut command =
            if self.probe[0] == "cargo" { crate::workspace::cargo() } else { Command::new(self.probe[0]) };
        let output = command.args(&self.probe[1..]).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
        output.status.success().then_some(text)
    }

    /// What to tell somebody who lacks it.
    pub(crate) fn missing(&self) -> String {
        format!("{} is missing: {}", self.name, self.hint)
    }
}

/// The names of the tools the real agents need and that are missing.
pub(crate) fn missing_for_agents() -> Vec<&'static str> {
    TOOLS.iter().filter(|tool| tool.agents_only && tool.version().is_none()).map(|tool| tool.name).collect()
}
