//! Claims of a sign-off: what somebody says to have checked, and with which command.
//!
//! A claim is a checked box, or a line that starts with validated, verified or confirmed. Each text in backticks in it is a
//! command: which of them is only a name nobody could tell. Called by: the evidence gate. Must never: take an unchecked box,
//! or what stands in a fenced block, for a claim.

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its line, counted from 1.
    pub line: u64,
    /// The line without list marks.
    pub text: String,
    /// When it names none, nobody can verify it.
    pub commands: Vec<String>,
}

const WORDS: [&str; 3] = ["validated", "verified", "confirmed"];

/// The claims, in their order.
pub fn claims(text: &str) -> Vec<Claim> {
    let mut fence: Option<&str> = None;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => {
                found.extend(claim(line).map(|text| Claim {
                    line: at as u64 + 1,
                    commands: commands(text),
                    text: text.to_owned(),
                }));
            }
            _ => {}
        }
    }
    found
}

/// What a line claims.
fn claim(line: &str) -> Option<&str> {
    let item = unlisted(line);
    for mark in ["[x]", "[X]"] {
        if let Some(rest) = item.strip_prefix(mark) {
            return Some(rest.trim());
        }
    }
    // Also in bold, and behind a quote's mark.
    let plain = item.trim_start_matches(['*', '_', '>', '#', ' ']);
    let begins = |word: &&str| {
        plain.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !plain[word.len()..].starts_with(|c: char| c.is_alphanumeric())
    };
    WORDS.iter().any(begins).then_some(item)
}

/// Without the mark of a list.
fn unlisted(line: &str) -> &str {
    let rest = line.strip_prefix(['-', '*', '+']).filter(|rest| rest.starts_with(' ')).or_else(|| {
        let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let numbered = rest.len() < line.len();
        rest.strip_prefix(['.', ')']).filter(|rest| numbered && rest.starts_with(' '))
    });
    rest.unwrap_or(line).trim_start()
}

/// The texts in backticks; a longer row of them closes with the same.
fn commands(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let opened = &rest[start..];
        let ticks = &opened[..opened.len() - opened.trim_start_matches('`').len()];
        let inner = &opened[ticks.len()..];
        let Some(end) = closing(inner, ticks.len()) else {
            rest = inner;
            continue;
        };
        let command = inner[..end].trim();
        // People show commands as a shell's line.
        let command = command.strip_prefix("$ ").unwrap_or(command).trim();
        if !command.is_empty() && !found.iter().any(|known| known == command) {
            found.push(command.to_owned());
        }
        rest = &inner[end + ticks.len()..];
    }
    found
}

/// Where the next row of exactly so many backticks begins.
fn closing(text: &str, count: usize) -> Option<usize> {
    let mut at = 0;
    while let Some(start) = text[at..].find('`') {
        let row = &text[at + start..];
        let len = row.len() - row.trim_start_matches('`').len();
        if len == count {
            return Some(at + start);
        }
        at += start + len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_what_somebody_says_to_have_done() {
        let text = "# Sign-off\n\
            - [x] Tests pass: `cargo test`\n\
            - [ ] Docs built: `make docs`\n\
            * [X] `$ make lint` is clean, see `lint.log`\n\
            1. [x] nothing named\n\
            Verified: ``echo `date` ``\n\
            **Confirmed** that it works (`true`)\n\
            - validated with `./run.sh`\n\
            Unverified: `false`\n\
            verifiedly not one `false`\n\
            I verified it with `x`\n\
            ```\n- [x] quoted `false`\n```\n\
            - [x] empty ` `\n\
            [x] open `tick\n\
            [x] both ``open `a`, `b` and `a`\n";
        let found: Vec<(u64, Vec<String>)> = claims(text).into_iter().map(|c| (c.line, c.commands)).collect();
        let is = |line, commands: &[&str]| (line, commands.iter().map(|c| (*c).to_owned()).collect());
        assert_eq!(
            found,
            [
                is(2, &["cargo test"]),
                is(4, &["make lint", "lint.log"]),
                is(5, &[]),
                is(6, &["echo `date`"]),
                is(7, &["true"]),
                is(8, &["./run.sh"]),
                is(15, &[]),
                is(16, &[]),
                is(17, &["a", "b"]),
            ]
        );
        assert_eq!(claims(text)[0].text, "Tests pass: `cargo test`");
        assert!(claims("").is_empty() && claims("- [ ] `true`\nall good\n").is_empty());
    }
}
