//! The report over the history as a page.
//!
//! Called by: `report --all`. Must never: say more than the document does.

use super::{Body, Page, Section, Table};
use crate::text;
use dx_protocol::{ReportAllDocument, ReportTotals};

/// Only the newest runs are listed; the JSON has all.
const MOST_RUNS: usize = 100;

pub(crate) fn of(report: &ReportAllDocument) -> Page {
    let total = &report.total;
    let when = match report.since.as_str() {
        "-" => "All runs that ended.".to_owned(),
        since => format!("Runs that ended since {since}."),
    };
    Page {
        title: format!("{} runs", total.runs),
        badge: None,
        lead: vec![when],
        sections: vec![
            totals("By provider", report.providers.iter().chain([total]).collect(), false),
            totals("By model", report.models.iter().collect(), true),
            runs(report),
        ],
        foot: format!("dx-runner {}, {}", env!("CARGO_PKG_VERSION"), report.generated_at),
    }
}

fn totals(title: &'static str, rows: Vec<&ReportTotals>, models: bool) -> Section {
    let mut head = vec!["provider"];
    head.extend(models.then_some("model"));
    let first_number = head.len();
    head.extend([
        "runs",
        "ok",
        "failed",
        "killed",
        "no-op",
        "success",
        "p50",
        "p95",
        "tokens in",
        "cached",
        "out",
        "cost",
    ]);
    let numbers = (first_number..head.len()).collect();
    let row = |row: &ReportTotals| {
        let name = if row.provider == "*" { "all".to_owned() } else { row.provider.clone() };
        let mut cells = vec![name];
        cells.extend(models.then(|| row.model.clone()));
        cells.extend([row.runs, row.succeeded, row.failed, row.killed, row.no_op].map(|n| n.to_string()));
        cells.push(row.success_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.0} %", rate * 100.0)));
        cells.extend([row.duration_p50_sec, row.duration_p95_sec].map(text::seconds));
        cells.extend([row.input_tokens, row.cached_tokens, row.output_tokens].map(|n| n.to_string()));
        cells.push(row.cost_usd.map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}")));
        cells
    };
    let last = rows.len().saturating_sub(1);
    let marked = (!models).then_some(last);
    let rows = rows.into_iter().map(row).collect();
    Section { title, body: Body::Table(Table { head, rows, numbers, marked, note: None }) }
}

fn runs(report: &ReportAllDocument) -> Section {
    let rows = report.runs.iter().take(MOST_RUNS).map(|run| {
        let cost = run.cost_usd.map_or_else(|| "-".to_owned(), |cost| format!("${cost:.2}"));
        let (ended, duration) = (run.completed_at.to_string(), text::seconds(run.duration_sec));
        let words =
            [&run.beads, &run.provider, &run.selected_model, &run.state, &run.reason_code, &run.exit_code];
        let mut cells = vec![ended];
        cells.extend(words.map(Clone::clone));
        cells.extend([duration, cost]);
        cells
    });
    let more = report.runs.len().saturating_sub(MOST_RUNS);
    Section {
        title: "Runs",
        body: Body::Table(Table {
            head: vec!["ended", "id", "provider", "model", "state", "reason", "exit", "duration", "cost"],
            rows: rows.collect(),
            numbers: vec![6, 7, 8],
            marked: None,
            note: (more > 0).then(|| format!("{more} more; --format json has all.")),
        }),
    }
}
