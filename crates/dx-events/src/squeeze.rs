//! Drops the tail of long JSON strings while a line is still arriving.
//!
//! An agent's tool output is easily 100 KB in one line, and no event needs more than the start of it. Called by the
//! line splitter for every byte. Never changes the shape of the JSON: what remains of a valid line is valid.

/// So many strings of full length a line may have …
const LONG_STRINGS: usize = 8;
/// … before its others are kept no longer than this: enough for a path.
const LATER_MAX: usize = 256;

/// Byte filter; reset at every line.
#[derive(Debug, Clone)]
pub(crate) struct Squeezer {
    limit: usize,
    state: State,
    /// Bytes kept of this string.
    kept: usize,
    /// Bytes kept of all strings of this line.
    line_kept: usize,
    skipping: bool,
    /// The last unit of the string was `\uD8xx`: its other half must not be cut off.
    high: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Outside,
    Plain,
    Escape,
    Hex { left: u8, code: u32 },
}

impl Squeezer {
    /// Keeps about `limit` bytes of each string, and less of those that come after several long ones.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: State::Outside, kept: 0, line_kept: 0, skipping: false, high: false }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Whether this byte stays.
    pub(crate) fn keep(&mut self, byte: u8) -> bool {
        match self.state {
            State::Outside => {
                if byte == b'"' {
                    *self = Self { state: State::Plain, line_kept: self.line_kept, ..Self::new(self.limit) };
                }
                true
            }
            State::Plain => self.plain(byte),
            State::Escape => {
                self.state = if byte == b'u' { State::Hex { left: 4, code: 0 } } else { State::Plain };
                self.high = false;
                self.count()
            }
            State::Hex { left, code } => {
                let code = (code << 4) | char::from(byte).to_digit(16).unwrap_or(0);
                self.state = if left > 1 { State::Hex { left: left - 1, code } } else { State::Plain };
                self.high = left == 1 && (0xD800..0xDC00).contains(&code);
                self.count()
            }
        }
    }

    fn plain(&mut self, byte: u8) -> bool {
        match byte {
            b'"' => {
                self.state = State::Outside;
                return true;
            }
            b'\\' => {
                self.skipping |= self.kept >= self.room() && !self.high;
                self.state = State::Escape;
            }
            // Inside a character of several bytes: never start to skip here.
            0x80..=0xBF => {}
            _ => {
                self.skipping |= self.kept >= self.room();
                self.high = false;
            }
        }
        self.count()
    }

    fn room(&self) -> usize {
        if self.line_kept > LONG_STRINGS * self.limit { self.limit.min(LATER_MAX) } else { self.limit }
    }

    fn count(&mut self) -> bool {
        if !self.skipping {
            self.kept += 1;
            self.line_kept += 1;
        }
        !self.skipping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn squeeze(text: &str, limit: usize) -> String {
        let mut squeezer = Squeezer::new(limit);
        String::from_utf8(text.bytes().filter(|b| squeezer.keep(*b)).collect()).unwrap()
    }

    #[test]
    fn shortens_strings_only() {
        assert_eq!(squeeze(r#"{"abcdef":123456,"x":"a\"bcdef"}"#, 3), r#"{"abc":123456,"x":"a\""}"#);
        assert_eq!(squeeze(r#"["\ud83d\ude00\ud83d\ude00"]"#, 3), r#"["\ud83d\ude00"]"#);
    }

    proptest! {
        #[test]
        fn stays_json(text in "\\PC{0,40}[\"\\\\\n\u{1F600}é]{0,20}", limit in 0_usize..30, ascii: bool) {
            let mut json = serde_json::to_string(&[&text, "x"]).unwrap();
            if ascii {
                json = json.chars().fold(String::new(), escaped);
            }
            let back: Vec<String> = serde_json::from_str(&squeeze(&json, limit)).unwrap();
            prop_assert!(text.starts_with(&back[0]));
            prop_assert!(back[0] == text || squeeze(&json, limit).len() >= limit);
        }
    }

    /// Adds `c` as `\uXXXX` units unless it is ASCII.
    fn escaped(mut out: String, c: char) -> String {
        use std::fmt::Write;
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap();
            }
        }
        out
    }
}
