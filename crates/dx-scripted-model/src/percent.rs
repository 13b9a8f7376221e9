//! Percent-encoding of one URL path segment.
//!
//! What for: a scenario travels in the URL. Called by `server` (encode) and `route` (decode). Must never leave a
//! character other than the unreserved ones bare, so that no client rewrites the segment.

use std::fmt::Write as _;

/// Encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").ok();
        }
    }
    out
}

/// Decodes; a `%` that is not followed by two hex digits stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let value = bytes
            .get(at + 1..at + 3)
            .filter(|_| byte == b'%')
            .and_then(|pair| Some((hex(pair[0])?, hex(pair[1])?)));
        if let Some((high, low)) = value {
            out.push(high * 16 + low);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "write:a/b c.txt:100% \u{e4},\n\\]";
        assert_eq!(decode(&encode(text)), text);
        assert!(!encode(text).contains(['/', ':', ',', ' ']));
    }

    #[test]
    fn a_stray_percent_stays() {
        assert_eq!(decode("50%"), "50%");
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
