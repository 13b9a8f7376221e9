//! Members: models by how they are reached.
//!
//! Must never: guess; a name that is none says what names look like.

use super::cli::Cli;
use std::fmt;
use std::str::FromStr;

/// Who can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Member {
    /// A model of an OpenCode server.
    Opencode { provider: String, model: String },
    /// A model of an OpenAI-compatible endpoint of the configuration.
    Openai { endpoint: String, model: String },
    /// A model of an agent's own command line.
    Cli { cli: Cli, model: String },
}

impl Member {
    /// The first half of its name in answers.
    pub fn provider(&self) -> &str {
        match self {
            Self::Opencode { provider, .. } => provider,
            Self::Openai { endpoint, .. } => endpoint,
            Self::Cli { cli, .. } => cli.word(),
        }
    }

    /// The second half.
    pub fn model(&self) -> &str {
        match self {
            Self::Opencode { model, .. } | Self::Openai { model, .. } | Self::Cli { model, .. } => model,
        }
    }

    /// As it is written on a command line.
    pub fn spec(&self) -> String {
        let kind = match self {
            Self::Opencode { .. } => "opencode",
            Self::Openai { .. } => "openai",
            Self::Cli { cli, model } => return format!("{}:{model}", cli.word()),
        };
        format!("{kind}:{self}")
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider(), self.model())
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = "opencode:PROVIDER/MODEL, openai:NAME/MODEL, claude:MODEL, gemini:MODEL or codex:MODEL";
        let bad = || format!("`{text}` is no member: {forms}");
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
        if let Some(cli) = Cli::ALL.into_iter().find(|cli| cli.word() == kind) {
            // A name that begins so would be an option.
            if rest.is_empty() || rest.starts_with('-') || rest.contains(char::is_whitespace) {
                return Err(bad());
            }
            return Ok(Self::Cli { cli, model: rest.to_owned() });
        }
        let (provider, model) = rest.split_once('/').ok_or_else(bad)?;
        if provider.is_empty() || model.is_empty() || text.contains(char::is_whitespace) {
            return Err(bad());
        }
        let (provider, model) = (provider.to_owned(), model.to_owned());
        match kind {
            "opencode" => Ok(Self::Opencode { provider, model }),
            "openai" => Ok(Self::Openai { endpoint: provider, model }),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_members() {
        for text in [
            "opencode:a/b",
            "opencode:openrouter/z-ai/glm-5:free",
            "openai:local/m",
            "claude:opus",
            "gemini:a/b",
            "codex:x",
        ] {
            assert_eq!(text.parse::<Member>().unwrap().spec(), text);
        }
        for text in [
            "",
            "a/b",
            "opencode:a",
            "opencode:/b",
            "opencode:a/",
            "other:a/b",
            "opencode:a/b c",
            "claude:",
            "codex:-x",
            "claude:a b",
        ] {
            assert!(text.parse::<Member>().is_err(), "{text}");
        }
    }
}
