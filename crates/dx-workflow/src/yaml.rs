//! YAML as a tree with the line of everything, from a parser's events.
//!
//! For: frontmatter. What frontmatter never needs (aliases, tags, several documents) is refused. Must never: panic, whatever
//! the text; follow an alias.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep maps and lists may lie in one another.
const MAX_DEPTH: usize = 16;

/// A value with its line, counted from 1 in the text that was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Its text, and whether it was quoted.
    Scalar(String, bool),
    Map(Vec<(Node, Node)>),
    List(Vec<Node>),
}

/// Why a text is no such tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    /// The entries of a map.
    pub(crate) fn map(&self) -> Option<&[(Node, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether it says nothing: `key:` and no value.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, false) if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// The value as people call it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Scalar(..) => "a text",
            Value::Map(_) => "a map",
            Value::List(_) => "a list",
        }
    }
}

/// A container that is being filled.
enum Open {
    Map(usize, Vec<(Node, Node)>, Option<Node>),
    List(usize, Vec<Node>),
}

/// Parses one document; `None` when there is nothing in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Wrong> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Wrong {
            line: error.marker().line(),
            message: format!("it is no YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        let refuse = |message: &str| Err(Wrong { line, message: message.to_owned() });
        let done = match event {
            Event::Alias(_) => return refuse("aliases have no place here"),
            Event::Scalar(_, _, _, Some(_))
            | Event::MappingStart(_, Some(_))
            | Event::SequenceStart(_, Some(_)) => return refuse("tags have no place here"),
            Event::Scalar(text, style, _, None) => {
                let quoted = style != ScalarStyle::Plain;
                Some(Node { line, value: Value::Scalar(text.into_owned(), quoted) })
            }
            Event::MappingStart(_, None) => {
                open.push(Open::Map(line, Vec::new(), None));
                None
            }
            Event::SequenceStart(_, None) => {
                open.push(Open::List(line, Vec::new()));
                None
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Map(line, entries, _)) => Some(Node { line, value: Value::Map(entries) }),
                Some(Open::List(line, items)) => Some(Node { line, value: Value::List(items) }),
                None => None,
            },
            Event::DocumentStart(_) if root.is_some() => return refuse("there is a second document"),
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return refuse("it lies too deep");
        }
        let Some(node) = done else { continue };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let node = parse("a: b\nc:\n  \"*\": deny\n  'x y': [1, 2]\n").unwrap().unwrap();
        let entries = node.map().unwrap();
        assert_eq!((entries[0].0.line, entries[0].1.text()), (1, Some("b")));
        let inner = entries[1].1.map().unwrap();
        assert_eq!((inner[0].0.line, inner[0].0.text(), inner[0].1.text()), (3, Some("*"), Some("deny")));
        assert_eq!((inner[1].0.line, inner[1].1.kind()), (4, "a list"));
        assert_eq!(parse("").unwrap(), None);
    }

    #[test]
    fn what_has_no_place_is_refused_with_its_line() {
        for (text, line) in [
            ("a: b\nc: [\n", 3),
            ("a: &x 1\nb: *x\n", 2),
            ("a: 1\nb: !!str 1\n", 2),
            ("a: 1\n---\nb: 2\n", 2),
            ("a: b: c\n", 1),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }
}
