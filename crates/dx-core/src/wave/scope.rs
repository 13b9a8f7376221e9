//! Whether two scopes can mean the same path. Patterns as the scope gate reads them: one without a slash matches a name in
//! any folder, one with a slash begins at the top; `*` stops at a slash, `**` does not; what a pattern matches it matches
//! with all below.
//!
//! May say yes where the truth is no (a class `[…]` counts as any letter). Says no where a plain name such as `src` means a
//! folder that neither pattern names (`docs/src`): everybody writes `src` and `docs` and means those at the top. And no for two
//! endings (`*.rs` and `*.md`), whose files can only meet in a folder that is named like a file, unless one names such a folder.

/// The first two patterns that can mean the same path.
pub fn overlap<'a>(a: &'a [String], b: &'a [String]) -> Option<(&'a str, &'a str)> {
    let pairs = a.iter().flat_map(|left| b.iter().map(move |right| (left.as_str(), right.as_str())));
    pairs.into_iter().find(|(left, right)| {
        let with_all_below = match (ending(left), ending(right)) {
            (Some(one), Some(other)) => has_folder(right, one) || has_folder(left, other),
            _ => true,
        };
        let (x, y) = (segments(left, with_all_below), segments(right, with_all_below));
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

/// How the names of files end that a pattern like `*.rs` means, in whatever folders.
fn ending(pattern: &str) -> Option<&str> {
    let ending = pattern.rsplit('/').next()?.strip_prefix('*')?;
    (ending.starts_with('.') && ending.len() > 1 && !ending.contains(['*', '?', '['])).then_some(ending)
}

/// Whether a folder that the pattern names ends so, as `App.xcodeproj/*.pbxproj` has one.
fn has_folder(pattern: &str, ending: &str) -> bool {
    trimmed(pattern).rsplit('/').skip(1).any(|folder| folder.ends_with(ending))
}

/// A plain name means what the other pattern says of it, at any depth.
fn names(pattern: &str, other: &[&str]) -> bool {
    let name = letters(trimmed(pattern));
    is_plain(pattern) && other.iter().any(|part| *part != DEEP && names_meet(&name, &letters(part)))
}

fn segments(pattern: &str, with_all_below: bool) -> Vec<&str> {
    let text = trimmed(pattern);
    let mut parts = if text.contains('/') || is_plain(pattern) { Vec::new() } else { vec![DEEP] };
    parts.extend(text.strip_prefix('/').unwrap_or(text).split('/'));
    if with_all_below {
        parts.push(DEEP);
    }
    parts
}

/// Whether a path fits both lists of segments.
fn meet(a: &[&str], b: &[&str]) -> bool {
    both_fit(a, b, |part| *part == DEEP, |x, y| x == y || names_meet(&letters(x), &letters(y)))
}

/// Whether something fits both patterns, whose parts stand for one thing each, or for any number of them. Each pair of places
/// is looked at once, however many ways lead to it.
fn both_fit<T>(a: &[T], b: &[T], is_many: fn(&T) -> bool, fit: fn(&T, &T) -> bool) -> bool {
    // Most patterns begin with plain parts, and differ there.
    let plain = a.iter().zip(b).take_while(|(x, y)| !is_many(x) && !is_many(y));
    let mut same = 0;
    for (x, y) in plain {
        if !fit(x, y) {
            return false;
        }
        same += 1;
    }
    let (a, b) = (&a[same..], &b[same..]);
    // From the end: whether what is left of `a` fits with what is left of `b`, by how much of `b` is passed.
    let mut below = vec![false; b.len() + 1];
    for at in (0..=a.len()).rev() {
        let x = a.get(at);
        let mut row = vec![false; b.len() + 1];
        for to in (0..=b.len()).rev() {
            let y = b.get(to);
            let skips = |part: Option<&T>| part.is_some_and(is_many);
            row[to] = match (x, y) {
                (None, None) => true,
                // `below` is of what follows `x`, and `row[to + 1]` of what follows `y`.
                _ if skips(x) || skips(y) => (x.is_some() && below[to]) || (y.is_some() && row[to + 1]),
                (Some(x), Some(y)) => below[to + 1] && fit(x, y),
                _ => false,
            };
        }
        below = row;
    }
    below[0]
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
    let fit = |x: &Letter, y: &Letter| match (x, y) {
        (Letter::Is(x), Letter::Is(y)) => x == y,
        _ => true,
    };
    both_fit(a, b, |letter| *letter == Letter::Many, fit)
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
            ("*.rs", "src/*.rs"),
            ("*.rs", "*.test.rs"),
            ("src/**/*.rs", "**/*.rs"),
            ("*.rs", "docs/a.rs/b"),
            ("*.rs", "docs/"),
            ("*.*", "*.md"),
            ("*.xcodeproj", "App.xcodeproj/*.pbxproj"),
            ("conf.d/*.conf", "*.d"),
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

    /// Each star could end anywhere: looked at one way after the other, this takes longer than anybody waits.
    #[test]
    fn patterns_with_many_stars_are_told_apart_at_once() {
        for (one, parts) in [("*a", ["b", "c"]), ("**/a/", ["b", "c"])] {
            let [a, b] = parts.map(|end| format!("x/{}{end}", one.repeat(40)));
            let is_deep = one.contains('/');
            // What a pattern matches it matches with all below.
            assert_eq!(both(&a, &b), is_deep, "{a} {b}");
            assert!(both(&a, &a));
        }
    }

    #[test]
    fn patterns_that_cannot() {
        for (a, b) in [
            ("src/a", "src/b"),
            ("src/a", "src/ab"),
            ("/src", "/docs"),
            ("src/*.rs", "src/lib/*.py"),
            ("*.rs", "*.md"),
            ("*.rs", "docs/**/*.md"),
            ("*.rs", "*.s"),
            ("src/*.rs", "*.tar.gz"),
            ("a/b/c", "b/c"),
            ("src/a/**", "src/b/**"),
            ("src", "docs"),
            ("docs", "src/auth"),
        ] {
            assert!(!both(a, b), "{a} {b}");
        }
    }
}
