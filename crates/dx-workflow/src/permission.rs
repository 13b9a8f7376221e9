//! What OpenCode makes of rules: patterns, order, and what holds where no rule does.
//!
//! Measured on OpenCode 1.18: the last rule that matches decides; `*` crosses `/`; `cmd *` also means a bare `cmd`. Before an
//! agent's own rules stand OpenCode's, which allow nearly everything. Must never: be kinder than the real program.

use crate::definition::{Effect, Rule};

/// What holds before an agent says anything: nearly all is allowed.
const BASE: &[(&str, &str, Effect)] = &[
    ("*", "*", Effect::Allow),
    ("doom_loop", "*", Effect::Ask),
    ("external_directory", "*", Effect::Ask),
    ("question", "*", Effect::Deny),
    ("plan_enter", "*", Effect::Deny),
    ("plan_exit", "*", Effect::Deny),
    ("read", "*.env", Effect::Ask),
    ("read", "*.env.*", Effect::Ask),
    ("read", "*.env.example", Effect::Allow),
];

/// Whether a pattern matches a whole text.
pub fn matches(pattern: &str, text: &str) -> bool {
    if let Some(command) = pattern.strip_suffix(" *")
        && glob(command.as_bytes(), text.as_bytes())
    {
        return true;
    }
    glob(pattern.as_bytes(), text.as_bytes())
}

/// `*` is any number of characters, `?` one. Goes back to the last `*` only, so that no text takes long.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What decides a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided<'r> {
    pub effect: Effect,
    /// The agent's own rule; `None` where OpenCode's base decides.
    pub rule: Option<&'r Rule>,
}

/// What an agent's rules say of a tool's use on something: a path, a command, an agent's name.
pub fn decide<'r>(rules: &'r [Rule], tool: &str, on: &str) -> Decided<'r> {
    let own = rules.iter().rfind(|rule| matches(&rule.tool, tool) && matches(&rule.pattern, on));
    if let Some(rule) = own {
        return Decided { effect: rule.effect, rule: Some(rule) };
    }
    let base = BASE.iter().rfind(|(name, pattern, _)| matches(name, tool) && matches(pattern, on));
    Decided { effect: base.map_or(Effect::Ask, |(_, _, effect)| *effect), rule: None }
}

/// The effect alone.
pub fn effect(rules: &[Rule], tool: &str, on: &str) -> Effect {
    decide(rules, tool, on).effect
}

/// Whether `wide` matches whatever `narrow` does.
pub(crate) fn covers(wide: &Rule, narrow: &Rule) -> bool {
    let holds = |wide: &str, narrow: &str| wide == "*" || wide == narrow || matches(wide, narrow);
    holds(&wide.tool, &narrow.tool) && holds(&wide.pattern, &narrow.pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_opencodes() {
        for (pattern, text, expected) in [
            ("*", "", true),
            (".ai/tasks/*/x.md", ".ai/tasks/1/2/x.md", true),
            ("*/tests/*", "tests/a", false),
            ("*.test.*", "a.test.ts", true),
            ("*.test.*", "src/a.test.ts", true),
            ("ls *", "ls", true),
            ("ls *", "lsof", false),
            ("git push *+*", "git push origin +main", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!glob(&b"*a".repeat(200), "a".repeat(199).as_bytes()));
    }
}
