//! The table of truth: in each case that is known to go wrong, what a real agent does and what is told of it.
//!
//! The rows are in `truth/rows.txt`; the slow ones run in `cargo xtask soak truth`. Agents that lie are played from
//! recorded transcripts by `lies`, so that what must not be told as success is tested on every machine.

mod lies;
mod table;

#[test]
fn claude_code() {
    table::run("claude-code", "test");
}

#[test]
fn cc_glm() {
    table::run("cc-glm", "test");
}

#[test]
fn codex() {
    table::run("codex", "test");
}

#[test]
fn gemini() {
    table::run("gemini", "test");
}

#[test]
fn opencode() {
    let _turn = crate::opencode::turn();
    table::run("opencode", "test");
}

/// Every case of the slow suite, and of the other provider, is a case somewhere: nothing is forgotten by a typing error.
#[test]
fn the_rows_are_complete() {
    for provider in ["cc-glm", "claude-code", "codex", "gemini", "opencode"] {
        let known: Vec<&str> = ["test", "soak"]
            .into_iter()
            .flat_map(|suite| table::rows(provider, suite))
            .map(|row| row.case())
            .collect();
        for case in [
            "success",
            "wrong key (401)",
            "rate limit (429) with reset, then success",
            "plan used up (429)",
            "server error (500)",
            "garbage instead of an answer",
            "stream dropped in the middle",
            "empty answer",
            "permission refused",
            "unknown model",
            "unknown agent name",
            "hang, ended by a limit",
        ] {
            assert_eq!(known.iter().filter(|known| **known == case).count(), 1, "{provider}: {case}");
        }
        // Where an agent tries for minutes, a limit of ours ends it in the short one.
        let short = table::rows(provider, "test");
        for class in [
            "success",
            "wrong key (401)",
            "rate limit (429) with reset",
            "plan used up (429)",
            "no capacity (429)",
            "server error (500)",
            "nobody at the address",
            "garbage instead of an answer",
            "empty answer",
            "permission refused",
            "unknown model",
            "hang",
        ] {
            assert!(short.iter().any(|row| row.case().starts_with(class)), "{provider}: {class}");
        }
    }
}
