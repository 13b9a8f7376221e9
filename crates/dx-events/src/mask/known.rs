//! The known secret values of one job, made ready to be looked for.
//!
//! Called by whoever has the values: `start`, monitor and launcher. Never writes or shows one.

use super::shapes::{self, Inside, SHAPES};
use super::{Look, MASK, MaskStream, forms};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Shorter values would be found everywhere.
const LEAST: usize = 6;
/// A word in lower case is masked from this length on: `production` is none.
const LEAST_WORD: usize = 12;
/// A number from this length on: a port is none.
const LEAST_NUMBER: usize = 8;
/// Longer values are looked for in their parts only.
const MOST: usize = 4 << 10;
/// Parts of a value (lines of a key, fields of JSON) from this length on.
const LEAST_PART: usize = 8;
/// Base64 forms are made of values up to this length.
const MOST_BASE64: usize = 1 << 10;
/// No job has more; what is beyond is not looked for.
const MOST_PATTERNS: usize = 1024;

/// Groups of the filter: known values, shapes, and escaped first characters.
const KNOWN_GROUPS: usize = 7;
const SHAPE_GROUPS: usize = 8;
const ESCAPES: u16 = 1 << 15;
const SHAPES_ONLY: u16 = ((1 << SHAPE_GROUPS) - 1) << KNOWN_GROUPS;

/// Values to be masked, and the token shapes, which always are.
#[derive(Clone)]
pub struct Secrets {
    /// Sorted by first byte.
    patterns: Vec<Vec<u8>>,
    /// For a first, second and third byte: which groups of patterns and shapes have it there.
    filter: [[u16; 256]; 3],
    /// One begins with what is no letter or digit, and so may stand behind a backslash.
    escapable: bool,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new::<[&[u8]; 0]>([])
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("patterns", &self.patterns.len()).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Makes ready what is worth masking of `values`: not what is too short, a plain word or a small number. Of values
    /// with several lines or in JSON the parts are looked for too, and of all the base64 form.
    pub fn new<V: IntoIterator>(values: V) -> Self
    where
        V::Item: AsRef<[u8]>,
    {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        for value in values {
            let value = value.as_ref().trim_ascii();
            for part in values_in(value) {
                if !is_worth_it(&part) {
                    continue;
                }
                if part.len() <= MOST_BASE64 && part.len() * 4 / 3 >= LEAST_WORD + 2 {
                    patterns.extend(forms::base64(&part));
                }
                if part.len() <= MOST {
                    patterns.push(part);
                }
            }
        }
        patterns.sort_unstable();
        patterns.dedup();
        patterns.truncate(MOST_PATTERNS);
        patterns.shrink_to_fit();
        let escapable = patterns.iter().any(|p| !p[0].is_ascii_alphanumeric());
        let filter = filter_of(&patterns, escapable);
        Self { patterns, filter, escapable }
    }

    /// Whether only shapes are looked for.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The text without its secrets, each byte of them a `*`.
    pub fn mask_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask_bytes(text.as_bytes()) {
            None => Cow::Borrowed(text),
            Some(bytes) => Cow::Owned(
                String::from_utf8(bytes)
                    .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()),
            ),
        }
    }

    /// The same for bytes; `None` when there is nothing to mask.
    pub fn mask_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut masked: Option<Vec<u8>> = None;
        let mut stream = MaskStream::over(self);
        stream.look(bytes, true, &mut |range| {
            masked.get_or_insert_with(|| bytes.to_vec())[range].fill(MASK);
        });
        masked
    }

    /// A stream to be masked with these.
    pub fn stream(self: &Arc<Self>) -> MaskStream<Arc<Self>> {
        MaskStream::over(Arc::clone(self))
    }

    /// Index of the first byte from `from` on where something may begin.
    pub(super) fn skip(&self, text: &[u8], from: usize) -> usize {
        let [first, second, third] = &self.filter;
        let mut at = from;
        while let [a, b, c, ..] = text[at..] {
            if first[usize::from(a)] & second[usize::from(b)] & third[usize::from(c)] != 0 {
                break;
            }
            at += 1;
        }
        at
    }

    /// Whether a known value and whether a shape may begin at this place, as the filter tells.
    pub(super) fn possible(&self, text: &[u8], at: usize) -> (bool, bool) {
        let [a, b, c, ..] = text[at..] else { return (true, true) };
        let [first, second, third] = &self.filter;
        let groups = first[usize::from(a)] & second[usize::from(b)] & third[usize::from(c)];
        (groups & !SHAPES_ONLY != 0, groups & SHAPES_ONLY != 0)
    }

    /// The longest known value at this place. `More` counts for more than a shorter value.
    pub(super) fn known_at(&self, text: &[u8], at: usize, last: bool) -> Look<usize> {
        let byte = text[at];
        let candidates = match byte {
            b'\\' => {
                let behind = text[at..].iter().find(|b| **b != b'\\');
                let possible = behind.is_none_or(|b| forms::escape_begins(*b, self.escapable));
                if possible { &self.patterns[..] } else { self.beginning_with(byte) }
            }
            b'%' => &self.patterns[..],
            _ => self.beginning_with(byte),
        };
        let mut longest = Look::No;
        for pattern in candidates {
            match (forms::at(text, at, pattern), longest) {
                (Look::More, _) if !last => return Look::More,
                (Look::Found(len), Look::Found(known)) if len <= known => {}
                (Look::Found(len), _) => longest = Look::Found(len),
                (Look::No | Look::More, _) => {}
            }
        }
        longest
    }

    fn beginning_with(&self, byte: u8) -> &[Vec<u8>] {
        let from = self.patterns.partition_point(|p| p[0] < byte);
        let len = self.patterns[from..].partition_point(|p| p[0] == byte);
        &self.patterns[from..from + len]
    }

    /// A token that begins at this place.
    pub(super) fn shape_at(text: &[u8], at: usize, alone: bool, last: bool) -> Look<Inside> {
        let mut more = false;
        for shape in SHAPES {
            let look = if last {
                shapes::begins_at_end(shape, &text[at..], alone)
            } else {
                shapes::begins(shape, &text[at..], alone)
            };
            match look {
                Look::Found(inside) => return Look::Found(inside),
                Look::More => more = true,
                Look::No => {}
            }
        }
        if more && !last { Look::More } else { Look::No }
    }
}

/// Three tables by which nearly every place is passed over: a bit is left in all three only where the bytes of one group of
/// patterns may stand.
fn filter_of(patterns: &[Vec<u8>], escapable: bool) -> [[u16; 256]; 3] {
    let mut filter = [[0_u16; 256]; 3];
    let add = |table: &mut [u16; 256], bytes: &dyn Fn(u8) -> bool, group: u16| {
        (0..=u8::MAX).filter(|b| bytes(*b)).for_each(|b| table[usize::from(b)] |= group);
    };
    for (n, shape) in SHAPES.iter().enumerate() {
        for (table, wanted) in filter.iter_mut().zip(shape.prefix.bytes()) {
            table[usize::from(wanted)] |= 1 << (KNOWN_GROUPS + n % SHAPE_GROUPS);
        }
    }
    for (n, pattern) in patterns.iter().enumerate() {
        let group = 1 << (n % KNOWN_GROUPS);
        let [first, second, third] = &mut filter;
        first[usize::from(pattern[0])] |= group;
        // What follows the first character may be escaped.
        let any = pattern[0] == b'\\';
        add(second, &|b| any || b == pattern[1] || matches!(b, b'\\' | b'%'), group);
        add(third, &|_| true, group);
    }
    if !patterns.is_empty() {
        let [first, second, third] = &mut filter;
        add(first, &|b| matches!(b, b'\\' | b'%'), ESCAPES);
        let begins = |b: u8| b == b'\\' || b.is_ascii_hexdigit() || forms::escape_begins(b, escapable);
        add(second, &begins, ESCAPES);
        add(third, &|_| true, ESCAPES);
    }
    filter
}

/// A value and its parts that are secrets by themselves: lines of a key, strings of a JSON configuration under names of
/// secrets, the password of a URL.
pub fn values_in(value: &[u8]) -> Vec<Vec<u8>> {
    let mut values = vec![value.to_vec()];
    let text = String::from_utf8_lossy(value);
    if value.contains(&b'\n') {
        let lines =
            text.lines().map(str::trim).filter(|l| l.len() >= LEAST_PART * 2 && !l.starts_with("-----"));
        values.extend(lines.map(|l| l.as_bytes().to_vec()));
    }
    if (value.starts_with(b"{") || value.starts_with(b"["))
        && let Ok(json) = serde_json::from_slice::<serde_json::Value>(value)
    {
        fields_in(&json, false, &mut values);
    }
    if let Some((_, rest)) = text.split_once("://")
        && let Some((user, _)) = rest.split_once('@')
        && let Some((_, password)) = user.split_once(':')
        && !password.contains('/')
    {
        values.push(password.as_bytes().to_vec());
    }
    values
}

fn fields_in(json: &serde_json::Value, secret: bool, into: &mut Vec<Vec<u8>>) {
    match json {
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| fields_in(value, is_secret_name(name), into));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|value| fields_in(value, secret, into)),
        serde_json::Value::String(text) if secret => into.push(text.as_bytes().to_vec()),
        _ => {}
    }
}

/// Whether a name says that its value is a secret: `apiKey`, `client_secret`, `Authorization`.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "password", "passwd", "credential", "authorization", "cookie"]
        .iter()
        .any(|word| name.ends_with(word) || name.strip_suffix('s').is_some_and(|one| one.ends_with(word)))
}

/// Whether masking a value does more good than harm.
fn is_worth_it(value: &[u8]) -> bool {
    let all = |test: fn(&u8) -> bool| value.iter().all(test);
    let least = if all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'-')) {
        LEAST_WORD
    } else if all(|b| b.is_ascii_digit() || *b == b'.') {
        LEAST_NUMBER
    } else {
        LEAST
    };
    value.len() >= least && !all(|b| *b == MASK || b.is_ascii_whitespace())
}
