//! A definition file taken apart: frontmatter, rules in their order, text. For agents and for commands.
//!
//! Reads what OpenCode reads: line ends of either kind, a byte order mark. Must never: judge; that is `check`.

use crate::yaml::{self, Node};

/// What a rule says of a matching call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Allow,
    Ask,
    Deny,
}

impl Effect {
    pub(crate) fn of(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "ask" => Some(Self::Ask),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }

    /// The word in frontmatter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

/// One rule of `permission`, as OpenCode sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `edit`, `bash`, …, or `*`.
    pub tool: String,
    pub pattern: String,
    pub effect: Effect,
    /// In the file, counted from 1.
    pub line: usize,
}

/// Why a file is no definition at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub line: usize,
    pub message: String,
    pub fix: String,
}

/// A definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Keys and values, lines as in the file.
    pub(crate) front: Vec<(Node, Node)>,
    /// Those that can be read, in their order.
    pub rules: Vec<Rule>,
    /// Those that cannot.
    pub(crate) unreadable: Vec<Broken>,
    /// The prompt, without byte order mark and carriage returns.
    pub body: String,
    /// Line of its first character.
    pub(crate) body_line: usize,
}

fn broken<T>(line: usize, message: impl Into<String>, fix: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { line, message: message.into(), fix: fix.into() })
}

impl Definition {
    /// Takes a file apart.
    pub fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        Self::read(bytes, &yaml::parse)
    }

    /// As OpenCode does with frontmatter that is no YAML: a value with a colon in it is a text. `None`: it goes on without.
    pub(crate) fn parse_generously(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes, &|front| yaml::parse(&quoted(front))).ok()
    }

    fn read(bytes: &[u8], parse: &dyn Fn(&str) -> Result<Option<Node>, yaml::Wrong>) -> Result<Self, Broken> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            let line = 1 + bytes.iter().take(utf8_end(bytes)).filter(|byte| **byte == b'\n').count();
            return broken(line, "it is not UTF-8", "save it as UTF-8");
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let opened = text.strip_prefix("---").and_then(|rest| rest.split_once('\n'));
        let Some((_, rest)) = opened.filter(|(mark, _)| mark.trim().is_empty()) else {
            return broken(
                1,
                "it has no frontmatter",
                "begin it with a line `---`, the keys, and another `---`",
            );
        };
        // An empty one ends where it begins; what stands behind the mark is passed over.
        let end = if rest.starts_with("---") { Some(0) } else { rest.find("\n---").map(|at| at + 1) };
        let Some(end) = end else {
            return broken(1, "its frontmatter does not end", "put a line `---` after the last key");
        };
        let (front, body) = (&rest[..end], rest[end..].split_once('\n').map_or("", |(_, body)| body));
        let fix = "write `key: value` lines; put texts with `*`, `:` or `#` between double quotes";
        let node = match parse(front) {
            Ok(node) => node,
            Err(wrong) => return broken(wrong.line + 1, wrong.message, fix),
        };
        let Some(node) = node else {
            return broken(1, "its frontmatter is empty", "give it `description`, `mode` and `permission`");
        };
        let Some(entries) = node.map() else {
            return broken(node.line + 1, format!("its frontmatter is {}, not a map", node.kind()), fix);
        };
        let front: Vec<_> = entries.iter().map(|(key, value)| (shifted(key), shifted(value))).collect();
        let (mut rules, mut unreadable) = (Vec::new(), Vec::new());
        if let Some((_, value)) = front.iter().find(|(key, _)| key.text() == Some("permission")) {
            read_rules(value, &mut rules, &mut unreadable);
        }
        let body_line = 2 + rest[..rest.len() - body.len()].matches('\n').count();
        Ok(Self { front, rules, unreadable, body: body.to_owned(), body_line })
    }

    /// A value of the frontmatter.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.front.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// The text of a value, when it is one and says something.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Node::text).map(str::trim).filter(|text| !text.is_empty())
    }
}

/// Values of the outermost keys that hold a colon, between quotation marks; lines stay lines.
fn quoted(front: &str) -> String {
    let line = |line: &str| {
        let entry = line.split_once(':').map(|(key, value)| (key, value.trim()));
        let is_key = |key: &str| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match entry {
            Some((key, value)) if is_key(key) && value.contains(':') && !value.starts_with(['"', '\'']) => {
                format!("{key}: '{}'\n", value.replace('\'', "''"))
            }
            _ => format!("{line}\n"),
        }
    };
    front.lines().map(line).collect()
}

/// How much of it is UTF-8.
fn utf8_end(bytes: &[u8]) -> usize {
    std::str::from_utf8(bytes).err().map_or(bytes.len(), |error| error.valid_up_to())
}

/// Lines of the frontmatter become lines of the file, whose first is `---`.
fn shifted(node: &Node) -> Node {
    let value = match &node.value {
        yaml::Value::Map(entries) => {
            yaml::Value::Map(entries.iter().map(|(key, value)| (shifted(key), shifted(value))).collect())
        }
        yaml::Value::List(items) => yaml::Value::List(items.iter().map(shifted).collect()),
        scalar @ yaml::Value::Scalar(..) => scalar.clone(),
    };
    Node { line: node.line + 1, value }
}

/// Tools that OpenCode takes one word for, and no patterns.
const WORD_ONLY: [&str; 5] = ["doom_loop", "question", "todowrite", "webfetch", "websearch"];

fn read_rules(node: &Node, rules: &mut Vec<Rule>, unreadable: &mut Vec<Broken>) {
    let mut push = |tool: &str, pattern: &str, value: &Node, line: usize| {
        let message = match value.text().map(Effect::of) {
            Some(Some(effect)) => {
                return rules.push(Rule { tool: tool.to_owned(), pattern: pattern.to_owned(), effect, line });
            }
            Some(None) => format!("`{}` is no permission", value.text().unwrap_or_default()),
            None => format!("the permission of `{tool}` is {}", value.kind()),
        };
        let fix = if WORD_ONLY.contains(&tool) {
            "allow, ask or deny"
        } else {
            "allow, ask or deny; or a map of patterns to these"
        };
        unreadable.push(Broken { line, message, fix: fix.to_owned() });
    };
    let Some(tools) = node.map() else { return push("*", "*", node, node.line) };
    for (tool, value) in tools {
        let name = tool.text().unwrap_or_default();
        match value.map().filter(|_| !WORD_ONLY.contains(&name)) {
            None => push(name, "*", value, tool.line),
            Some(patterns) => {
                for (pattern, value) in patterns {
                    push(name, pattern.text().unwrap_or_default(), value, pattern.line);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_files_are_read_as_others() {
        let plain = "---\ndescription: x\nmode: all\npermission:\n  edit: deny\n---\n\nBody.\n";
        let windows = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
        let parsed = Definition::parse(plain.as_bytes()).unwrap();
        assert_eq!(Definition::parse(windows.as_bytes()).unwrap(), parsed);
        assert_eq!((parsed.rules[0].line, parsed.body_line, parsed.body.as_str()), (5, 7, "\nBody.\n"));
        let deny_all = Definition::parse(b"---\npermission: deny\n---\n").unwrap();
        assert_eq!((deny_all.rules[0].tool.as_str(), deny_all.rules[0].effect), ("*", Effect::Deny));
    }
}
