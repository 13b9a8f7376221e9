//! Members: models by how they are reached.
//!
//! Must never: guess; a name that is none says what names look like.

use std::fmt;
use std::str::FromStr;

/// Who can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Member {
    /// A model of an OpenCode server.
    Opencode { provider: String, model: String },
    /// A model of an OpenAI-compatible endpoint of the configuration.
    Openai { endpoint: String, model: String },
}

impl Member {
    /// The first half of its name in answers.
    pub fn provider(&self) -> &str {
        match self {
            Self::Opencode { provider, .. } => provider,
            Self::Openai { endpoint, .. } => endpoint,
        }
    }

    /// The second half.
    pub fn model(&self) -> &str {
        match self {
            Self::Opencode { model, .. } | Self::Openai { model, .. } => model,
        }
    }

    /// As it is written on a command line.
    pub fn spec(&self) -> String {
        let kind = match self {
            Self::Opencode { .. } => "opencode",
            Self::Openai { .. } => "openai",
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
        let forms = "opencode:PROVIDER/MODEL or openai:NAME/MODEL";
        let bad = || format!("`{text}` is no member: {forms}");
        let (kind, rest) = text.split_once(':').ok_or_else(bad)?;
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
        for text in ["opencode:a/b", "opencode:openrouter/z-ai/glm-5:free", "openai:local/m"] {
            assert_eq!(text.parse::<Member>().unwrap().spec(), text);
        }
        for text in ["", "a/b", "opencode:a", "opencode:/b", "opencode:a/", "other:a/b", "opencode:a/b c"] {
            assert!(text.parse::<Member>().is_err(), "{text}");
        }
    }
}
