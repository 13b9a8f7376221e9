//! The scope gate: every changed path matches an allowed pattern and no forbidden one. A pure function over paths.
//!
//! Patterns are read as in `.gitignore`: one without a slash matches a name in any folder, one with a slash begins at the
//! worktree's top; `*` stops at a slash, `**` does not; what a pattern matches it matches with all below.

use crate::error::EngineError;
use dx_protocol::{GateReport, ReasonCode};
use glob::{MatchOptions, Pattern};

/// Never allowed, in any folder. A `.git` is, with all below it, because no gate can judge the history of a repository inside.
const FORBIDDEN: [&str; 5] = [".env*", "*.pem", "*.key", "secrets/*", ".git"];
/// A report names no more paths than this.
const MAX_NAMED: usize = 20;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Allowed and forbidden patterns, checked.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// Each list must allow a path; an empty one allows all.
    allowed: Vec<Vec<Rule>>,
    forbidden: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// Matches names in any folder.
    anywhere: bool,
}

impl Rule {
    fn parse(text: &str) -> Result<Self, EngineError> {
        let trimmed = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
        let anchored = trimmed.contains('/');
        let pattern = trimmed.strip_prefix('/').unwrap_or(trimmed);
        let wrong = |why: &str| EngineError::Argument(format!("`{text}` is no pattern of paths: {why}"));
        if pattern.is_empty() || pattern.split('/').any(|part| part == "..") {
            return Err(wrong("it names nothing below the worktree"));
        }
        let pattern = Pattern::new(pattern).map_err(|error| wrong(error.msg))?;
        Ok(Self { pattern, anywhere: !anchored })
    }

    /// The path or a folder above it.
    fn matches(&self, path: &str) -> bool {
        folders_and(path).any(|part| {
            let part = if self.anywhere { part.rsplit('/').next().unwrap_or(part) } else { part };
            self.pattern.matches_with(part, OPTIONS)
        })
    }
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn folders_and(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

impl Scope {
    /// `allowed` are lists that all must hold; `forbidden` is added to what is forbidden anyway.
    pub(crate) fn parse(allowed: &[Vec<String>], forbidden: &[String]) -> Result<Self, EngineError> {
        let rules = |texts: &mut dyn Iterator<Item = &str>| texts.map(Rule::parse).collect::<Result<_, _>>();
        let allowed = allowed.iter().map(|list| rules(&mut list.iter().map(String::as_str)));
        Ok(Self {
            allowed: allowed.collect::<Result<_, _>>()?,
            forbidden: rules(&mut FORBIDDEN.into_iter().chain(forbidden.iter().map(String::as_str)))?,
        })
    }

    pub(crate) fn is_forbidden(&self, path: &str) -> bool {
        // In any folder: the path, and what is left of it below each of its folders.
        let mut tails = std::iter::once(path).chain(path.match_indices('/').map(|(at, _)| &path[at + 1..]));
        tails.any(|tail| self.forbidden.iter().any(|rule| rule.matches(tail)))
    }

    fn is_outside(&self, path: &str) -> bool {
        let allows = |list: &Vec<Rule>| list.is_empty() || list.iter().any(|rule| rule.matches(path));
        !self.allowed.iter().all(allows)
    }

    /// The paths that are not allowed, in their order.
    pub(crate) fn violations(&self, paths: &[String]) -> Vec<String> {
        let paths = paths.iter().map(|path| path.trim_end_matches('/'));
        paths.filter(|path| self.is_forbidden(path) || self.is_outside(path)).map(str::to_owned).collect()
    }

    /// The verdict on what changed. Without allowed patterns only the forbidden ones count.
    pub(crate) fn judge(&self, paths: &[String], budget: Option<u64>) -> GateReport {
        let trimmed = paths.iter().map(|path| path.trim_end_matches('/'));
        let (banned, rest): (Vec<&str>, Vec<&str>) = trimmed.partition(|path| self.is_forbidden(path));
        let outside: Vec<&str> = rest.into_iter().filter(|path| self.is_outside(path)).collect();
        if !banned.is_empty() || !outside.is_empty() {
            let told = [("forbidden", &banned), ("outside the scope", &outside)]
                .into_iter()
                .filter(|(_, paths)| !paths.is_empty())
                .map(|(what, paths)| format!("{what}: {}", listed(paths)));
            let details = told.collect::<Vec<_>>().join("; ");
            return GateReport::new(false, ReasonCode::ScopeViolation, details);
        }
        if let Some(budget) = budget.filter(|budget| paths.len() as u64 > *budget) {
            let details = format!("{} paths changed, {budget} are allowed", paths.len());
            return GateReport::new(false, ReasonCode::MutationBudgetExceeded, details);
        }
        GateReport::new(true, ReasonCode::ScopeOk, format!("{} paths changed", paths.len()))
    }
}

fn listed(paths: &[&str]) -> String {
    let named = paths.iter().take(MAX_NAMED).map(|path| path.escape_debug().to_string()).collect::<Vec<_>>();
    let more = paths.len().saturating_sub(MAX_NAMED);
    if more == 0 { named.join(", ") } else { format!("{} and {more} more", named.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(allowed: &[&str], path: &str) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
        Scope::parse(&[allowed], &[]).unwrap().judge(&[path.to_owned()], None).passed
    }

    #[test]
    fn patterns_are_read_as_gitignore_reads_them() {
        let rows: &[(&str, &[&str], &[&str])] = &[
            ("src", &["src/a.rs", "src/deep/a.rs", "x/src/a.rs"], &["srcs/a.rs", "a.rs"]),
            ("/src", &["src/a.rs"], &["x/src/a.rs"]),
            ("src/", &["src/a.rs"], &["srcs"]),
            ("./src/*", &["src/a.rs", "src/deep/a.rs"], &["x/src/a.rs", "src2/a.rs"]),
            ("src/*.rs", &["src/a.rs"], &["src/deep/a.rs", "src/a.py"]),
            ("src/**/*.rs", &["src/a.rs", "src/x/y/a.rs"], &["src/a.py"]),
            ("*.md", &["README.md", "docs/a.md"], &["README.txt"]),
            ("**", &["a", "a/b", ".hidden"], &[]),
            ("a?[bc]", &["axb", "d/ayc"], &["ax", "axd"]),
        ];
        for (pattern, yes, no) in rows {
            for path in *yes {
                assert!(verdict(&[pattern], path), "{pattern} {path}");
            }
            for path in *no {
                assert!(!verdict(&[pattern], path), "{pattern} {path}");
            }
        }
        assert!(verdict(&["a", "b"], "b/x"));
        for wrong in ["", "/", "../x", "a/../b", "[", "a**b"] {
            assert!(Scope::parse(&[vec![wrong.to_owned()]], &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn forbidden_paths_are_so_in_any_folder_and_whatever_is_allowed() {
        let bad = [
            ".env",
            ".env.local",
            "app/.env",
            "x.pem",
            "certs/x.pem",
            "id.key",
            "secrets/a",
            "secrets/a/b",
            "x/secrets/a",
            "sub/.git/config",
            "sub/.git",
            ".git/hooks/pre-commit",
            ".envs/a",
        ];
        for path in bad {
            assert!(!verdict(&["**"], path), "{path}");
            assert!(!verdict(&[], path), "{path}");
        }
        for path in ["env", "pem", "key.rs", "secrets.md", ".gitignore", "a.environment"] {
            assert!(verdict(&["**"], path) && verdict(&[], path), "{path}");
        }
    }

    #[test]
    fn a_report_names_what_is_wrong() {
        let scope = Scope::parse(&[vec!["src".to_owned()]], &[]).unwrap();
        let judge = |paths: &[&str], budget| {
            scope.judge(&paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>(), budget)
        };
        let report = judge(&["src/a", "src/.env", "b\u{1b}", "c"], None);
        assert_eq!(report.reason_code, ReasonCode::ScopeViolation);
        assert_eq!(report.details, "forbidden: src/.env; outside the scope: b\\u{1b}, c");
        assert_eq!(judge(&["src/a", "src/b"], Some(1)).reason_code, ReasonCode::MutationBudgetExceeded);
        assert!(judge(&["src/a", "src/b"], Some(2)).passed);
        assert!(judge(&[], Some(0)).passed);
        let many: Vec<String> = (0..30).map(|n| format!("f{n}")).collect();
        assert!(scope.judge(&many, None).details.ends_with("f19 and 10 more"));
    }

    #[test]
    fn every_list_must_allow_a_path_and_more_can_be_forbidden() {
        let lists = [vec!["src".to_owned()], Vec::new(), vec!["*.rs".to_owned(), "*.md".to_owned()]];
        let scope = Scope::parse(&lists, &["gen".to_owned()]).unwrap();
        let paths = ["src/a.rs", "src/a.py", "b.rs", "src/gen/a.rs"].map(ToOwned::to_owned);
        assert_eq!(scope.violations(&paths), ["src/a.py", "b.rs", "src/gen/a.rs"]);
        let report = scope.judge(&paths, None);
        assert_eq!(report.details, "forbidden: src/gen/a.rs; outside the scope: src/a.py, b.rs");
        assert!(Scope::parse(&[], &["[".to_owned()]).is_err());
    }
}
