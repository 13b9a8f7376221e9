//! Gates that ask where a commit stands in the history: baseline and integrity.

use crate::error::EngineError;
use crate::git::Repository;
use dx_protocol::{Gate, GateDocument, GateFacts, GateReport, ReasonCode};

/// HEAD contains the required commit.
pub(crate) fn baseline(repository: &Repository, required: &str) -> Result<GateDocument, EngineError> {
    let head = commit(repository, "HEAD");
    let known = commit(repository, required);
    let facts = GateFacts {
        runtime: Some(head.clone().unwrap_or_else(|| "-".to_owned())),
        required: Some(known.clone().unwrap_or_else(|| required.to_owned())),
        ..GateFacts::default()
    };
    let report = match (known, head) {
        _ if required.trim().is_empty() => {
            GateReport::new(false, ReasonCode::RequiredBaselineMissing, "no commit was named")
        }
        (None, _) => {
            let details = format!("{required} is no commit of this repository");
            GateReport::new(false, ReasonCode::RequiredCommitMissing, details)
        }
        (_, None) => GateReport::new(false, ReasonCode::BaselineNotMet, "there is no commit yet"),
        (Some(commit), Some(head)) => {
            if contains(repository, &head, &commit)? {
                GateReport::new(true, ReasonCode::BaselineOk, format!("HEAD {head} contains {commit}"))
            } else {
                let details = format!("HEAD {head} does not contain {commit}");
                GateReport::new(false, ReasonCode::BaselineNotMet, details)
            }
        }
    };
    Ok(GateDocument::new(Gate::Baseline, report, facts))
}

/// The reported commit exists and is on the branch; on HEAD when none is named.
pub(crate) fn integrity(
    repository: &Repository,
    reported: &str,
    branch: Option<&str>,
) -> Result<GateDocument, EngineError> {
    let name = branch_ref(branch);
    let (known, tip) = (commit(repository, reported), commit(repository, &name));
    let facts = GateFacts {
        branch: Some(branch.unwrap_or("HEAD").to_owned()),
        head: Some(tip.clone().unwrap_or_else(|| "-".to_owned())),
        reported: Some(known.clone().unwrap_or_else(|| reported.to_owned())),
        ..GateFacts::default()
    };
    let report = match (known, tip) {
        _ if reported.trim().is_empty() => {
            GateReport::new(false, ReasonCode::ReportedCommitMissing, "no commit was reported")
        }
        (None, _) => {
            let details = format!("{reported} is no commit of this repository");
            GateReport::new(false, ReasonCode::ReportedCommitNotFound, details)
        }
        (_, None) => GateReport::new(false, ReasonCode::BranchMissing, format!("there is no {name}")),
        (Some(commit), Some(tip)) => {
            if contains(repository, &tip, &commit)? {
                GateReport::new(true, ReasonCode::IntegrityOk, format!("{name} {tip} contains {commit}"))
            } else {
                let details = format!("{name} {tip} does not contain {commit}");
                GateReport::new(false, ReasonCode::ReportedNotAncestor, details)
            }
        }
    };
    Ok(GateDocument::new(Gate::Integrity, report, facts))
}

/// The full name of a branch; HEAD when none is named.
pub(super) fn branch_ref(branch: Option<&str>) -> String {
    branch.map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"))
}

fn contains(repository: &Repository, tip: &str, commit: &str) -> Result<bool, EngineError> {
    repository.git_says(&["merge-base", "--is-ancestor", commit, tip])
}

/// The full id of a commit, where git tells one.
pub(super) fn commit(repository: &Repository, name: &str) -> Option<String> {
    repository.commit_of(name).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::real::git;

    #[test]
    fn commits_are_looked_for_in_the_history_they_should_be_in() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        git(dir, &["init", "--quiet", "--initial-branch=main"]);
        let repository = Repository::find(dir).unwrap();
        let of = |answer: Result<GateDocument, EngineError>| {
            let report = answer.unwrap().report;
            (report.passed, report.reason_code)
        };
        let no = |reason| (false, reason);
        assert_eq!(of(baseline(&repository, "abc")), no(ReasonCode::RequiredCommitMissing));
        let commit = |message: &str| {
            git(dir, &["commit", "--quiet", "--allow-empty", "--message", message]);
            git(dir, &["rev-parse", "HEAD"])
        };
        let first = commit("one");
        git(dir, &["branch", "side"]);
        let second = commit("two");
        git(dir, &["tag", "--annotate", "--message=t", "v1", &first]);

        for known in [&first, &second, &first[..10], "v1", "side"] {
            assert_eq!(of(baseline(&repository, known)), (true, ReasonCode::BaselineOk), "{known}");
        }
        assert_eq!(of(baseline(&repository, " ")), no(ReasonCode::RequiredBaselineMissing));
        for unknown in ["--all", "0000000000000000000000000000000000000001", "no-such"] {
            assert_eq!(
                of(baseline(&repository, unknown)),
                no(ReasonCode::RequiredCommitMissing),
                "{unknown}"
            );
        }
        git(dir, &["checkout", "--quiet", "side"]);
        assert_eq!(of(baseline(&repository, &second)), no(ReasonCode::BaselineNotMet));

        let integrity = |commit: &str, branch| of(super::integrity(&repository, commit, branch));
        assert_eq!(integrity(&first, None), (true, ReasonCode::IntegrityOk));
        assert_eq!(integrity(&second, Some("main")), (true, ReasonCode::IntegrityOk));
        assert_eq!(integrity(&second, Some("side")), no(ReasonCode::ReportedNotAncestor));
        assert_eq!(integrity(&second, None), no(ReasonCode::ReportedNotAncestor));
        assert_eq!(integrity("", None), no(ReasonCode::ReportedCommitMissing));
        assert_eq!(integrity("deadbeef", None), no(ReasonCode::ReportedCommitNotFound));
        assert_eq!(integrity(&first, Some("none")), no(ReasonCode::BranchMissing));
    }
}
