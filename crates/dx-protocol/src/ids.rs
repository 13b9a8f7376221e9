//! Names of jobs, runs and providers. A value of these types is safe as one path component.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a name was refused; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId {
    /// What kind of name was meant: `job id`, `provider`, `run uuid`.
    pub kind: &'static str,
    /// The refused text, cut to 80 characters, control characters replaced.
    pub text: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` is not allowed: {}", self.kind, self.text, self.rule)
    }
}

impl std::error::Error for InvalidId {}

fn refuse(kind: &'static str, text: &str, rule: &'static str) -> InvalidId {
    let text = text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
    InvalidId { kind, text, rule }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(refuse($kind, text, $rule)) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// The work item's id, the job's name to people.
    BeadsId,
    "job id",
    "1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit, without `..`",
    |t| {
        t.len() <= 128
            && !t.contains("..")
            && t.starts_with(|c: char| c.is_ascii_alphanumeric())
            && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    }
);

/// Before the name of an adapter script, where a provider of the same name would be meant without it.
pub const SCRIPT_PREFIX: &str = "script:";

/// Folder names of the state directory that a provider cannot have.
pub const RESERVED_PROVIDER_NAMES: [&str; 8] =
    ["live", "ended", "runs", "cache", "history", "tmp", "waves", "pools"];

name_type!(
    /// The adapter for one agent command line. No dot, so that `<provider>.<id>` splits at the first one.
    ProviderName,
    "provider",
    "1 to 32 of a-z 0-9 -, beginning with a letter, and not a reserved name; `script:` before it names an adapter script",
    |t| {
        let t = t.strip_prefix(SCRIPT_PREFIX).unwrap_or(t);
        t.len() <= 32
            && t.starts_with(|c: char| c.is_ascii_lowercase())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !RESERVED_PROVIDER_NAMES.contains(&t)
    }
);

name_type!(
    /// The key of one run: a UUIDv7 in its lower-case text form.
    RunUuid,
    "run uuid",
    "a lower-case UUID such as 019aa3c0-0000-7000-8000-000000000000",
    |t| {
        t.len() == 36
            && t.bytes().enumerate().all(|(i, b)| match i {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
            })
    }
);

/// What tells one run from all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunIds {
    pub beads: BeadsId,
    pub provider: ProviderName,
    /// `YYYYmmddHHMMSS` of the start, UTC.
    pub run_id: String,
    /// `<run_id>-<provider>-<pid of the starter>`, for people.
    pub run_instance: String,
    /// The key.
    pub run_uuid: RunUuid,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_ids_are_refused() {
        for bad in ["", ".", "..", "a..b", "../x", "-x", "a/b", "a b", "a\nb", "é", &"x".repeat(129)] {
            assert!(bad.parse::<BeadsId>().is_err(), "{bad:?}");
        }
        for good in ["bd-1", "bd-cbsb.19.3", "X", &"x".repeat(128)] {
            assert!(good.parse::<BeadsId>().is_ok(), "{good:?}");
        }
        for good in ["exec", "script:exec"] {
            assert!(good.parse::<ProviderName>().is_ok(), "{good:?}");
        }
        for bad in
            ["", "live", "a.b", "A", "-a", "a/b", "script:", "script:a/b", "script:live", "script:script:a"]
        {
            assert!(bad.parse::<ProviderName>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_id_is_one_plain_path_component(text in ".{0,140}") {
            if let Ok(id) = text.parse::<BeadsId>() {
                let mut parts = std::path::Path::new(id.as_str()).components();
                prop_assert!(matches!(parts.next(), Some(std::path::Component::Normal(_))));
                prop_assert!(parts.next().is_none());
            }
        }
    }
}
