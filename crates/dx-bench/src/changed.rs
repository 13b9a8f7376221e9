//! What differs between a run as it was begun and as it is called again. Must never: pass over a field of the plan.

use dx_protocol::{BenchManifest, BenchPrompt, BenchWorkflow};
use std::fmt;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub what: &'static str,
    pub begun: String,
    pub now: String,
    /// How to go on with the run as it was begun.
    pub mend: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.what, self.begun, self.now)
    }
}

/// Commas between them.
pub(crate) fn told(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The ways to undo them, each once, and the one that always is.
pub(crate) fn next_action(changes: &[Change]) -> String {
    let mut mends: Vec<&str> = Vec::new();
    for change in changes {
        if !mends.contains(&change.mend.as_str()) {
            mends.push(&change.mend);
        }
    }
    format!("{}; or another --run-id", mends.join(", "))
}

/// All that differs. Agents may have been updated in between, and a plan that was not begun has no time.
pub(crate) fn between(begun: &BenchManifest, now: &BenchManifest) -> Vec<Change> {
    const OPTION: &str = "give the options that it was begun with";
    // Without `..`: a field that is added has to be thought of here.
    let BenchManifest {
        schema,
        run_id: _,
        began_at: _,
        program,
        agents: _,
        host,
        os,
        cores,
        commit,
        prompts_version,
        prompts_sha256,
        workflows,
        prompts,
        rounds,
        parallel,
        max_retries,
        timeout_sec,
        required_baseline,
        reported_commit,
        branch,
        later_agents: _,
        opencode_url,
        jobs,
    } = begun;
    let mut changes = Vec::new();
    let mut differ = |what, begun: String, now: String, mend: &str| {
        if begun != now {
            changes.push(Change { what, begun, now, mend: mend.to_owned() });
        }
    };
    let version = format!("use dx-runner {program}");
    let there = if commit == "-" {
        "call it outside of a repository".to_owned()
    } else {
        format!("check out {commit}")
    };
    differ("commit", commit.clone(), now.commit.clone(), &there);
    differ("dx-runner", program.clone(), now.program.clone(), &version);
    differ("form of the plan", schema.clone(), now.schema.clone(), &version);
    differ("host", host.clone(), now.host.clone(), &format!("call it on {host}"));
    differ("system", os.clone(), now.os.clone(), &format!("call it under {os}"));
    differ("cores", cores.to_string(), now.cores.to_string(), &format!("give it {cores} cores"));
    differ("--workflows and --model", lanes(workflows), lanes(&now.workflows), OPTION);
    let file = "give the file of prompts as it was";
    differ("version of the prompts", prompts_version.to_string(), now.prompts_version.to_string(), file);
    differ("SHA-256 of the prompts", prompts_sha256.clone(), now.prompts_sha256.clone(), file);
    differ("prompts", rows(prompts), rows(&now.prompts), file);
    differ("--rounds", rounds.to_string(), now.rounds.to_string(), OPTION);
    differ("--parallel", parallel.to_string(), now.parallel.to_string(), OPTION);
    differ("--max-retries", max_retries.to_string(), now.max_retries.to_string(), OPTION);
    differ("--timeout", timeout_sec.to_string(), now.timeout_sec.to_string(), OPTION);
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let server = match opencode_url {
        Some(host) => format!("set OPENCODE_URL to {host}"),
        None => "unset OPENCODE_URL".to_owned(),
    };
    differ("OPENCODE_URL", told(opencode_url), told(&now.opencode_url), &server);
    // A gate may be added to a run, but one that failed is not passed by leaving it away.
    let gates = [
        ("--required-baseline", required_baseline, &now.required_baseline),
        ("--reported-commit", reported_commit, &now.reported_commit),
        // Of no meaning without the commit; without a branch HEAD was meant.
        ("--branch", branch, if reported_commit.is_some() { &now.branch } else { branch }),
    ];
    for (what, begun, now) in gates {
        if begun.is_some() || (what == "--branch" && reported_commit.is_some()) {
            differ(what, told(begun), told(now), OPTION);
        }
    }
    // Follows from the others, unless another build of the same version plans in another way.
    if changes.is_empty() && *jobs != now.jobs {
        let (begun, now) = (format!("{} jobs", jobs.len()), format!("{} others", now.jobs.len()));
        changes.push(Change {
            what: "plan",
            begun,
            now,
            mend: "use the dx-runner that it was begun with".to_owned(),
        });
    }
    changes
}

fn lanes(workflows: &[BenchWorkflow]) -> String {
    let lane = |w: &BenchWorkflow| format!("{}={} ({}, {})", w.name, w.model, w.system, w.lane);
    workflows.iter().map(lane).collect::<Vec<_>>().join(" ")
}

fn rows(prompts: &[BenchPrompt]) -> String {
    let row = |p: &BenchPrompt| {
        format!("{} ({}, {}{})", p.id, p.category, p.title, if p.checked { ", checked" } else { "" })
    };
    prompts.iter().map(row).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::{between, next_action, told};
    use dx_protocol::{BenchManifest, BenchPlanned, Timestamp};
    use serde_json::json;

    fn manifest() -> BenchManifest {
        serde_json::from_value(json!({
            "schema": "dx-runner/bench-manifest/1", "run_id": "kd", "program": "1.0.0", "agents": {}, "host": "h",
            "os": "Linux 6", "cores": 2, "commit": "aaa", "prompts_version": 1, "prompts_sha256": "0",
            "workflows": [{"name": "codex_headless", "system": "codex", "lane": "run", "model": "-"}],
            "prompts": [{"id": "p", "category": "coding", "title": "t", "checked": false}],
            "rounds": 1, "parallel": 1, "max_retries": 0, "timeout_sec": 1, "jobs": [],
        }))
        .unwrap()
    }

    #[test]
    fn gates_are_added_and_not_left_away() {
        let of = |commit: Option<&str>, branch: Option<&str>| BenchManifest {
            reported_commit: commit.map(str::to_owned),
            branch: branch.map(str::to_owned),
            ..manifest()
        };
        assert_eq!(between(&manifest(), &of(Some("abc"), Some("main"))), [], "one more gate");
        let left = between(&of(Some("abc"), Some("main")), &manifest());
        assert_eq!(told(&left), "--reported-commit: abc → -, --branch: main → -");
        assert_eq!(told(&between(&of(Some("abc"), None), &of(Some("abc"), Some("x")))), "--branch: - → x");
        let required = BenchManifest { required_baseline: Some("abc".to_owned()), ..manifest() };
        assert_eq!(told(&between(&required, &manifest())), "--required-baseline: abc → -");
        assert_eq!(between(&manifest(), &required), []);
    }

    #[test]
    fn each_thing_that_differs_is_named_with_what_to_do() {
        let begun = manifest();
        let mut now = BenchManifest { began_at: Some(Timestamp(1)), ..manifest() };
        now.agents.insert("codex".to_owned(), "2".to_owned());
        assert_eq!(between(&begun, &now), [], "a time and updated agents are no other run");
        let moved = between(&begun, &BenchManifest { commit: "bbb".to_owned(), ..manifest() });
        assert_eq!(told(&moved), "commit: aaa → bbb");
        assert_eq!(next_action(&moved), "check out aaa; or another --run-id");
        let mut other = BenchManifest { program: "1.1.0".to_owned(), rounds: 3, parallel: 2, ..manifest() };
        other.workflows[0].model = "m".to_owned();
        let other = between(&begun, &other);
        assert_eq!(
            told(&other),
            "dx-runner: 1.0.0 → 1.1.0, --workflows and --model: codex_headless=- (codex, run) → \
             codex_headless=m (codex, run), --rounds: 1 → 3, --parallel: 1 → 2"
        );
        let action = next_action(&other);
        assert_eq!(
            action,
            "use dx-runner 1.0.0, give the options that it was begun with; or another --run-id"
        );
        let job = BenchPlanned { job: "r1".into(), workflow: "w".into(), prompt: "p".into(), round: 1 };
        let planned = between(&begun, &BenchManifest { jobs: vec![job], ..manifest() });
        assert_eq!(told(&planned), "plan: 0 jobs → 1 others");
    }
}
