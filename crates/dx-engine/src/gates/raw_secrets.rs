//! Prompts that tell an agent to read secrets itself: refused before anything is made.
//!
//! 1Password's command line answers with the whole secret on standard output, which an agent keeps in its context and its
//! log. Who needs a secret in a job gives it as a variable. Called by: `start`, for every provider.

/// A refusal names no more lines than this.
const MAX_NAMED: usize = 5;
/// Of a line no more characters are shown.
const MAX_SHOWN: usize = 120;
/// What `op` does that ends with a secret in the agent's hands, and what must follow: any of these words, or anything. The
/// word `run` is English too, so it needs an option.
const COMMANDS: [(&str, &[&str]); 6] = [
    ("read", &[]),
    ("inject", &[]),
    ("signin", &[]),
    ("run", &["-"]),
    ("item", &["get", "list"]),
    ("document", &["get"]),
];

/// The lines (counted from 1) that call it.
pub(crate) fn lines_in(prompt: &str) -> Vec<(usize, String)> {
    let numbered = prompt.lines().enumerate().filter(|(_, line)| calls_op(line));
    numbered
        .take(MAX_NAMED)
        .map(|(at, line)| (at + 1, line.trim().chars().take(MAX_SHOWN).collect()))
        .collect()
}

fn calls_op(line: &str) -> bool {
    // What can stand around a word of a command, in a sentence or a shell's line.
    let is_edge = |c: char| c.is_whitespace() || "`'\"$(){}[]<>;|&,*".contains(c);
    let words: Vec<&str> = line.split(is_edge).filter(|word| !word.is_empty()).collect();
    let is_op = |word: &str| word == "op" || word.ends_with("/op");
    (0..words.len()).any(|at| is_op(words[at]) && begins(after_options(&words[at + 1..])))
}

/// Options of `op` itself stand before its command, some with a value.
fn after_options<'w, 'l>(mut words: &'w [&'l str]) -> &'w [&'l str] {
    let is_command = |word: &str| COMMANDS.iter().any(|(command, _)| *command == word);
    while let [option, rest @ ..] = words {
        if !option.starts_with('-') {
            break;
        }
        words = match rest {
            [value, more @ ..] if !value.starts_with('-') && !is_command(value) => more,
            _ => rest,
        };
    }
    words
}

/// Whether a command of the table stands here.
fn begins(words: &[&str]) -> bool {
    let [first, rest @ ..] = words else { return false };
    // The end of a sentence is no part of the word.
    let plain = |word: &str| word.trim_end_matches(['.', ':', '!', '?']).to_owned();
    COMMANDS.iter().filter(|(command, _)| *command == plain(first)).any(|(_, follows)| {
        let next = rest.first().map(|word| plain(word)).unwrap_or_default();
        follows.is_empty()
            || follows.iter().any(|f| if *f == "-" { next.starts_with('-') } else { *f == next })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_a_secret_is_found_and_english_is_not() {
        for bad in [
            "op read op://vault/item/field",
            "Run `op read \"op://v/i/f\"` first.",
            "export TOKEN=$(op read op://v/i/f)",
            "use op item get github --fields token",
            "/usr/bin/op document get x",
            "op --account work item get x",
            "op --vault=a --account b read op://x",
            "eval $(op signin)",
            "then `op read`.",
            "op run --env-file=.env -- make",
            "TOKEN=\"$(op inject -i f)\"",
        ] {
            assert!(calls_op(bad), "{bad}");
        }
        for good in [
            "The op ran well.",
            "Each op run took a second.",
            "stop read ahead",
            "co-op reading",
            "Look at op.read() in the code",
            "op item create",
            "Rename the variable op",
            "",
        ] {
            assert!(!calls_op(good), "{good}");
        }
    }

    #[test]
    fn lines_are_named_and_not_too_many() {
        let text = format!("Do this:\n  op read op://{}\nfine\n{}", "x".repeat(300), "op signin\n".repeat(9));
        let found = lines_in(&text);
        assert_eq!(found.len(), MAX_NAMED);
        assert_eq!((found[0].0, found[1].0), (2, 4));
        assert_eq!(found[0].1.chars().count(), MAX_SHOWN);
    }
}
