//! Keys of frontmatter and what their values have to be: one table for agents and commands.
//!
//! Measured on OpenCode 1.18: a value of the wrong kind, in whoever's file, and it starts no agent at all. A key that it does not
//! know it lets pass, and one that the program sets by itself (`name`, `prompt`, `template`) is never looked at. Must never: be
//! kinder than the real program, or judge a file of the user's by what only makes no sense.

use crate::definition::Definition;
use crate::findings::Findings;
use crate::yaml::{Meaning, Node, Value};

const COLORS: &[&str] = &["primary", "secondary", "accent", "success", "warning", "error", "info"];

/// What the file defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Agent,
    Command,
}

/// What OpenCode takes for a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// Any; of ours from here to there.
    Number(f64, f64),
    /// Whole, and above 0.
    Count,
    Flag,
    Color,
    Model,
    Flags,
    Map,
    /// One of three words.
    Mode,
    /// Not looked at, or not here: rules are read one by one.
    Any,
}

struct Key {
    name: &'static str,
    agent: Option<Kind>,
    command: Option<Kind>,
    /// Not for files of ours: what to write in its place.
    instead: Option<&'static str>,
}

const fn agents(name: &'static str, kind: Kind) -> Key {
    Key { name, agent: Some(kind), command: None, instead: None }
}

const fn both(name: &'static str, kind: Kind) -> Key {
    Key { name, agent: Some(kind), command: Some(kind), instead: None }
}

const fn not_ours(name: &'static str, kind: Kind, instead: &'static str) -> Key {
    Key { name, agent: Some(kind), command: None, instead: Some(instead) }
}

const KEYS: &[Key] = &[
    both("description", Kind::Text),
    agents("mode", Kind::Mode),
    agents("permission", Kind::Any),
    both("model", Kind::Model),
    both("variant", Kind::Text),
    agents("temperature", Kind::Number(0.0, 2.0)),
    agents("top_p", Kind::Number(0.0, 1.0)),
    agents("steps", Kind::Count),
    agents("color", Kind::Color),
    agents("hidden", Kind::Flag),
    Key { name: "agent", agent: None, command: Some(Kind::Text), instead: None },
    Key { name: "subtask", agent: None, command: Some(Kind::Flag), instead: None },
    not_ours("maxSteps", Kind::Count, "write `steps:`"),
    not_ours("tools", Kind::Flags, "say it with `permission:`"),
    not_ours("disable", Kind::Flag, "remove the file instead"),
    not_ours("options", Kind::Map, "set them in your opencode.json"),
    // Of other versions.
    not_ours(
        "permissions",
        Kind::Any,
        "write `permission:` as a map; OpenCode 1 ignores this key and allows everything",
    ),
    not_ours("disabled", Kind::Any, "remove the file instead"),
    not_ours("system", Kind::Any, "write the prompt below the frontmatter"),
    not_ours("prompt", Kind::Any, "write the prompt below the frontmatter"),
];

impl Key {
    fn kind(&self, of: Of) -> Option<Kind> {
        match of {
            Of::Agent => self.agent,
            Of::Command => self.command,
        }
    }
}

impl Kind {
    /// Whether OpenCode takes it.
    fn takes(self, value: &Node) -> bool {
        let meaning = value.meaning();
        match self {
            Self::Text | Self::Model => meaning == Some(Meaning::Text),
            Self::Number(..) => matches!(meaning, Some(Meaning::Number(number)) if number.is_finite()),
            Self::Count => {
                matches!(meaning, Some(Meaning::Number(n)) if n.is_finite() && n > 0.0 && n.fract() == 0.0)
            }
            Self::Flag => meaning == Some(Meaning::Flag),
            Self::Color => meaning == Some(Meaning::Text) && value.text().is_some_and(is_color),
            Self::Mode => matches!(value.text(), Some("primary" | "subagent" | "all")),
            Self::Flags => value.map().is_some_and(|entries| {
                entries.iter().all(|(_, value)| value.meaning() == Some(Meaning::Flag))
            }),
            Self::Map => value.map().is_some(),
            Self::Any => true,
        }
    }

    /// Whether it makes sense beside.
    fn makes_sense(self, value: &Node) -> bool {
        match (self, value.meaning()) {
            (Self::Number(least, most), Some(Meaning::Number(number))) => (least..=most).contains(&number),
            (Self::Model, _) => value.text().is_some_and(|text| text.contains('/') && !text.contains('#')),
            _ => true,
        }
    }

    fn fix(self) -> String {
        let fixed = match self {
            Self::Text => "a text; one that looks like a number, a date or `true` between double quotes",
            Self::Number(least, most) => {
                return format!("a number from {least} to {most}, without quotation marks");
            }
            Self::Count => "a whole number above 0, without quotation marks",
            Self::Flag => "true or false, without quotation marks",
            Self::Color => {
                "a theme's name (primary, secondary, accent, success, warning, error, info) or `\"#rrggbb\"`"
            }
            Self::Model => "provider/model; a variant has a key of its own, `variant`",
            Self::Flags => "a map of tools to true or false",
            Self::Map => "a map",
            Self::Mode => MODES,
            Self::Any => "",
        };
        fixed.to_owned()
    }
}

pub(crate) const MODES: &str = "one of primary, subagent, all";

/// Values that OpenCode refuses; of files of ours also what makes no sense, and keys that do nothing.
pub(crate) fn judge(path: &str, definition: &Definition, of: Of, ours: bool, found: &mut Findings) {
    for (index, (key, value)) in definition.front.iter().enumerate() {
        let name = key.text().unwrap_or_default();
        let known =
            KEYS.iter().find_map(|known| Some((known, known.kind(of)?)).filter(|_| known.name == name));
        if let Some((_, kind)) = known
            && !(kind.takes(value) && (!ours || kind.makes_sense(value)))
        {
            let rule = if kind == Kind::Mode { "mode" } else { "value" };
            found.add(path, key.line, rule, format!("`{name}: {}` is not valid", shown(value)), kind.fix());
        }
        if !ours {
            continue;
        }
        if definition.front[..index].iter().any(|(other, _)| other.text() == Some(name)) {
            found.add(path, key.line, "twice", format!("`{name}` is there twice"), "keep one of them");
        }
        match known {
            Some((Key { instead: None, .. }, _)) => {}
            Some((Key { instead: Some(fix), .. }, _)) => {
                found.add(path, key.line, "key", format!("`{name}` is no key of the pack's files"), *fix);
            }
            None => {
                let usual = KEYS.iter().filter(|key| key.kind(of).is_some() && key.instead.is_none());
                let usual: Vec<&str> = usual.map(|key| key.name).collect();
                let fix = format!("remove it; known are {}", usual.join(", "));
                found.add(path, key.line, "key", format!("`{name}` is no key of definitions"), fix);
            }
        }
    }
}

/// A value as it may be told in a line, with its kind when that is what is wrong with it.
fn shown(value: &Node) -> String {
    match &value.value {
        Value::Scalar(text, true) => format!("\"{text}\""),
        Value::Scalar(text, false) if !text.is_empty() => text.clone(),
        _ => format!("({})", value.kind()),
    }
}

fn is_color(text: &str) -> bool {
    let hex = text.strip_prefix('#').filter(|hex| hex.len() == 6);
    COLORS.contains(&text) || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
