//! Whether two scopes can mean the same path. Patterns as the scope gate reads them: one without a slash matches a name in
//! any folder, one with a slash begins at the top; `*` stops at a slash, `**` does not; what a pattern matches it matches
//! with all below.
//!
//! May say yes where the truth is no (a class `[…]` counts as any letter). Says no where a plain name such as `src` means a
//! folder that neither pattern names (`docs/src`): everybody writes `src` and `docs` and means those at the top.

/// The first two patterns that can mean the same path.
pub fn overlap<'a>(a: &'a [String], b: &'a [String]) -> Option<(&'a str, &'a str)> {
    let pairs = a.iter().flat_map(|left| b.iter().map(move |right| (left.as_str(), right.as_str())));
    pairs.into_iter().find(|(left, right)| {
        let (x, y) = (segments(left), segments(right));
        meet(&x, &y) || names(left, &y) || names(right, &x)
    })
}

/// Any number of folders.
const DEEP: &str = "**";

fn trimmed(pattern: &str) -> &str {
    pattern.strip_prefix("./").unwrap_or(pattern).trim_end_matches('/')
}

/// A name without any sign of a pattern.
fn is_plain(pattern: &str) -> bool {
    !trimmed(pattern).contains(['/', '*', '?', '['])
}

/// A plain name means what the other pattern says of it, at any depth.
fn names(pattern: &str, other: &[&str]) -> bool {
    let name = letters(trimmed(pattern));
    is_plain(pattern) && other.iter().any(|part| *part != DEEP && names_meet(&name, &letters(part)))
}

fn segments(pattern: &str) -> Vec<&str> {
    let text = trimmed(pattern);
    let mut parts = if text.contains('/') || is_plain(pattern) { Vec::new() } else { vec![DEEP] };
    parts.extend(text.strip_prefix('/').unwrap_or(text).split('/'));
    parts.push(DEEP);
    parts
}

/// Whether a path fits both lists of segments.
fn meet(a: &[&str], b: &[&str]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([first, rest @ ..], other) | (other, [first, rest @ ..]) if *first == DEEP => {
            meet(rest, other)
                || matches!(other, [_, below @ ..] if meet(a_with(first, rest).as_slice(), below))
        }
        ([x, a @ ..], [y, b @ ..]) => names_meet(&letters(x), &letters(y)) && meet(a, b),
        _ => false,
    }
}

fn a_with<'a>(first: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let mut whole = vec![first];
    whole.extend(rest);
    whole
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    Is(char),
    Any,
    Many,
}

fn letters(name: &str) -> Vec<Letter> {
    let mut found = Vec::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        found.push(match c {
            '*' => Letter::Many,
            '?' => Letter::Any,
            '[' => {
                // `]` right after the bracket, or after its `!`, is a member.
                let mut inside = 0;
                for c in chars.by_ref() {
                    if c == ']' && inside > 0 {
                        break;
                    }
                    inside += usize::from(c != '!' || inside > 0);
                }
                Letter::Any
            }
            c => Letter::Is(c),
        });
    }
    found
}

fn names_meet(a: &[Letter], b: &[Letter]) -> bool {
    match (a, b) {
        ([], []) => true,
        ([Letter::Many, rest @ ..], other) | (other, [Letter::Many, rest @ ..]) => {
            names_meet(rest, other)
                || matches!(other, [_, below @ ..] if {
                    let mut whole = vec![Letter::Many];
                    whole.extend(rest);
                    names_meet(&whole, below)
                })
        }
        ([Letter::Is(x), a @ ..], [Letter::Is(y), b @ ..]) => x == y && names_meet(a, b),
        ([_, a @ ..], [_, b @ ..]) => names_meet(a, b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(a: &str, b: &str) -> bool {
        let (a, b) = ([a.to_owned()], [b.to_owned()]);
        let found = overlap(&a, &b).is_some();
        assert_eq!(found, overlap(&b, &a).is_some(), "{a:?} {b:?}");
        found
    }

    #[test]
    fn patterns_that_can_mean_the_same_path() {
        for (a, b) in [
            ("src", "src/a.rs"),
            ("src/", "src/deep/x"),
            ("*.rs", "src"),
            ("src/*.rs", "src/a*"),
            ("**", "a/b"),
            ("src/**/x.rs", "src/x.rs"),
            ("src/**", "src/a/b"),
            ("/a", "a"),
            ("a?c", "ab*"),
            ("[ab]c", "bc"),
            ("docs", "x/docs/y"),
            ("src/*/a", "src/b"),
            ("src", "x/src/y"),
            ("docs", "**"),
            ("docs", "**/x"),
        ] {
            assert!(both(a, b), "{a} {b}");
        }
    }

    #[test]
    fn patterns_that_cannot() {
        for (a, b) in [
            ("src/a", "src/b"),
            ("src/a", "src/ab"),
            ("/src", "/docs"),
            ("src/*.rs", "src/lib/*.py"),
            ("a/b/c", "b/c"),
            ("src/a/**", "src/b/**"),
            ("src", "docs"),
            ("docs", "src/auth"),
        ] {
            assert!(!both(a, b), "{a} {b}");
        }
    }
}
