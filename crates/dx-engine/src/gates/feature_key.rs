//! The feature-key gate: every commit of a range carries the trailer `Feature-Key: <key>`.
//!
//! Trailers are what git takes for such: lines of the last paragraph of a message, not any line that looks like one. Git is
//! asked outside of every repository and without any configuration, because `trailer.*` of a repository, which an agent can
//! write, changes what counts. Called by: the gate's command and the end of a job.

use super::history::{branch_ref, commit};
use crate::error::EngineError;
use crate::git::{self, Call, Repository};
use dx_protocol::{Gate, GateDocument, GateFacts, GateReport, ReasonCode};
use std::io::Write;
use std::process::Stdio;

/// The trailer's name, which git compares without regard to case.
const TRAILER: &str = "Feature-Key";
/// What a key begins with.
const PREFIX: &str = "bd-";
/// Where work starts from when nobody says: the field's old word, then its new one.
const BASES: [&str; 2] = ["master", "main"];
/// A report names no more commits than this.
const MAX_NAMED: usize = 100;

/// `bd-` and segments of lower-case letters and digits, with dots between.
pub(crate) fn is_key(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segment = |part: &str| !part.is_empty() && part.chars().all(plain);
    text.strip_prefix(PREFIX).is_some_and(|rest| rest.split('.').all(segment))
}

/// The gate by names of branches.
pub(crate) fn of_branch(
    repository: &Repository,
    key: &str,
    branch: Option<&str>,
    base: Option<&str>,
) -> Result<GateDocument, EngineError> {
    let facts = GateFacts {
        branch: Some(branch.unwrap_or("HEAD").to_owned()),
        base: Some(base.unwrap_or(BASES[0]).to_owned()),
        feature_key: Some(key.to_owned()),
        checked_commits: Some(0),
        ..GateFacts::default()
    };
    let failed = |reason, details: String, facts| {
        Ok(GateDocument::new(Gate::FeatureKey, GateReport::new(false, reason, details), facts))
    };
    if !is_key(key) {
        return failed(ReasonCode::FeatureKeyInvalidFormat, format!("`{key}` is no key"), facts);
    }
    let name = branch_ref(branch);
    let Some(tip) = commit(repository, &name) else {
        return failed(ReasonCode::BranchMissing, format!("there is no {name}"), facts);
    };
    let bases = base.map_or_else(|| BASES.to_vec(), |base| vec![base]);
    let Some((base, start)) = bases.iter().find_map(|base| Some((*base, base_commit(repository, base)?)))
    else {
        return failed(
            ReasonCode::BaseBranchMissing,
            format!("there is no {}", bases.join(" and no ")),
            facts,
        );
    };
    let facts = GateFacts { base: Some(base.to_owned()), ..facts };
    if !repository.git_says(&["merge-base", &start, &tip])? {
        let details = format!("{base} {start} and {name} {tip} have no commit in common");
        return failed(ReasonCode::BaseBranchMissing, details, facts);
    }
    let (report, looked) = of_range(repository, key, Some(&start), &tip)?;
    let facts = GateFacts {
        checked_commits: looked.checked_commits,
        commits_without_key: looked.commits_without_key,
        ..facts
    };
    Ok(GateDocument::new(Gate::FeatureKey, report, facts))
}

/// The gate on commits that `tip` has and `start` has not. The key's form was checked.
pub(crate) fn of_range(
    repository: &Repository,
    key: &str,
    start: Option<&str>,
    tip: &str,
) -> Result<(GateReport, GateFacts), EngineError> {
    let commits = messages(repository, start, tip)?;
    let mut without = Vec::new();
    for (id, message) in &commits {
        if !carries(message, key)? {
            without.push(id.clone());
        }
    }
    let (checked, missing) = (commits.len(), without.len());
    let report = if checked == 0 {
        let since = start.unwrap_or("the beginning");
        GateReport::new(false, ReasonCode::NoCommitsInRange, format!("no commit since {since}"))
    } else if missing == 0 {
        GateReport::new(true, ReasonCode::FeatureKeyOk, format!("{checked} commits carry {key}"))
    } else {
        let named = without.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let details = format!("{missing} of {checked} commits do not carry {key}: {named}");
        GateReport::new(false, ReasonCode::FeatureKeyMissingInCommits, details)
    };
    without.truncate(MAX_NAMED);
    let facts = GateFacts {
        checked_commits: Some(checked as u64),
        commits_without_key: Some(without),
        ..GateFacts::default()
    };
    Ok((report, facts))
}

/// A branch here, one of a remote, or any other name of a commit; in this order.
fn base_commit(repository: &Repository, name: &str) -> Option<String> {
    let branches = ["refs/heads/", "refs/remotes/", "refs/remotes/origin/"];
    let found = branches.iter().find_map(|folder| commit(repository, &format!("{folder}{name}")));
    found.or_else(|| commit(repository, name))
}

/// Ids and messages, as they were written, newest first.
fn messages(
    repository: &Repository,
    start: Option<&str>,
    tip: &str,
) -> Result<Vec<(String, Vec<u8>)>, EngineError> {
    let mut revisions = format!("{tip}\n");
    if let Some(start) = start {
        revisions.push('^');
        revisions.push_str(start);
        revisions.push('\n');
    }
    let args = [
        "log",
        "-z",
        "--no-show-signature",
        "--no-notes",
        "--no-patch",
        "--no-color",
        "--format=%H%n%B",
        "--stdin",
    ];
    let list = Call::new(repository, &args).stdin(revisions.into_bytes()).run()?;
    let commit = |entry: &[u8]| {
        let end = entry.iter().position(|byte| *byte == b'\n').unwrap_or(entry.len());
        let message = entry.get(end + 1..).unwrap_or_default().to_vec();
        (String::from_utf8_lossy(&entry[..end]).into_owned(), message)
    };
    Ok(list.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).map(commit).collect())
}

/// Whether one of the message's trailers is the key.
fn carries(message: &[u8], key: &str) -> Result<bool, EngineError> {
    // Most messages without it need no git to say so.
    let lower = message.to_ascii_lowercase();
    if !lower.windows(TRAILER.len()).any(|part| part.eq_ignore_ascii_case(TRAILER.as_bytes())) {
        return Ok(false);
    }
    let args = ["interpret-trailers", "--parse", "--no-divider"];
    let fail = |e: std::io::Error| git::failed(&args, e.to_string());
    let mut command = git::base();
    // No repository and no configuration: nothing that could change what a trailer is.
    command.env("GIT_DIR", "/dev/null").env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir("/").args(args);
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(fail)?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        if let Some(mut pipe) = pipe {
            scope.spawn(move || pipe.write_all(message));
        }
        child.wait_with_output()
    })
    .map_err(fail)?;
    if !output.status.success() {
        return Err(git::ended(&args, &output));
    }
    let is_it = |line: &str| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.trim().eq_ignore_ascii_case(TRAILER) && value.trim() == key)
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().any(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_a_form() {
        for good in ["bd-1", "bd-a1b2", "bd-abc.1", "bd-a.1.2"] {
            assert!(is_key(good), "{good}");
        }
        for bad in
            ["", "bd-", "bd-A", "xx-1", "bd-a..b", "bd-a.", "bd-.a", "bd-a b", "bd-a-b", "BD-1", "bd-ä"]
        {
            assert!(!is_key(bad), "{bad}");
        }
    }

    #[test]
    fn only_what_git_takes_for_a_trailer_counts() {
        let rows: &[(&str, bool)] = &[
            ("Title\n\nFeature-Key: bd-1\n", true),
            ("Title\n\nBody.\n\nFeature-Key: bd-1\nSigned-off-by: A <a@example.invalid>\n", true),
            ("Title\n\nfeature-key:bd-1", true),
            ("Title\r\n\r\nFeature-Key: bd-1\r\n", true),
            ("Title\n\nFeature-Key: bd-2\nFeature-Key: bd-1\n", true),
            // Only a mention: in the body, in the title, in a sentence.
            ("Title\n\nFeature-Key: bd-1\n\nMore text.\n", false),
            ("Feature-Key: bd-1", false),
            (
                "Title\n\nThis has the line\nFeature-Key: bd-1\nin its middle and is no block\nof trailers\nat all.\n",
                false,
            ),
            ("Title\n\nSet Feature-Key: bd-1 later\n", false),
            ("Title\n\n> Feature-Key: bd-1\n", false),
            // Another key.
            ("Title\n\nFeature-Key: bd-11\n", false),
            ("Title\n\nFeature-Key: bd-1, bd-2\n", false),
            ("Title\n\nFeature-Keys: bd-1\n", false),
            ("Title\n\nBody.\n", false),
        ];
        for (message, expected) in rows {
            assert_eq!(carries(message.as_bytes(), "bd-1").unwrap(), *expected, "{message:?}");
        }
        assert!(carries(b"caf\xe9\n\nFeature-Key: bd-1\n", "bd-1").unwrap(), "not UTF-8");
    }
}
