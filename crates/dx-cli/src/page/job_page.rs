//! The report of one run as a page.
//!
//! Called by: `report`. Must never: say more than the document does.

use super::{Body, Page, Section, Table, Tone};
use crate::text;
use dx_protocol::{ReportDocument, State};

/// Longer lists are cut here; the JSON has all.
const MOST_ROWS: usize = 200;

pub(crate) fn of(report: &ReportDocument) -> Page {
    let mut lead = vec![report.reason_code.meaning().to_owned()];
    if report.detail != "-" {
        lead.push(report.detail.clone());
    }
    if !matches!(report.next_action.as_str(), "" | "-") {
        lead.push(format!("Next: {}", report.next_action));
    }
    Page {
        title: report.beads.clone(),
        badge: Some((report.state.to_string(), tone_of(report.state))),
        lead,
        sections: vec![
            outcome(report),
            verdicts(report),
            usage(report),
            place(report),
            gates(report),
            findings(report),
            changes(report),
            commits(report),
            attempts(report),
            Section {
                title: "Timeline",
                body: Body::Steps(
                    report
                        .timeline
                        .iter()
                        .map(|step| [step.at.clone(), step.what.clone(), step.detail.clone()])
                        .collect(),
                ),
            },
            record(report),
        ],
        foot: format!("dx-runner {}, {}", env!("CARGO_PKG_VERSION"), report.generated_at),
    }
}

fn tone_of(state: State) -> Tone {
    match state {
        State::ExitedOk => Tone::Good,
        State::ExitedErr | State::Blocked | State::Missing | State::NoOp => Tone::Bad,
        _ => Tone::Busy,
    }
}

fn outcome(report: &ReportDocument) -> Section {
    let duration = report.duration_sec.parse().map_or_else(|_| report.duration_sec.clone(), text::seconds);
    Section::facts(
        "Outcome",
        vec![
            ("outcome", report.outcome_state.clone()),
            ("reason", report.reason_code.to_string()),
            ("exit code", report.exit_code.clone()),
            ("started", report.started_at.clone()),
            ("completed", report.completed_at.clone()),
            ("duration", duration),
            ("CPU time", text::seconds(report.cpu_time_sec)),
            ("log", text::bytes(report.log_bytes)),
            ("strays ended", some(report.strays)),
            ("strays left in the server", some(report.strays_left)),
        ],
    )
}

/// A number that is told when there is something to count.
fn some(count: u64) -> String {
    if count > 0 { count.to_string() } else { String::new() }
}

fn verdicts(report: &ReportDocument) -> Section {
    let words = &report.verdicts;
    let rows = [
        ("process", &words.process),
        ("provider", &words.provider),
        ("work", &words.work),
        ("gates", &words.gates),
        ("check", &words.check),
    ];
    let tone = |word: &str| match word {
        "ok" | "pass" | "changed" => Tone::Good,
        "failed" | "fail" | "timeout" | "infra" | "not_run" | "signaled" | "unobserved" | "refused"
        | "no_result" | "not_started" => Tone::Bad,
        "pending" | "moved" => Tone::Busy,
        _ => Tone::Plain,
    };
    let facts = rows.map(|(name, word)| (name, word.clone(), tone(word)));
    Section { title: "Verdicts", body: Body::Facts(facts.to_vec()) }
}

fn usage(report: &ReportDocument) -> Section {
    let usage = &report.usage;
    let told = *usage != dx_protocol::Usage::default();
    let tokens = |count: u64| if told { count.to_string() } else { String::new() };
    let tools: Vec<String> = report.tools.iter().map(|(name, count)| format!("{name} {count}")).collect();
    Section::facts(
        "Usage",
        vec![
            ("input tokens", tokens(usage.input_tokens)),
            ("cached tokens", tokens(usage.cached_tokens)),
            ("output tokens", tokens(usage.output_tokens)),
            ("cost", usage.cost_usd.map(|cost| format!("${cost:.4}")).unwrap_or_default()),
            ("tools", tools.join(", ")),
        ],
    )
}

fn place(report: &ReportDocument) -> Section {
    Section::facts(
        "Run",
        vec![
            ("run", format!("{} of {}", report.run, report.attempts.len())),
            ("name", report.run_instance.clone()),
            ("provider", report.provider.clone()),
            ("before that", report.provider_switch_from.clone()),
            ("model", report.selected_model.clone()),
            ("fallback", report.fallback_reason.clone()).unless("none"),
            ("mode", report.execution_mode.clone()),
            ("host", report.host.clone()),
            ("worktree", report.worktree.clone()),
        ],
    )
}

trait Unless {
    fn unless(self, word: &str) -> Self;
}

impl Unless for (&'static str, String) {
    /// Says nothing when it is this word.
    fn unless(self, word: &str) -> Self {
        if self.1 == word { (self.0, String::new()) } else { self }
    }
}

fn changes(report: &ReportDocument) -> Section {
    let head = vec!["file", "added", "removed"];
    let stat = report.diff_stat.as_ref().filter(|files| !files.is_empty());
    let (rows, numbers, count): (Vec<Vec<String>>, Vec<usize>, usize) = if let Some(files) = stat {
        let number = |count: u64, binary| if binary { "binary".to_owned() } else { count.to_string() };
        let row = |file: &dx_protocol::ReportFile| {
            vec![file.path.clone(), number(file.added, file.binary), number(file.removed, file.binary)]
        };
        (files.iter().take(MOST_ROWS).map(row).collect(), vec![1, 2], files.len())
    } else {
        let files = &report.files_changed;
        (files.iter().take(MOST_ROWS).map(|file| vec![file.clone()]).collect(), Vec::new(), files.len())
    };
    let mut notes = Vec::new();
    if count > MOST_ROWS {
        notes.push(format!("{} more files.", count - MOST_ROWS));
    }
    if report.diff_stat_left_out > 0 {
        notes.push(format!("{} files differ that the record does not name.", report.diff_stat_left_out));
    }
    if stat.is_some() {
        notes.push("Lines are those of the worktree as it is now.".to_owned());
    }
    Section {
        title: "Changes",
        body: Body::Table(Table {
            head: if numbers.is_empty() { vec![head[0]] } else { head },
            rows,
            numbers,
            marked: None,
            note: (!notes.is_empty()).then(|| notes.join(" ")),
        }),
    }
}

fn commits(report: &ReportDocument) -> Section {
    let subject = |id: &String| {
        let list = report.work.iter().flat_map(|work| &work.commit_list);
        list.filter(|commit| commit.id == *id).map(|commit| commit.subject.clone()).next().unwrap_or_default()
    };
    let row = |id: &String| vec![id.chars().take(12).collect(), subject(id)];
    let count = report.work.as_ref().and_then(|work| work.cut.as_ref()).map_or(0, |cut| cut.commits);
    let more = count.saturating_sub(report.commits.len() as u64);
    Section {
        title: "Commits",
        body: Body::Table(Table {
            head: vec!["commit", "subject"],
            rows: report.commits.iter().map(row).collect(),
            numbers: Vec::new(),
            marked: None,
            note: (more > 0).then(|| format!("{more} older ones.")),
        }),
    }
}

fn gates(report: &ReportDocument) -> Section {
    let row = |gate: &dx_protocol::GateVerdict| {
        let word = if gate.report.passed { "passed" } else { "failed" };
        vec![
            gate.name.clone(),
            word.to_owned(),
            gate.report.reason_code.to_string(),
            gate.report.details.clone(),
        ]
    };
    Section {
        title: "Gates and checks",
        body: Body::Table(Table {
            head: vec!["gate", "verdict", "reason", "details"],
            rows: report.gates.iter().map(row).collect(),
            numbers: Vec::new(),
            marked: None,
            note: None,
        }),
    }
}

/// What a reviewer should see about the repository, besides the work.
fn findings(report: &ReportDocument) -> Section {
    let rows = report.work.iter().flat_map(|work| &work.findings).map(|finding| {
        let names = finding.names.join(", ");
        vec![finding.reason_code.to_string(), finding.reason_code.meaning().to_owned(), names]
    });
    Section {
        title: "Findings",
        body: Body::Table(Table {
            head: vec!["reason", "meaning", "where"],
            rows: rows.collect(),
            numbers: Vec::new(),
            marked: None,
            note: None,
        }),
    }
}

fn attempts(report: &ReportDocument) -> Section {
    let rows = report.attempts.iter().map(|run| {
        let duration = text::seconds(run.duration_sec);
        let told = [&run.state, &run.reason_code, &run.exit_code];
        let mut cells = vec![run.run.to_string(), run.started_at.clone(), run.provider.clone()];
        cells.push(run.selected_model.clone());
        cells.extend(told.map(Clone::clone));
        cells.push(duration);
        cells
    });
    Section {
        title: "Runs",
        body: Body::Table(Table {
            head: vec!["run", "started", "provider", "model", "state", "reason", "exit", "duration"],
            rows: rows.collect(),
            numbers: vec![0, 6, 7],
            marked: usize::try_from(report.run).ok().and_then(|run| run.checked_sub(1)),
            note: None,
        }),
    }
}

/// Only what is out of the ordinary.
fn record(report: &ReportDocument) -> Section {
    let record = &report.record;
    let unless_zero = |count: u64| if count == 0 { String::new() } else { count.to_string() };
    Section::facts(
        "About this record",
        vec![
            ("source", record.source.clone()).unless("journal"),
            ("monitors", record.monitors.to_string()).unless("1").unless("0"),
            ("impossible records", unless_zero(record.illegal_records)),
            ("unreadable lines", unless_zero(record.skipped_lines)),
            ("log bytes that the agent cut", unless_zero(record.lost_log_bytes)),
            ("settling failed", record.settle_error.clone()),
        ],
    )
}
