//! The closed table of token shapes: what is masked although nobody told us its value.
//!
//! Called by the stream for every place where one may begin. A shape has a fixed beginning that hardly anything else
//! has, and enough behind it. Never takes a checksum, a UUID or a base64 image for a token: see the tests.

use super::{Look, MASK};

/// One row, as the guide shows it.
#[derive(Debug, Clone, Copy)]
pub struct ShapeRow {
    pub name: &'static str,
    /// How it begins.
    pub prefix: &'static str,
    pub rest: &'static str,
    rule: Rule,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// At least so many characters, and with `digit` one digit among the first [`WINDOW`].
    Run {
        set: Set,
        least: usize,
        digit: bool,
    },
    /// Exactly so many, and none behind them.
    Exact {
        set: Set,
        len: usize,
    },
    Jwt,
    /// The prefix stays, what follows goes.
    Credential {
        least: usize,
    },
    Password,
    PrivateKey,
}

/// Kinds of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// Letters, digits, `_`.
    Name,
    /// And `-`.
    Word,
    /// And `.`.
    Dotted,
    /// Capitals and digits.
    Upper,
    /// What a bearer credential consists of.
    Credential,
}

impl Set {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Name => byte.is_ascii_alphanumeric() || byte == b'_',
            Self::Word => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Credential => byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte),
        }
    }
}

const fn run(
    name: &'static str,
    prefix: &'static str,
    rest: &'static str,
    set: Set,
    least: usize,
    digit: bool,
) -> ShapeRow {
    ShapeRow { name, prefix, rest, rule: Rule::Run { set, least, digit } }
}

/// All shapes.
#[rustfmt::skip]
pub const SHAPES: &[ShapeRow] = &[
    run("keys of OpenAI, Anthropic, OpenRouter, DeepSeek", "sk-", "16 or more letters, digits, `_`, `-`; a digit among them", Set::Word, 16, true),
    run("Stripe keys", "sk_live_", "16 or more letters, digits", Set::Name, 16, false),
    run("Stripe keys", "sk_test_", "16 or more letters, digits", Set::Name, 16, false),
    run("Groq keys", "gsk_", "20 or more letters, digits", Set::Name, 20, true),
    run("xAI keys", "xai-", "20 or more letters, digits, `-`; a digit among them", Set::Word, 20, true),
    run("GitHub tokens", "ghp_", "20 or more letters, digits", Set::Name, 20, false),
    run("GitHub tokens", "gho_", "20 or more letters, digits", Set::Name, 20, false),
    run("GitHub tokens", "ghu_", "20 or more letters, digits", Set::Name, 20, false),
    run("GitHub tokens", "ghs_", "20 or more letters, digits", Set::Name, 20, false),
    run("GitHub tokens", "ghr_", "20 or more letters, digits", Set::Name, 20, false),
    run("GitHub tokens", "github_pat_", "20 or more letters, digits, `_`", Set::Name, 20, false),
    run("GitLab tokens", "glpat-", "16 or more letters, digits, `_`, `-`", Set::Dotted, 16, false),
    run("Slack tokens", "xoxa-", "10 or more letters, digits, `-`; a digit among them", Set::Word, 10, true),
    run("Slack tokens", "xoxb-", "the same", Set::Word, 10, true),
    run("Slack tokens", "xoxe-", "the same", Set::Word, 10, true),
    run("Slack tokens", "xoxp-", "the same", Set::Word, 10, true),
    run("Slack tokens", "xoxr-", "the same", Set::Word, 10, true),
    run("Slack tokens", "xoxs-", "the same", Set::Word, 10, true),
    run("Slack tokens", "xapp-", "the same", Set::Word, 10, true),
    run("npm tokens", "npm_", "36 or more letters, digits", Set::Name, 36, false),
    run("PyPI tokens", "pypi-", "50 or more letters, digits, `_`, `-`", Set::Word, 50, true),
    run("Hugging Face tokens", "hf_", "30 or more letters, digits", Set::Name, 30, false),
    run("Google OAuth tokens", "ya29.", "20 or more letters, digits, `_`, `-`", Set::Dotted, 20, true),
    ShapeRow { name: "AWS access key ids", prefix: "AKIA", rest: "16 capitals, digits", rule: Rule::Exact { set: Set::Upper, len: 16 } },
    ShapeRow { name: "AWS access key ids", prefix: "ASIA", rest: "16 capitals, digits", rule: Rule::Exact { set: Set::Upper, len: 16 } },
    ShapeRow { name: "Google API keys", prefix: "AIza", rest: "35 letters, digits, `_`, `-`", rule: Rule::Exact { set: Set::Word, len: 35 } },
    ShapeRow { name: "JSON web tokens", prefix: "eyJ", rest: "a header, `.`, 16 or more characters, `.`, the rest", rule: Rule::Jwt },
    ShapeRow { name: "bearer credentials", prefix: "Bearer ", rest: "16 or more characters, a digit among them; the word stays", rule: Rule::Credential { least: 16 } },
    ShapeRow { name: "bearer credentials", prefix: "bearer ", rest: "the same", rule: Rule::Credential { least: 16 } },
    ShapeRow { name: "passwords in URLs", prefix: "://", rest: "`user:password@`; only the password goes", rule: Rule::Password },
    ShapeRow { name: "private keys", prefix: "-----BEGIN ", rest: "`… PRIVATE KEY-----` and what follows; the first and last line stay", rule: Rule::PrivateKey },
];

/// How far a digit is looked for, and how long a JWT's header, a user or a password may be.
const WINDOW: usize = 64;
const JWT_HEADER: usize = 1024;
const URL_PART: usize = 256;
/// No private key is longer.
const KEY_MAX: usize = 32 << 10;
/// Letters and digits behind the first line of a key, before it is one.
const KEY_LEAST: usize = 16;

/// What is going on at a place inside a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inside {
    /// So many bytes stay.
    skip: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    While(Set),
    Fixed(usize),
    Key { left: usize, escaped: bool, dashes: u8 },
}

impl Inside {
    /// Whether the next byte goes; `None` when the token has ended before it.
    pub(super) fn take(&mut self, byte: u8) -> Option<bool> {
        if self.skip > 0 {
            self.skip -= 1;
            return Some(false);
        }
        match &mut self.kind {
            Kind::While(set) => set.has(byte).then_some(true),
            Kind::Fixed(left) => {
                *left = left.checked_sub(1)?;
                Some(true)
            }
            Kind::Key { left, escaped, dashes } => {
                *left = left.checked_sub(1)?;
                let behind_backslash = std::mem::replace(escaped, byte == b'\\');
                *dashes = if byte == b'-' { *dashes + 1 } else { 0 };
                if *dashes == 5 || !in_key(byte) {
                    return None;
                }
                Some(is_base64(byte) && !behind_backslash)
            }
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | MASK)
}

/// Base64, line breaks as they are or escaped, and what the headers of old keys have.
fn in_key(byte: u8) -> bool {
    is_base64(byte) || matches!(byte, b'\n' | b'\r' | b' ' | b'\t' | b'\\' | b':' | b',' | b'-')
}

/// Whether a token begins at the start of `text`. `alone` tells that nothing of a word stands before it.
pub(super) fn begins(shape: &ShapeRow, text: &[u8], alone: bool) -> Look<Inside> {
    let prefix = shape.prefix.as_bytes();
    if text.len() < prefix.len() {
        return if prefix.starts_with(text) { Look::More } else { Look::No };
    }
    let Some(rest) = text.strip_prefix(prefix) else { return Look::No };
    if !alone && prefix[0].is_ascii_alphanumeric() {
        return Look::No;
    }
    let whole = |kind| Inside { skip: 0, kind };
    match shape.rule {
        Rule::Run { set, least, digit } => has_run(rest, set, least, digit).map(|()| whole(Kind::While(set))),
        Rule::Exact { set, len } => match rest.iter().take(len + 1).position(|b| !set.has(*b)) {
            Some(end) if end < len => Look::No,
            Some(_) => Look::Found(whole(Kind::Fixed(prefix.len() + len))),
            None if rest.len() > len => Look::No,
            None => Look::More,
        },
        Rule::Jwt => jwt(rest).map(|()| whole(Kind::While(Set::Dotted))),
        Rule::Credential { least } => has_run(rest, Set::Credential, least, true)
            .map(|()| Inside { skip: prefix.len(), kind: Kind::While(Set::Credential) }),
        Rule::Password => {
            password(rest).map(|(skip, len)| Inside { skip: prefix.len() + skip, kind: Kind::Fixed(len) })
        }
        Rule::PrivateKey => private_key(rest).map(|skip| Inside {
            skip: prefix.len() + skip,
            kind: Kind::Key { left: KEY_MAX, escaped: false, dashes: 0 },
        }),
    }
}

/// What stands at the end of the text as it is when nothing more comes: a token of exact length at the end of all.
pub(super) fn begins_at_end(shape: &ShapeRow, text: &[u8], alone: bool) -> Look<Inside> {
    match (begins(shape, text, alone), shape.rule) {
        (Look::More, Rule::Exact { len, .. }) if text.len() == shape.prefix.len() + len => {
            Look::Found(Inside { skip: 0, kind: Kind::Fixed(text.len()) })
        }
        (look, _) => look,
    }
}

impl<T> Look<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Look<U> {
        match self {
            Self::No => Look::No,
            Self::More => Look::More,
            Self::Found(found) => Look::Found(make(found)),
        }
    }
}

fn has_run(text: &[u8], set: Set, least: usize, digit: bool) -> Look<()> {
    let mut found = !digit;
    for (n, byte) in text.iter().take(WINDOW.max(least)).enumerate() {
        if !set.has(*byte) {
            return Look::No;
        }
        found |= byte.is_ascii_digit();
        if found && n + 1 >= least {
            return Look::Found(());
        }
    }
    if text.len() >= WINDOW.max(least) { Look::No } else { Look::More }
}

/// `header.payload` behind `eyJ`.
fn jwt(text: &[u8]) -> Look<()> {
    let Some(dot) = text.iter().take(JWT_HEADER).position(|b| !Set::Word.has(*b)) else {
        return if text.len() >= JWT_HEADER { Look::No } else { Look::More };
    };
    if dot < 8 || text[dot] != b'.' {
        return Look::No;
    }
    has_run(&text[dot + 1..], Set::Word, 16, false)
}

/// `user:password@` behind `://`: bytes before the password, and its own.
fn password(text: &[u8]) -> Look<(usize, usize)> {
    let part = |text: &[u8], end: u8| {
        let stops = |b: &u8| {
            matches!(*b, b'/' | b':' | b'@' | b'"' | b'\'' | b'\\' | b'<' | b'>' | b'?' | b'#' | MASK)
                || *b <= b' '
        };
        match text.iter().take(URL_PART).position(stops) {
            Some(at) if text[at] == end => Look::Found(at),
            None if text.len() < URL_PART => Look::More,
            _ => Look::No,
        }
    };
    let user = match part(text, b':') {
        Look::Found(user) => user,
        Look::More => return Look::More,
        Look::No => return Look::No,
    };
    match part(&text[user + 1..], b'@') {
        Look::Found(0) => Look::No,
        other => other.map(|len| (user + 1, len)),
    }
}

/// The rest of the first line behind `-----BEGIN `, and enough of a key: bytes of the line.
fn private_key(text: &[u8]) -> Look<usize> {
    const END: &[u8] = b"PRIVATE KEY-----";
    const KIND: usize = 24;
    let kind = text.iter().take(KIND).take_while(|b| b.is_ascii_uppercase() || matches!(b, b' ')).count();
    let Some(end) = (0..=kind).find(|at| text[*at..].starts_with(END)) else {
        let undecided =
            kind < KIND && (kind == text.len() || (0..kind).any(|at| END.starts_with(&text[at..])));
        return if undecided { Look::More } else { Look::No };
    };
    let line = end + END.len();
    let mut seen = 0;
    let mut masked = 0;
    let mut escaped = false;
    for byte in text[line..].iter().take(KEY_LEAST * 4) {
        if !in_key(*byte) {
            return Look::No;
        }
        seen += usize::from(is_base64(*byte) && !escaped);
        masked += usize::from(*byte == MASK);
        escaped = *byte == b'\\';
        // One that was masked before goes on to be masked: the monitor that began it may have died.
        if masked > 0 && masked < seen {
            return Look::No;
        }
        if seen >= KEY_LEAST {
            return Look::Found(line);
        }
    }
    if text.len() - line >= KEY_LEAST * 4 { Look::No } else { Look::More }
}
