//! The open issues of Beads as items: those that are ready, and those that wait for nothing but such issues.
//!
//! Called by the check of a wave. What waits for what is Beads' own word. Must never: write.

use super::check::branches::Branches;
use crate::beads::{Bd, Refusal};
use crate::error::EngineError;
use crate::settings::Layers;
use dx_protocol::{GateReport, ReasonCode, WaveLeftOut};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Where a prompt was read that is an issue's.
pub(super) const PROMPT: &str = "bd";
const OPEN: &str = "open";
/// A heading for other issues.
const EPIC: &str = "epic";

/// What `bd ready` and `bd blocked` tell of an issue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Told {
    id: String,
    title: String,
    description: String,
    design: String,
    acceptance_criteria: String,
    notes: String,
    status: String,
    issue_type: String,
    blocked_by: Vec<String>,
}

/// One that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Issue {
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) needs: Vec<String>,
}

/// All open ones, in Beads' order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Issues {
    pub(super) items: Vec<Issue>,
    pub(super) left_out: Vec<WaveLeftOut>,
}

/// Asks `bd` in a repository.
pub(super) fn read(settings: &Layers, repo: &Path, there: &Branches) -> Result<Issues, EngineError> {
    let told = || -> Result<(Vec<Told>, Vec<Told>), Refusal> {
        let bd = Bd::find(settings, repo)?;
        let list = |args: &[&str]| -> Result<Vec<Told>, Refusal> {
            let unread = |e| (ReasonCode::BeadsDbError, format!("`bd {}` answered otherwise: {e}", args[0]));
            serde_json::from_value(bd.call(args)?).map_err(unread)
        };
        let ready = list(&["ready", "--json", "--limit", "0"])?;
        // Some cut this list off unless they are told not to; others know no such option, and cut nothing off.
        let blocked = match list(&["blocked", "--json", "--limit", "0"]) {
            Err((ReasonCode::BeadsDbError, _)) => list(&["blocked", "--json"])?,
            told => told?,
        };
        Ok((ready, blocked))
    };
    let (ready, blocked) = told().map_err(refused)?;
    let issues = choose(ready, blocked, there);
    if issues.items.is_empty() {
        let details = match issues.left_out.len() {
            0 => "there is no open issue".to_owned(),
            count => format!("none of {count} open issues can be begun"),
        };
        return Err(refused((ReasonCode::BeadsNoneReady, details)));
    }
    Ok(issues)
}

fn refused((reason, details): Refusal) -> EngineError {
    EngineError::Gate(GateReport::new(false, reason, details))
}

/// Ready issues, and then, again and again, what waits for chosen ones only.
fn choose(ready: Vec<Told>, blocked: Vec<Told>, there: &Branches) -> Issues {
    let mut issues = Issues::default();
    let mut waiting = Vec::new();
    let mut chosen = BTreeSet::new();
    // Beads tells of those that somebody works on, too.
    let open = |list: Vec<Told>| list.into_iter().filter(|issue| issue.status == OPEN);
    for (is_ready, issue) in
        open(ready).map(|issue| (true, issue)).chain(open(blocked).map(|issue| (false, issue)))
    {
        if issue.issue_type == EPIC {
            issues.leave_out(&issue, "an epic is done by its issues");
        } else if let Some(unfit) = there.unfit(&issue.id) {
            issues.leave_out(&issue, &unfit.of_issue());
        } else if is_ready {
            chosen.insert(issue.id.clone());
            issues.items.push(Issue { needs: Vec::new(), ..item(issue) });
        } else {
            waiting.push(issue);
        }
    }
    loop {
        let is_next = |issue: &Told| {
            !issue.blocked_by.is_empty() && issue.blocked_by.iter().all(|id| chosen.contains(id))
        };
        let (next, rest): (Vec<Told>, Vec<Told>) = waiting.into_iter().partition(is_next);
        waiting = rest;
        if next.is_empty() {
            break;
        }
        chosen.extend(next.iter().map(|issue| issue.id.clone()));
        issues.items.extend(next.into_iter().map(item));
    }
    for issue in waiting {
        let missing = issue.blocked_by.iter().filter(|id| !chosen.contains(*id)).cloned();
        let why = format!("it waits for {}, which is not begun here", missing.collect::<Vec<_>>().join(", "));
        issues.leave_out(&issue, &why);
    }
    issues
}

impl Issues {
    fn leave_out(&mut self, issue: &Told, why: &str) {
        let [id, why] = [issue.id.as_str(), why].map(dx_events::printable);
        self.left_out.push(WaveLeftOut { id, why });
    }
}

fn item(issue: Told) -> Issue {
    let mut prompt = format!("{}: {}\n", issue.id, issue.title);
    for (heading, text) in [
        ("", &issue.description),
        ("Design:\n", &issue.design),
        ("Acceptance criteria:\n", &issue.acceptance_criteria),
        ("Notes:\n", &issue.notes),
    ] {
        if !text.trim().is_empty() {
            let _fits = write!(prompt, "\n{heading}{}\n", text.trim());
        }
    }
    Issue { id: issue.id, prompt: dx_events::printable(&prompt) + "\n", needs: issue.blocked_by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(ready: Value, blocked: Value) -> Issues {
        let there = Branches::of(&["feature/x"]);
        choose(serde_json::from_value(ready).unwrap(), serde_json::from_value(blocked).unwrap(), &there)
    }

    #[test]
    fn what_waits_for_chosen_issues_follows_and_the_rest_is_told() {
        let issues = of(
            json!([
                { "id": "bd-1", "title": "One", "status": "open", "description": " Do it. ", "notes": "soon" },
                { "id": "bd-2", "status": "in_progress" },
                { "id": "bd-e", "status": "open", "issue_type": "epic" },
                { "id": "../x", "status": "open" },
                { "id": "HEAD", "status": "open" },
                { "id": "feature", "status": "open" },
            ]),
            json!([
                { "id": "bd-4", "status": "open", "blocked_by": ["bd-3", "bd-1"] },
                { "id": "bd-3", "status": "open", "blocked_by": ["bd-1"] },
                { "id": "bd-5", "status": "open", "blocked_by": ["bd-2", "bd-1"] },
                { "id": "bd-6", "status": "open", "blocked_by": ["bd-7"] },
                { "id": "bd-7", "status": "open", "blocked_by": ["bd-6"] },
                { "id": "bd-9", "status": "open", "blocked_by": ["HEAD"] },
                { "id": "bd-8", "status": "blocked", "blocked_by": ["bd-1"] },
            ]),
        );
        let items: Vec<(&str, Vec<&str>)> = issues
            .items
            .iter()
            .map(|issue| (issue.id.as_str(), issue.needs.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(items, [("bd-1", vec![]), ("bd-3", vec!["bd-1"]), ("bd-4", vec!["bd-3", "bd-1"])]);
        assert_eq!(issues.items[0].prompt, "bd-1: One\n\nDo it.\n\nNotes:\nsoon\n");
        let left: Vec<(&str, &str)> =
            issues.left_out.iter().map(|left| (left.id.as_str(), left.why.as_str())).collect();
        assert_eq!(
            left,
            [
                ("bd-e", "an epic is done by its issues"),
                ("../x", "no job can have this id"),
                ("HEAD", "no branch can have this name"),
                ("feature", "its branch cannot be beside the branch feature/x, which is there"),
                ("bd-5", "it waits for bd-2, which is not begun here"),
                ("bd-6", "it waits for bd-7, which is not begun here"),
                ("bd-7", "it waits for bd-6, which is not begun here"),
                ("bd-9", "it waits for HEAD, which is not begun here"),
            ]
        );
    }
}
