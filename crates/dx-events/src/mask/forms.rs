//! The forms in which one known value is printed: as it is, escaped in JSON (once or several times over), quoted for a
//! shell, percent-encoded, and in base64 at any alignment.
//!
//! Called by [`super::Secrets`]. Never allocates while it looks.

use super::Look;

/// Backslashes in a row that are looked through: JSON in JSON in JSON.
const DEPTH: usize = 16;

/// Whether `text[at..]` begins with a form of `value`; the length of that form.
pub(super) fn at(text: &[u8], at: usize, value: &[u8]) -> Look<usize> {
    let mut place = at;
    let mut left = value;
    // A backslash of the text may belong to the value's own before it, or escape the next character.
    let mut shared = false;
    while !left.is_empty() {
        let run = left.iter().take_while(|b| **b == b'\\').count();
        let look = if run > 0 {
            left = &left[run..];
            backslashes(text, place, run, left.is_empty())
        } else {
            let (unit, rest) = left.split_at(char_len(left));
            left = rest;
            character(text, place, unit, shared)
        };
        shared = false;
        match look {
            Look::Found(next)
                if run > 0 && !left.is_empty() && next - place > run && text[next - 1] == b'\\' =>
            {
                place = next - 1;
                shared = true;
            }
            Look::Found(next) => place = next,
            other => return other,
        }
    }
    Look::Found(place - at)
}

/// Whether a form can begin with backslashes and then `byte`; `escapable` tells that a value begins with no letter or
/// digit.
pub(super) fn escape_begins(byte: u8, escapable: bool) -> bool {
    byte == b'u' || (escapable && !byte.is_ascii_alphanumeric())
}

/// Bytes of the first character; 1 where it is not UTF-8.
fn char_len(bytes: &[u8]) -> usize {
    let len = match bytes[0] {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    if bytes.len() >= len && std::str::from_utf8(&bytes[..len]).is_ok() { len } else { 1 }
}

/// A run of `run` backslashes of the value, in the text as many or more. At the end of the value no more are taken than
/// its JSON form has, because the next may belong to what follows.
fn backslashes(text: &[u8], from: usize, run: usize, ends: bool) -> Look<usize> {
    let most = (run * DEPTH).min(text.len() - from);
    let there = text[from..from + most].iter().take_while(|b| **b == b'\\').count();
    let behind = text.get(from + there);
    if matches!((there, behind), (1.., Some(b'u')) | (0, Some(b'%'))) {
        let mut place = from;
        for _ in 0..run {
            let look = if there > 0 { unicode(text, place, b"\\") } else { percent(text, place, b"\\") };
            match look {
                Look::Found(next) => place = next,
                Look::More => return Look::More,
                Look::No => break,
            }
        }
        if place > from {
            return Look::Found(place);
        }
    }
    if behind.is_none() && there < run * 2 {
        return Look::More;
    }
    if there < run {
        return Look::No;
    }
    Look::Found(
        from + if !ends {
            there
        } else if there >= run * 2 {
            run * 2
        } else {
            run
        },
    )
}

/// One character; `loose` tells that a backslash before it may mean nothing.
fn character(text: &[u8], from: usize, unit: &[u8], loose: bool) -> Look<usize> {
    let deep = text[from..].iter().take(DEPTH).take_while(|b| **b == b'\\').count();
    let rest = &text[from + deep..];
    let next = from + deep;
    if rest.is_empty() {
        return Look::More;
    }
    if deep == 0 || loose || !unit[0].is_ascii_alphanumeric() {
        if rest.starts_with(unit) {
            return Look::Found(next + unit.len());
        }
        if unit.starts_with(rest) {
            return Look::More;
        }
    }
    if deep > 0 {
        let letter = match unit[0] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => 0,
        };
        if rest[0] == letter {
            return Look::Found(next + 1);
        }
        return if rest[0] == b'u' { unicode(text, from, unit) } else { Look::No };
    }
    if rest[0] == b'%' { percent(text, from, unit) } else { Look::No }
}

/// `\uXXXX` behind backslashes; two of them for what needs two.
fn unicode(text: &[u8], from: usize, unit: &[u8]) -> Look<usize> {
    let Some(c) = std::str::from_utf8(unit).ok().and_then(|s| s.chars().next()) else { return Look::No };
    let mut place = from;
    for code in c.encode_utf16(&mut [0; 2]) {
        let deep = text[place..].iter().take(DEPTH).take_while(|b| **b == b'\\').count();
        place += deep;
        if deep == 0 && place < text.len() {
            return Look::No;
        }
        for step in 0..5 {
            let Some(byte) = text.get(place) else { return Look::More };
            let nibble = u32::from(*code) >> (4 * (4 - step)) & 0xF;
            let fits = if step == 0 { *byte == b'u' } else { char::from(*byte).to_digit(16) == Some(nibble) };
            if !fits {
                return Look::No;
            }
            place += 1;
        }
    }
    Look::Found(place)
}

fn percent(text: &[u8], from: usize, unit: &[u8]) -> Look<usize> {
    let mut place = from;
    for wanted in unit {
        let expected = [None, Some(wanted >> 4), Some(wanted & 0xF)];
        for (step, nibble) in expected.into_iter().enumerate() {
            let Some(byte) = text.get(place + step) else { return Look::More };
            let fits = match nibble {
                None => *byte == b'%',
                Some(nibble) => char::from(*byte).to_digit(16) == Some(u32::from(nibble)),
            };
            if !fits {
                return Look::No;
            }
        }
        place += 3;
    }
    Look::Found(place)
}

/// The middle of every base64 text that has `value` in it, by alignment: without the characters that depend on what
/// stands before and after.
pub(super) fn base64(value: &[u8]) -> Vec<Vec<u8>> {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut forms: Vec<Vec<u8>> = Vec::new();
    for before in 0..3_usize {
        let bit = |n: usize| {
            let byte = value[n / 8];
            usize::from(byte >> (7 - n % 8) & 1)
        };
        // The first character that holds bits of the value only, and the last one.
        let from = (before * 8).div_ceil(6);
        let to = (before + value.len()) * 8 / 6;
        let standard: Vec<u8> = (from..to)
            .map(|at| STANDARD[(0..6).fold(0, |index, n| index << 1 | bit(at * 6 + n - before * 8))])
            .collect();
        let url: Vec<u8> = standard
            .iter()
            .map(|b| match b {
                b'+' => b'-',
                b'/' => b'_',
                b => *b,
            })
            .collect();
        if url != standard {
            forms.push(url);
        }
        forms.push(standard);
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(text: &str, value: &str) -> Look<usize> {
        at(text.as_bytes(), 0, value.as_bytes())
    }

    #[test]
    fn forms_of_one_value() {
        let value = "p\"a/é\n\\z😀";
        let json = serde_json::to_string(value).unwrap();
        let twice = serde_json::to_string(&json).unwrap();
        let inner = |quoted: &str, cut: usize| quoted[cut..quoted.len() - cut].to_owned();
        let forms = [
            value.to_owned(),
            inner(&json, 1),
            inner(&twice, 3),
            "p\\\"a\\/\\u00E9\\n\\\\z\\uD83D\\uDe00".to_owned(),
            "p\\u0022a%2f%C3%A9%0A\\\\z😀".to_owned(),
        ];
        for form in forms {
            assert_eq!(len(&form, value), Look::Found(form.len()), "{form}");
            assert_eq!(len(&format!("{form}x"), value), Look::Found(form.len()), "{form}x");
            for cut in 1..form.len() {
                assert_eq!(
                    at(&form.as_bytes()[..cut], 0, value.as_bytes()),
                    Look::More,
                    "{form} up to {cut}"
                );
            }
        }
        for other in ["p\"a/", "p\"b/é\n\\z😀", "\\p\"a/é\n\\z😀", "p\\\\n"] {
            assert!(!matches!(len(other, value), Look::Found(_)), "{other}");
        }
    }

    #[test]
    fn the_last_backslash_takes_nothing_of_what_follows() {
        assert_eq!(len("ab\\\\\\\"x", "ab\\"), Look::Found(4));
        assert_eq!(len("ab\\n", "ab\\"), Look::Found(3));
    }

    #[test]
    fn base64_at_every_alignment() {
        // base64 of "user:hunter-2-secret", "xuser:…" and "xxuser:…" hold one of the forms each.
        let forms = base64(b"hunter-2-secret");
        for whole in [
            "dXNlcjpodW50ZXItMi1zZWNyZXQ=",
            "eHVzZXI6aHVudGVyLTItc2VjcmV0",
            "eHh1c2VyOmh1bnRlci0yLXNlY3JldA==",
        ] {
            let held: Vec<_> = forms
                .iter()
                .filter(|form| whole.as_bytes().windows(form.len()).any(|w| w == &form[..]))
                .collect();
            assert_eq!(held.len(), 1, "{whole}");
            assert!(held[0].len() >= 18);
        }
    }
}
