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

/// What a scalar means to OpenCode, which reads YAML 1.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meaning {
    Nothing,
    Flag,
    Number(f64),
    Date,
    Text,
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
        self.meaning() == Some(Meaning::Nothing)
    }

    /// What a scalar means; `None` for a map or a list.
    pub(crate) fn meaning(&self) -> Option<Meaning> {
        match &self.value {
            Value::Scalar(_, true) => Some(Meaning::Text),
            Value::Scalar(text, false) => Some(meaning(text)),
            _ => None,
        }
    }

    /// The value as people call it.
    pub(crate) fn kind(&self) -> &'static str {
        match (&self.value, self.meaning()) {
            (Value::Map(_), _) => "a map",
            (Value::List(_), _) => "a list",
            (_, Some(Meaning::Nothing)) => "nothing",
            (_, Some(Meaning::Flag)) => "true or false",
            (_, Some(Meaning::Number(_))) => "a number",
            (_, Some(Meaning::Date)) => "a date",
            _ => "a text",
        }
    }
}

/// What a text without quotation marks means.
fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Nothing,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Meaning::Flag,
        _ => match number(text) {
            Some(number) => Meaning::Number(number),
            None if is_date(text) => Meaning::Date,
            None => Meaning::Text,
        },
    }
}

/// `7`, `-0.5`, `1_000`, `0x10`, `0b11`, `017`, `12:30` (of base 60), `1e3`, `.inf`.
fn number(text: &str) -> Option<f64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if matches!(rest, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Some(f64::INFINITY);
    }
    let digits = rest.replace('_', "");
    let whole = |digits: &str, base: u32| {
        let is_one = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
        is_one.then(|| u32::from_str_radix(digits, base).map_or(f64::MAX, f64::from))
    };
    let (first, last) = (rest.chars().next()?, rest.chars().next_back()?);
    if !(first.is_ascii_digit() || first == '.') || (last == '_' && !rest.contains('.')) {
        return None;
    }
    let found = if let Some(digits) = digits.strip_prefix("0b") {
        whole(digits, 2)
    } else if let Some(digits) = digits.strip_prefix("0x") {
        whole(digits, 16)
    } else if digits.contains(':') {
        let parts: Vec<f64> = digits.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let fits = parts[1..].iter().all(|part| (0.0..60.0).contains(part));
        fits.then(|| parts.iter().fold(0.0, |sum, part| sum * 60.0 + part))
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        whole(&digits, 8)
    } else {
        let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
        digits.bytes().all(plain).then(|| digits.parse().ok()).flatten()
    };
    found.map(|number| sign * number)
}

/// `2026-01-31`, with a time behind it or not.
fn is_date(text: &str) -> bool {
    let (day, time) = match text.find(['T', 't', ' ', '\t']) {
        Some(at) => (&text[..at], Some(text[at + 1..].trim_start())),
        None => (text, None),
    };
    let parts: Vec<&str> = day.split('-').collect();
    let is_part = |part: &str, lengths: &[usize]| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let short: &[usize] = if time.is_some() { &[1, 2] } else { &[2] };
    let is_day = matches!(parts[..], [year, month, day]
        if is_part(year, &[4]) && is_part(month, short) && is_part(day, short));
    let is_time = |time: &str| {
        let mut parts = time.split(':');
        let hour = parts.next().is_some_and(|part| is_part(part, &[1, 2]));
        hour && parts.next().is_some_and(|part| is_part(part, &[2])) && parts.next().is_some()
    };
    is_day && time.is_none_or(is_time)
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

    /// As OpenCode 1.18 told of each in its error.
    #[test]
    fn scalars_mean_what_opencode_takes_them_for() {
        let of = |text: &str| parse(&format!("a: {text}\n")).unwrap().unwrap().map().unwrap()[0].1.meaning();
        for text in ["", "~", "null", "Null"] {
            assert_eq!(of(text), Some(Meaning::Nothing), "{text}");
        }
        for text in ["true", "True", "false"] {
            assert_eq!(of(text), Some(Meaning::Flag), "{text}");
        }
        for (text, number) in [
            ("7", 7.0),
            ("-1", -1.0),
            ("+7", 7.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("3.0", 3.0),
            ("1e3", 1000.0),
            ("0x10", 16.0),
            ("0b11", 3.0),
            ("007", 7.0),
            ("1_000", 1000.0),
            ("12:30", 750.0),
            (".inf", f64::INFINITY),
        ] {
            assert_eq!(of(text), Some(Meaning::Number(number)), "{text}");
        }
        for text in ["2020-01-01", "2020-01-01 10:00:00", "2020-1-1T10:00:00Z"] {
            assert_eq!(of(text), Some(Meaning::Date), "{text}");
        }
        for text in [
            "abc", "\"7\"", "'true'", "yes", "on", "0o7", "08", "1.2.3", "2020-01", "2020-1-1", "7 days",
            "a/b",
        ] {
            assert_eq!(of(text), Some(Meaning::Text), "{text}");
        }
        assert_eq!((of("[a]"), of("{a: b}")), (None, None));
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
