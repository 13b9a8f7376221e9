//! Kinds of values: how each is read from a file or a variable, and shown.
//!
//! Called by: the readers of layers, and what shows them. Must never: show a secret; a file that holds one is refused.

use crate::environment::ExtraEnv;
use crate::worktree::disk_use;
use dx_core::duration;
use dx_core::settings::Value;
use dx_protocol::ProviderName;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// A whole number; the words for it.
    Number(&'static str),
    /// A time, kept in milliseconds.
    Millis,
    /// The same, where 0 would be no time at all.
    MillisAboveZero,
    /// A size on disk.
    Bytes,
    Text,
    Provider,
    /// One of these.
    Words(&'static [&'static str]),
    Texts,
    Path,
    Paths,
    /// `NAME` or `NAME=VALUE`.
    Variables,
}

/// In what a variable counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    One,
    /// In a list, what is no absolute path is passed over.
    Lenient,
    Seconds,
    Minutes,
}

impl Unit {
    /// How many of the kind's own.
    fn factor(self) -> u64 {
        match self {
            Self::One | Self::Lenient => 1,
            Self::Seconds => 1000,
            Self::Minutes => 60_000,
        }
    }

    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Self::One | Self::Lenient => None,
            Self::Seconds => Some("seconds"),
            Self::Minutes => Some("minutes"),
        }
    }
}

impl Kind {
    /// What a file must hold, for people.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Number(words) => words.to_owned(),
            Self::Millis => "a time such as \"90s\", \"5m\" or \"1h30m\"".to_owned(),
            Self::MillisAboveZero => "a time above 0 such as \"90s\", \"5m\" or \"1h30m\"".to_owned(),
            Self::Bytes => "a size such as \"20G\" or \"500M\"".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Provider => "a provider's name".to_owned(),
            Self::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                words.join(" or ")
            }
            Self::Texts => "a list of texts".to_owned(),
            Self::Path => "an absolute path, or one that begins with ~/".to_owned(),
            Self::Paths => "a list of absolute paths, or of such that begin with ~/".to_owned(),
            Self::Variables => "a list of NAME or NAME=VALUE".to_owned(),
        }
    }

    /// What a file says; `Err` is why it cannot be taken.
    pub(crate) fn read(self, value: &DeValue<'_>) -> Result<Value, String> {
        let wrong = || format!("expected {}, found {}", self.expected(), found(value));
        match (self, value) {
            (Self::Bool, DeValue::Boolean(on)) => Ok(Value::Bool(*on)),
            (Self::Number(_), DeValue::Integer(number)) => {
                u64::from_str_radix(number.as_str(), number.radix()).map(Value::Number).map_err(|_| wrong())
            }
            (Self::Millis, DeValue::String(text)) => duration::parse(text)
                .map(|time| Value::Number(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
                .map_err(|why| format!("`{text}`: {why}")),
            (Self::MillisAboveZero, DeValue::String(text)) => match Self::Millis.read(value)? {
                Value::Number(0) => Err(format!("`{text}`: expected {}", self.expected())),
                time => Ok(time),
            },
            (Self::Bytes, DeValue::String(text)) => disk_use::parse(text)
                .map(Value::Number)
                .ok_or_else(|| format!("`{text}`: expected {}", self.expected())),
            (Self::Texts | Self::Paths | Self::Variables, DeValue::Array(entries)) => {
                let text = |entry: &DeValue<'_>| match entry {
                    DeValue::String(text) => self.entry(text),
                    other => Err(format!("expected {}, found {} in it", self.expected(), found(other))),
                };
                entries.iter().map(|e| text(e.get_ref())).collect::<Result<_, _>>().map(Value::List)
            }
            (Self::Text | Self::Provider | Self::Words(_) | Self::Path, DeValue::String(text)) => {
                self.entry(text).map(Value::Text)
            }
            _ => Err(wrong()),
        }
    }

    /// One text of this kind, or one entry of a list.
    fn entry(self, text: &str) -> Result<String, String> {
        let wrong = || format!("expected {}, found `{text}`", self.expected());
        match self {
            Self::Path | Self::Paths => absolute(text).ok_or_else(wrong),
            Self::Words(words) if !words.contains(&text) => Err(wrong()),
            Self::Provider => text.parse::<ProviderName>().map(|n| n.to_string()).map_err(|e| e.to_string()),
            Self::Variables => {
                let name = text.split('=').next().unwrap_or(text);
                let parsed = ExtraEnv::parse(&[text.to_owned()])
                    .map_err(|_| format!("`{name}` is no variable's name"))?;
                if parsed.secrets.is_empty() {
                    Ok(text.to_owned())
                } else {
                    Err(format!(
                        "the value of `{name}` looks like a secret; write only the name, and set the variable where you start jobs"
                    ))
                }
            }
            _ if text.trim().is_empty() => Err(wrong()),
            _ => Ok(text.to_owned()),
        }
    }

    /// What a variable says. `Ok(None)`: it counts as not set, as before there were files.
    pub(crate) fn read_variable(self, text: &OsStr, unit: Unit) -> Result<Option<Value>, String> {
        let lossy = text.to_string_lossy();
        let entries = |keep: fn(&str) -> bool| {
            let list = lossy.split(',').map(str::trim).filter(|e| keep(e)).map(str::to_owned).collect();
            Ok(Some(Value::List(list)))
        };
        match self {
            Self::Number(_) | Self::Millis => {
                let number = lossy.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(unit.factor()));
                number.map(|n| Some(Value::Number(n))).ok_or_else(|| "which is not a number".to_owned())
            }
            Self::MillisAboveZero => match Self::Millis.read_variable(text, unit)? {
                Some(Value::Number(0)) => Err("which is no time above 0".to_owned()),
                time => Ok(time),
            },
            Self::Bytes => match disk_use::parse(lossy.trim()) {
                Some(bytes) => Ok(Some(Value::Number(bytes))),
                None => Err("which is no size such as 20G or 500M".to_owned()),
            },
            Self::Path => Ok(Path::new(text).is_absolute().then(|| Value::Text(lossy.into_owned()))),
            Self::Paths if unit == Unit::Lenient => entries(|entry| entry.starts_with('/')),
            Self::Paths => {
                match lossy.split(',').map(str::trim).find(|e| !e.is_empty() && !e.starts_with('/')) {
                    Some(bad) => Err(format!("and `{bad}` in it is not absolute")),
                    None => entries(|entry| !entry.is_empty()),
                }
            }
            Self::Texts if lossy.trim().is_empty() => Ok(None),
            Self::Texts | Self::Variables => entries(|entry| !entry.is_empty()),
            Self::Bool => match lossy.trim() {
                "" => Ok(None),
                "true" | "1" => Ok(Some(Value::Bool(true))),
                "false" | "0" => Ok(Some(Value::Bool(false))),
                _ => Err("which is neither true nor false".to_owned()),
            },
            Self::Text | Self::Provider | Self::Words(_) => {
                Ok((!lossy.trim().is_empty()).then(|| Value::Text(lossy.into_owned())))
            }
        }
    }

    /// Whether a value is of this kind.
    #[cfg(test)]
    pub(crate) fn fits(self, value: &Value) -> bool {
        match self {
            Self::Bool => matches!(value, Value::Bool(_)),
            Self::Number(_) | Self::Bytes | Self::Millis | Self::MillisAboveZero => {
                matches!(value, Value::Number(_))
            }
            Self::Text | Self::Provider | Self::Words(_) | Self::Path => matches!(value, Value::Text(_)),
            Self::Texts | Self::Paths | Self::Variables => matches!(value, Value::List(_)),
        }
    }

    /// As a file would hold it.
    pub(crate) fn show(self, value: &Value) -> String {
        match (self, value) {
            (Self::Millis | Self::MillisAboveZero, Value::Number(ms)) => {
                format!("\"{}\"", duration::format(*ms))
            }
            (Self::Bytes, Value::Number(bytes)) => format!("\"{bytes}\""),
            (_, Value::Bool(on)) => on.to_string(),
            (_, Value::Number(number)) => number.to_string(),
            (_, Value::Text(text)) => quoted(text),
            (_, Value::List(entries)) => {
                format!("[{}]", entries.iter().map(|e| quoted(e)).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A JSON string is a TOML string too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An absolute path; `~/` is the home.
fn absolute(text: &str) -> Option<String> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME").filter(|h| !h.is_empty())?).join(rest),
        None => PathBuf::from(text),
    };
    path.is_absolute().then(|| path.to_str().map(str::to_owned)).flatten()
}

/// What stands in a file, in its words.
fn found(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
