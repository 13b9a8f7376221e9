//! Why configuration cannot be used. Each variant has one reason code and names the place.

use dx_protocol::ReasonCode;
use std::io;
use std::path::PathBuf;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, or the words for a built-in profile.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The place of a byte in a file's text.
    pub(crate) fn in_text(file: &str, text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Why configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("failed to read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} {why}", path.display())]
    Unsafe { path: PathBuf, why: String, next_action: String },
    #[error("{place}: {why}")]
    Invalid { place: Place, why: String },
    #[error("{at}: `{key}` {why}")]
    Entry { at: String, key: &'static str, why: String },
    #[error("{place}: unknown key `{key}`")]
    UnknownKey { place: Place, key: String, near: Vec<String> },
    #[error("there is no setting `{key}`")]
    NoSetting { key: String, near: Vec<String> },
    #[error("there is no profile `{name}`")]
    NoProfile { name: String, known: Vec<String> },
    #[error("{variable} is `{}`, {why}", text.escape_debug())]
    Variable { variable: String, text: String, why: String },
    #[error("{flag} {value} is looser than {because} allows")]
    NotAllowed { flag: String, value: String, key: String, because: String },
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("failed to write {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("neither XDG_CONFIG_HOME nor HOME is set")]
    NoHome,
}

impl SettingsError {
    pub(crate) fn reason(&self) -> ReasonCode {
        match self {
            Self::Unreadable { .. } => ReasonCode::ConfigUnreadable,
            Self::Unsafe { .. } => ReasonCode::ConfigUnsafe,
            Self::Invalid { .. } | Self::Entry { .. } => ReasonCode::ConfigInvalid,
            Self::UnknownKey { .. } | Self::NoSetting { .. } => ReasonCode::ConfigUnknownKey,
            Self::NoProfile { .. } => ReasonCode::ProfileNotFound,
            Self::Variable { .. } | Self::NoHome => ReasonCode::InvalidArgument,
            Self::NotAllowed { .. } => ReasonCode::SettingNotAllowed,
            Self::Exists(_) => ReasonCode::ConfigExists,
            Self::Unwritable { .. } => ReasonCode::ConfigUnwritable,
        }
    }

    pub(crate) fn next_action(&self) -> Option<String> {
        match self {
            Self::Unsafe { next_action, .. } => Some(next_action.clone()),
            Self::UnknownKey { near, .. } | Self::NoSetting { near, .. } if !near.is_empty() => {
                Some(format!("did you mean {}?", near.join(" or ")))
            }
            Self::NoProfile { known, .. } => Some(format!("one of: {}", known.join(", "))),
            Self::NotAllowed { key, .. } => {
                Some(format!("dx-runner config explain {key}; `[allow]` in your own file can allow more"))
            }
            Self::Variable { variable, .. } => Some(format!("set {variable} right, or unset it")),
            Self::NoHome => Some("set HOME, or name the file with --config".to_owned()),
            _ => None,
        }
    }
}
