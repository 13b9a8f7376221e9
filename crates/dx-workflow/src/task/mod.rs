//! Task files: specifications, plans of several units, reports, project facts; read from Markdown, and what is wrong with them.
//!
//! Must never: guess what a section means that is not there.

mod check;
mod markdown;
mod pipeline;
mod report;
mod scope;
mod spec;
mod units;

pub use check::{AGY_ON, CONTEXT_SECTIONS, TaskFiles, UnitFiles, agy_lines, check_context, check_task};
pub use pipeline::{Next, next};
pub use report::{Report, ReportKind, report_findings};
pub use spec::{RUNNABLE, Spec};
pub use units::{Unit, layers, waits};

/// The document that a task is.
pub const SPEC: &str = "task-spec.md";
/// The agent that always runs last.
pub const VALIDATOR: &str = "validator";

/// Letters with marks, and how they are written without.
const PLAIN: &[(&str, &str)] = &[
    ("áàâãåāăą", "a"),
    ("ç\u{107}č", "c"),
    ("ďđð", "d"),
    ("éèêëēėęě", "e"),
    ("ğ", "g"),
    ("íìîïīįı", "i"),
    ("ł", "l"),
    ("ñńň", "n"),
    ("óòôõōő", "o"),
    ("řŕ", "r"),
    ("śšş", "s"),
    ("ťţ", "t"),
    ("úùûūůűų", "u"),
    ("ýÿ", "y"),
    ("źżž", "z"),
    ("äæ", "ae"),
    ("öøœ", "oe"),
    ("ü", "ue"),
    ("ß", "ss"),
    ("þ", "th"),
];

/// A short name for a folder: lower case letters, digits and single dashes. `task` for a title in another script, and empty for
/// one without any letter or digit.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.to_lowercase().chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if let Some((_, plain)) = PLAIN.iter().find(|(marked, _)| marked.contains(c)) {
            slug.push_str(plain);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
        if slug.len() >= 48 {
            slug.truncate(48);
            break;
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() && title.contains(char::is_alphanumeric) { "task".to_owned() } else { slug.to_owned() }
}

/// The number of a task's folder: three digits or more, a dash, a name.
pub fn number(folder: &str) -> Option<u32> {
    let (digits, name) = folder.split_once('-')?;
    let fine = digits.len() >= 3 && !name.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders() {
        assert_eq!(slug("  Add a “--json” flag, fast! "), "add-a-json-flag-fast");
        assert_eq!(slug("äöü ß É"), "aeoeue-ss-e");
        assert_eq!(
            (slug("日本"), slug("日本 2"), slug("…")),
            ("task".to_owned(), "2".to_owned(), String::new())
        );
        assert_eq!(slug(&"ß".repeat(60)).len(), 48);
        assert!(slug(&"x y ".repeat(60)).len() <= 48);
        assert_eq!(
            (number("007-a"), number("1234-b-c"), number("07-a"), number("007"), number("abc-d")),
            (Some(7), Some(1234), None, None, None)
        );
    }
}
