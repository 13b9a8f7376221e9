//! A review's verdict out of what its agent said. Pure.
//!
//! Called by: `review`. Must never guess: what is not exactly a verdict is none.

use dx_protocol::ReviewVerdict;
use serde::Deserialize;

/// What the last JSON object with a `verdict` must look like.
#[derive(Debug, Deserialize)]
struct Said {
    verdict: ReviewVerdict,
    #[serde(default)]
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Finding {
    Text(String),
    Place { message: String, file: Option<String>, line: Option<u64> },
}

impl Finding {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Place { message, file: Some(file), line: Some(line) } => {
                format!("{file}:{line}: {message}")
            }
            Self::Place { message, file: Some(file), line: None } => format!("{file}: {message}"),
            Self::Place { message, .. } => message,
        }
    }
}

/// The verdict with its findings; the error says why there is none.
pub(super) fn read(text: &str) -> Result<(ReviewVerdict, Vec<String>), String> {
    for (at, _) in text.rmatch_indices('{') {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<serde_json::Value>();
        let Some(Ok(value)) = values.next() else { continue };
        if value.get("verdict").is_none() {
            continue;
        }
        let said: Said =
            serde_json::from_value(value).map_err(|error| format!("its verdict is not valid: {error}"))?;
        let findings: Vec<String> = said.findings.into_iter().map(Finding::text).collect();
        if said.verdict == ReviewVerdict::RevisionRequired
            && findings.iter().all(|text| text.trim().is_empty())
        {
            return Err("it wants a revision and says not what".to_owned());
        }
        return Ok((said.verdict, findings));
    }
    Err("it told no JSON object with a verdict".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_verdict_counts_and_must_be_whole() {
        let approved = "thinking {\"verdict\": \"BLOCKED\", \"findings\": []}\n```json\n{\"verdict\":\"APPROVED\",\"findings\":[]}\n```\n";
        assert_eq!(read(approved), Ok((ReviewVerdict::Approved, Vec::new())));
        let revise = "{\"verdict\":\"REVISION_REQUIRED\",\"findings\":[\"a\",{\"file\":\"x.rs\",\"line\":3,\"message\":\"b\"},{\"message\":\"c\"}]}";
        let findings = vec!["a".to_owned(), "x.rs:3: b".to_owned(), "c".to_owned()];
        assert_eq!(read(revise), Ok((ReviewVerdict::RevisionRequired, findings)));
        assert_eq!(read("{\"verdict\":\"BLOCKED\"}").unwrap().0, ReviewVerdict::Blocked);
        for wrong in [
            "",
            "APPROVED",
            "{\"verdict\":\"approved\"}",
            "{\"verdict\":\"APPROVED\",\"findings\":\"none\"}",
            "{\"verdict\":\"REVISION_REQUIRED\",\"findings\":[]}",
            "{\"verdict\":\"REVISION_REQUIRED\",\"findings\":[\" \"]}",
            "{\"verdict\":\"APPROVED\"",
            "{\"verdict\":1}",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
