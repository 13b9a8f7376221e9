//! Rust source without its comments and literals.
//!
//! For: looking for words in code only.
//! Called by: `sources`.
//! Must never: move a line; a finding's line number is the file's.

/// The source with every comment, string and character literal replaced by blanks; lines stay lines.
pub(crate) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).or_else(|| comment_end(&chars, at));
        if let Some(end) = end {
            code.extend(chars[at..end].iter().map(|char| if *char == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Where the comment that starts at `at` ends.
fn comment_end(chars: &[char], at: usize) -> Option<usize> {
    match (chars[at], chars.get(at + 1)?) {
        ('/', '/') => {
            Some(chars[at..].iter().position(|char| *char == '\n').map_or(chars.len(), |line| at + line))
        }
        ('/', '*') => {
            let (mut depth, mut next) = (1, at + 2);
            while depth > 0 && next < chars.len() {
                match (chars[next], chars.get(next + 1)) {
                    ('/', Some('*')) => (depth, next) = (depth + 1, next + 2),
                    ('*', Some('/')) => (depth, next) = (depth - 1, next + 2),
                    _ => next += 1,
                }
            }
            Some(next.min(chars.len()))
        }
        _ => None,
    }
}

/// Where the literal that starts at `at` ends; nothing for a lifetime.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    match chars[at] {
        '"' => Some(quoted_end(chars, at, '"')),
        '\'' => {
            let is_char = *chars.get(at + 1)? == '\\' || chars.get(at + 2) == Some(&'\'');
            is_char.then(|| quoted_end(chars, at, '\''))
        }
        'r' => {
            let prefix_free = at == 0
                || !is_word(chars[at - 1])
                || (matches!(chars[at - 1], 'b' | 'c') && (at == 1 || !is_word(chars[at - 2])));
            let hashes = chars[at + 1..].iter().take_while(|char| **char == '#').count();
            let open = at + 1 + hashes;
            if !prefix_free || chars.get(open) != Some(&'"') {
                return None;
            }
            let closes = |from: usize| {
                chars[from] == '"'
                    && chars[from + 1..].iter().take(hashes).filter(|char| **char == '#').count() == hashes
            };
            let close = (open + 1..chars.len()).find(|from| closes(*from));
            Some(close.map_or(chars.len(), |close| close + 1 + hashes))
        }
        _ => None,
    }
}

fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut next = at + 1;
    while next < chars.len() && chars[next] != quote {
        next += if chars[next] == '\\' { 2 } else { 1 };
    }
    (next + 1).min(chars.len())
}

/// Whether `line` has `word` with nothing of a longer word round it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::{code_only, has_word};

    #[test]
    fn comments_and_literals_become_blanks_and_lines_stay() {
        let source = "a /* x /* y */ z\n */ b // c\n\"d\\\"e\" f 'g' '\\'' <'h> r#\"i\"j\"# br\"k\" fr \"l";
        let code = code_only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "f", "<'h>", "b", "fr"]);
    }

    #[test]
    fn a_word_is_whole() {
        assert!(has_word("unsafe { x }", "unsafe") && has_word("(unsafe)", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe") && !has_word("notunsafe", "unsafe"));
    }
}
