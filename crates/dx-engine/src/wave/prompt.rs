//! What agents of a wave are told: the item's prompt, with the findings of the attempt before; and a review's.
//!
//! Must never put anything into a prompt that is not the user's, the check's or the review's word.

use crate::error::EngineError;
use crate::secrets::mask_text;
use std::path::Path;

/// No prompt is longer.
const MAX_BYTES: u64 = 64 << 20;
/// Of a check's output this many lines, and bytes, are findings.
const TAIL_LINES: usize = 60;
const TAIL_BYTES: usize = 6 << 10;
/// Of a check's output no more is read.
const MAX_TAIL: u64 = 4 << 20;

/// A prompt that the wave keeps; empty when there is none.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    match dx_jobdir::read_bounded(path, MAX_BYTES) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(EngineError::PromptUnreadable { path: path.to_owned(), source }),
    }
}

/// The prompt of an attempt.
pub(super) fn of_attempt(prompt: Vec<u8>, number: u32, findings: &[String]) -> Vec<u8> {
    if findings.is_empty() {
        return prompt;
    }
    let mut text = prompt;
    let break_line: &[u8] = if text.is_empty() { b"" } else { b"\n\n" };
    text.extend_from_slice(break_line);
    let head = format!(
        "This is attempt {number}. What the attempt before did is still in the worktree. It was not accepted:\n\n"
    );
    text.extend_from_slice(head.as_bytes());
    for finding in findings {
        text.extend_from_slice(format!("- {}\n", finding.replace('\n', "\n  ")).as_bytes());
    }
    text
}

/// What a review's agent is told after the user's own words.
pub(super) fn of_review(prompt: Vec<u8>, item: &str, base: &str, commit: &str) -> Vec<u8> {
    let mut text = prompt;
    let told = format!(
        "\n\nYou review the work on item {item}. The current folder has it checked out at commit {commit}; \
         `git diff {base} {commit}` shows it. Change nothing.\n\
         End with one JSON object and nothing after it:\n\
         {{\"verdict\": \"APPROVED\" or \"REVISION_REQUIRED\" or \"BLOCKED\", \"findings\": [\"what must be done, and where\"]}}\n\
         REVISION_REQUIRED needs at least one finding. BLOCKED means that a person must decide.\n"
    );
    text.extend_from_slice(told.as_bytes());
    text
}

/// The end of a check's output, as one finding; nothing when it printed nothing.
pub(super) fn tail(path: &Path) -> Option<String> {
    let bytes = dx_jobdir::read_bounded(path, MAX_TAIL).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let mut kept = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    if kept.len() > TAIL_BYTES {
        let mut from = kept.len() - TAIL_BYTES;
        while !kept.is_char_boundary(from) {
            from += 1;
        }
        kept = format!("…{}", &kept[from..]);
    }
    (!kept.trim().is_empty()).then(|| format!("its output ends with:\n{}", mask_text(&kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_follow_the_prompt() {
        assert_eq!(of_attempt(b"do".to_vec(), 1, &[]), b"do");
        let text = of_attempt(b"do".to_vec(), 2, &["one\ntwo".to_owned(), "three".to_owned()]);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("do\n\nThis is attempt 2."), "{text}");
        assert!(text.ends_with("\n\n- one\n  two\n- three\n"), "{text}");
        assert!(of_attempt(Vec::new(), 2, &["x".to_owned()]).starts_with(b"This is attempt 2."));
    }

    #[test]
    fn a_long_output_is_cut_at_its_head() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("log");
        assert_eq!(tail(&path), None);
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(tail(&path), None);
        let long = (0..5_000).map(|n| format!("line {n} é")).collect::<Vec<_>>().join("\n");
        std::fs::write(&path, long).unwrap();
        let kept = tail(&path).unwrap();
        assert!(kept.ends_with("line 4999 é") && kept.lines().count() <= TAIL_LINES + 1);
    }
}
