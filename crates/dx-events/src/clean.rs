//! Makes strings out of an agent's output safe to keep and to print: bounded, and without control characters.
//!
//! Called for every string that enters an event. Never masks secrets: what is parsed has
//! been through [`crate::mask`].

/// Longest message in an event, in bytes.
pub const MESSAGE_MAX: usize = 500;
/// Longest name (tool, session, model) in an event, in bytes.
pub(crate) const NAME_MAX: usize = 120;
/// Longest path in an event, in bytes: Linux's own limit.
pub(crate) const PATH_MAX: usize = 4096;

/// One line of at most `max` bytes: white space that breaks lines becomes a space, other control characters `\u{FFFD}`.
pub(crate) fn line(text: &str, max: usize) -> String {
    cut(text.trim(), max, |c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    })
}

/// Text of at most `max` bytes that keeps its line breaks and tabs.
pub(crate) fn block(text: &str, max: usize) -> String {
    cut(text.trim_end(), max, |c| match c {
        '\n' | '\t' => c,
        '\r' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    })
}

/// The same without a bound, and without colours.
pub fn printable(text: &str) -> String {
    block(&without_ansi(text), usize::MAX)
}

fn cut(text: &str, max: usize, replace: impl Fn(char) -> char) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars().map(replace) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

/// Without the terminal's colour sequences (`ESC [ … letter`).
pub(crate) fn without_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            for d in chars.by_ref() {
                if ('@'..='~').contains(&d) {
                    break;
                }
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        assert_eq!(line("aéé", 4), "aé");
        assert_eq!(line("a\u{1b}[31m\nb", 100), "a\u{FFFD}[31m b");
        assert_eq!(block("a\nb\u{7}\n\n", 100), "a\nb\u{FFFD}");
    }

    #[test]
    fn colours_go() {
        assert_eq!(without_ansi("\u{1b}[93m\u{1b}[1m! \u{1b}[0mhello"), "! hello");
    }
}
