//! The rules of a configured provider, applied to what its agent printed.
//!
//! Called at the end of a run, by whoever settles it. Must never: read more than the last part of an output, or show a
//! secret.

use crate::secrets::Masking;
use dx_jobdir::RunPaths;
use dx_protocol::{ErrorClass, Grammar, OutputMatch, OutputRules, ProviderVerdict};
use regex_lite::Regex;
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Expressions are tried on so many of the last lines.
const LAST_LINES: usize = 40;
/// No more of an output is read.
const LAST_BYTES: u64 = 1 << 20;
/// A told line is cut to this.
const LINE_CHARS: usize = 400;

/// The verdict with the rules in force. `clean` is whether the process ended with 0.
pub(crate) fn judge(
    verdict: ProviderVerdict,
    rules: &OutputRules,
    paths: &RunPaths,
    grammar: Grammar,
    clean: bool,
    masking: &Masking,
) -> ProviderVerdict {
    if rules.is_empty() {
        return verdict;
    }
    let log = tail(&paths.log());
    let err = if grammar == Grammar::Text { log.clone() } else { tail(&paths.err()) };
    let text = Texts { log: &log, err: &err };
    let well = clean && matches!(verdict, ProviderVerdict::Ok | ProviderVerdict::NotApplicable);
    for rule in &rules.errors {
        // Words on standard error are for people: they say which failure it was, not that it was one.
        if well && !matches!(rule.when, OutputMatch::Field { .. }) {
            continue;
        }
        if let Some(line) = text.find(&rule.when) {
            let line: String = line.trim().chars().take(LINE_CHARS).collect();
            let message = masking.secrets.mask_text(&line).into_owned();
            return ProviderVerdict::Failed { class: rule.class, status: None, message };
        }
    }
    match &rules.success {
        Some(sign) if well => match text.find(sign) {
            Some(_) => ProviderVerdict::Ok,
            None => ProviderVerdict::NoResult,
        },
        // An error that the grammar found and no rule names stays what it is.
        _ => verdict,
    }
}

/// Which classes a rule can give, by the reason code that a start of this provider would be told with.
pub(super) const REASONS: [(&str, ErrorClass); 5] = [
    ("provider_auth_blocked", ErrorClass::Auth),
    ("provider_rate_limited", ErrorClass::RateLimit),
    ("provider_model_unavailable", ErrorClass::ModelUnavailable),
    ("provider_unreachable", ErrorClass::Network),
    ("provider_reported_error", ErrorClass::Other),
];

struct Texts<'a> {
    log: &'a str,
    err: &'a str,
}

impl Texts<'_> {
    /// The line that the sign is in.
    fn find(&self, sign: &OutputMatch) -> Option<&str> {
        match sign {
            OutputMatch::Field { field, equals } => {
                self.log.lines().rev().find(|line| has_field(line, field, equals))
            }
            OutputMatch::Stdout { pattern } => matching(self.log, pattern),
            OutputMatch::Stderr { pattern } => matching(self.err, pattern),
        }
    }
}

fn matching<'a>(text: &'a str, pattern: &str) -> Option<&'a str> {
    // It was tried when the configuration was read.
    let expression = Regex::new(pattern).ok()?;
    text.lines().rev().take(LAST_LINES).find(|line| expression.is_match(line))
}

fn has_field(line: &str, field: &str, equals: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(line.trim()) else { return false };
    match field.split('.').try_fold(&value, |value, name| value.get(name)) {
        Some(Value::String(text)) => text == equals,
        Some(Value::Number(number)) => number.to_string() == equals,
        Some(Value::Bool(flag)) => flag.to_string() == equals,
        _ => false,
    }
}

/// The end of a file, from the beginning of a line on; empty when it cannot be read.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(LAST_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut bytes)?;
        if from > 0 {
            let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            bytes.drain(..line);
        }
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_found_where_they_stand() {
        let log = "plain\n{\"error\":{\"type\":\"auth\",\"code\":7},\"ok\":false}\nlast line\n";
        let err = "warming up\nError: too many requests\n";
        let text = Texts { log, err };
        let field =
            |field: &str, equals: &str| OutputMatch::Field { field: field.into(), equals: equals.into() };
        assert!(text.find(&field("error.type", "auth")).is_some());
        assert!(text.find(&field("error.code", "7")).is_some() && text.find(&field("ok", "false")).is_some());
        assert!(
            text.find(&field("error.type", "other")).is_none() && text.find(&field("plain", "x")).is_none()
        );
        let stderr = OutputMatch::Stderr { pattern: "(?i)TOO many".into() };
        assert_eq!(text.find(&stderr), Some("Error: too many requests"));
        assert!(text.find(&OutputMatch::Stdout { pattern: "too many".into() }).is_none());
    }
}
