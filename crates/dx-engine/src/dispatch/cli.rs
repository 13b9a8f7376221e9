//! Agents that can be asked, and what they are started with.
//!
//! Must never: give them a tool that changes anything, or let them run what the folder says that they are asked about.

use crate::error::EngineError;
use std::ffi::OsString;
use std::path::Path;

/// An agent that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cli {
    Claude,
    Gemini,
    Codex,
}

impl Cli {
    pub(super) const ALL: [Self; 3] = [Self::Claude, Self::Gemini, Self::Codex];

    /// As members are named.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Gemini => "gemini",
            Self::Codex => "codex",
        }
    }

    pub(super) fn provider(self) -> &'static str {
        match self {
            Self::Claude => "claude-code",
            other => other.word(),
        }
    }

    /// Whether it is started in the folder that it is asked about. Gemini CLI runs hooks of its folder, and sends its user's key
    /// to the address that a file there names; so it looks in from another one.
    pub(super) fn works_there(self) -> bool {
        self != Self::Gemini
    }

    /// What it is started with. `reads`: it may look at files.
    pub(super) fn args(self, model: &str, reads: bool) -> Vec<OsString> {
        let mut args: Vec<OsString> = match self {
            Self::Claude => {
                let tools = if reads { "Read,Glob,Grep" } else { "" };
                // The folder's own settings have hooks, and addresses that its user's credentials would go to.
                let head = [
                    "-p",
                    "--output-format=stream-json",
                    "--verbose",
                    "--strict-mcp-config",
                    "--setting-sources=user",
                    "--no-session-persistence",
                ];
                head.into_iter().chain(["--tools", tools]).map(OsString::from).collect()
            }
            // Without `--yolo` it offers nothing that writes or runs but what servers of tools have that its user trusts: so
            // only one is allowed, which is none.
            Self::Gemini => {
                let none = ["--allowed-mcp-server-names=none-for-a-question", "--extensions=none"];
                ["-o", "stream-json", "--skip-trust"].into_iter().chain(none).map(OsString::from).collect()
            }
            Self::Codex => {
                let head = ["exec", "--json", "--skip-git-repo-check", "--ephemeral", "-s", "read-only"];
                head.map(OsString::from).to_vec()
            }
        };
        args.extend(["--model".into(), OsString::from(model)]);
        args.extend((self == Self::Codex).then(|| OsString::from("-")));
        args
    }
}

/// Beyond what Gemini CLI may do without being asked: it could go into its mode for plans, and write one into its user's folder.
pub(super) fn gemini_policy(reads: bool) -> String {
    let rule = |tools: &str, decision: &str, priority: u32| {
        format!("[[rule]]\ntoolName = {tools}\ndecision = \"{decision}\"\npriority = {priority}\n")
    };
    let reading = r#"["read_file", "read_many_files", "glob", "grep_search", "list_directory"]"#;
    let allowed = if reads { rule(reading, "allow", 999) } else { String::new() };
    rule(r#""*""#, "deny", 998) + &allowed
}

/// The folder that Gemini CLI may read, in an option that is a list.
pub(super) fn gemini_folder(folder: &Path) -> Result<OsString, EngineError> {
    if folder.as_os_str().as_encoded_bytes().contains(&b',') {
        let message =
            format!("Gemini CLI cannot be asked about {}, whose name has a comma", folder.display());
        return Err(EngineError::Argument(message));
    }
    Ok(folder.as_os_str().to_owned())
}
