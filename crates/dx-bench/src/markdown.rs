//! `summary.md`: the figures as tables for people. Must never: show an estimate without what it rests on.

use dx_protocol::{
    BenchEstimate, BenchFigures, BenchGate, BenchManifest, BenchRatio, BenchShare, BenchSummary,
};
use std::fmt::Write;

/// The whole page.
pub(crate) fn page(manifest: &BenchManifest, summary: &BenchSummary) -> String {
    let mut page = head(summary);
    let mut line = |text: String| {
        page.push_str(&text);
        page.push('\n');
    };
    line(format!(
        "{} jobs: {} prompts, {} rounds, up to {} at once, each for up to {} s. dx-runner {}, commit {}.",
        summary.jobs,
        manifest.prompts.len(),
        manifest.rounds,
        manifest.parallel,
        manifest.timeout_sec,
        manifest.program,
        manifest.commit
    ));
    if summary.missing > 0 {
        line(format!("\n**{} planned jobs have no record.**", summary.missing));
    }
    for told in cautions(manifest, summary) {
        line(format!("\n**{told}**"));
    }
    line(
        "\nIn brackets: the interval at 95 %. `…` is a bound that so few jobs do not give. Latencies are those of successes; n is of how many jobs a figure is where not all could be measured."
            .to_owned(),
    );
    for (title, rows) in [("Workflows", &summary.workflows), ("Systems", &summary.systems)] {
        line(format!("\n## {title}\n"));
        line("| | success | retried | first output p50 | completion p50 | completion p95 | tokens out | cost | memory |".to_owned());
        line("|---|---|---|---|---|---|---:|---:|---:|".to_owned());
        for row in rows {
            line(figures(row));
        }
    }
    line("\n## Prompts\n".to_owned());
    let names: Vec<&str> = manifest.workflows.iter().map(|w| w.name.as_str()).collect();
    line(format!("| | {} |", names.join(" | ")));
    line(format!("|---|{}", "---|".repeat(names.len())));
    for prompt in &manifest.prompts {
        let cells = summary.matrix.iter().filter(|cell| cell.prompt == prompt.id).map(|cell| {
            let time = cell.completion_p50_ms.map_or_else(String::new, |ms| format!(", {}", time(ms)));
            format!("{}/{}{time}", cell.success.count, cell.success.of)
        });
        line(format!("| {} | {} |", prompt.id, cells.collect::<Vec<_>>().join(" | ")));
    }
    line("\n## Differences\n".to_owned());
    for comparison in &summary.comparisons {
        let (a, b) = (&comparison.a, &comparison.b);
        line(match &comparison.completion {
            None => format!(
                "- {a}, {b}: fewer than six prompts and rounds in which both succeeded; nothing can be said."
            ),
            Some(ratio) => format!("- {b} {} {a}: {}.", verdict(ratio), times(ratio)),
        });
        if comparison.success_differs {
            line(format!("- {}", succeed_differently(a, b)));
        }
    }
    if summary.comparisons.is_empty() {
        line("One workflow; nothing to compare.".to_owned());
    }
    line("\n## Failures\n".to_owned());
    if summary.failures.is_empty() {
        line("None.".to_owned());
    } else {
        line("| workflow | whose | reason | jobs |\n|---|---|---|---:|".to_owned());
        for row in &summary.failures {
            line(format!(
                "| {} | {} | {} | {} |",
                row.workflow,
                row.category.as_str(),
                row.reason_code,
                row.count
            ));
        }
    }
    page
}

/// What the figures mix that is not one thing: models and versions.
pub(crate) fn cautions(manifest: &BenchManifest, summary: &BenchSummary) -> Vec<String> {
    let mut told: Vec<String> = summary.workflows.iter().filter_map(fallbacks).collect();
    for (system, later) in &manifest.later_agents {
        let first = manifest.agents.get(system).map_or("-", String::as_str);
        let later = later.join(", then ");
        told.push(format!("{system} was updated while the run was interrupted: {first}, then {later}."));
    }
    told
}

/// Jobs of a workflow that ran on another model.
pub fn fallbacks(row: &BenchFigures) -> Option<String> {
    let (name, fallbacks, of) = (&row.name, row.fallbacks, row.success.of);
    (fallbacks > 0).then(|| {
        format!("{name}: {fallbacks} of {of} jobs ran on another model than the one asked for or preferred.")
    })
}

/// What is told of two workflows whose shares of success differ beyond noise.
pub fn succeed_differently(a: &str, b: &str) -> String {
    format!("{a} and {b} succeed differently often.")
}

/// The page of a run of which no job was run.
pub(crate) fn refused(summary: &BenchSummary) -> String {
    format!("{}{NOTHING_RUN}\n", head(summary))
}

/// What there is to say of a run that a gate refused.
pub(crate) const NOTHING_RUN: &str = "No job was run; there are no figures.";

/// Title, and which gates failed: nobody is to read the figures without that.
fn head(summary: &BenchSummary) -> String {
    let mut head = format!("# Benchmark {}\n\n", summary.run_id);
    for gate in &summary.failed_gates {
        let (what, more) = told(gate);
        // Writing to a String cannot fail.
        let _written = writeln!(head, "**{what}** {more} (`{}`)\n", gate.reason_code);
    }
    head
}

/// A failed gate in words: what did not hold, and the particulars.
pub fn told(gate: &BenchGate) -> (String, &str) {
    (format!("Gate {} failed. {}", gate.name, gate.reason_code.meaning()), &gate.details)
}

fn figures(row: &BenchFigures) -> String {
    let cost = row.usage.cost_usd.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.4} $"));
    let of_few = of_few(row.memory_of, row.success.of);
    let memory =
        row.memory_peak_kib.map_or_else(|| "-".to_owned(), |kib| format!("{} MiB{of_few}", kib / 1024));
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {cost} | {memory} |",
        row.name,
        share(&row.success),
        share(&row.retried),
        estimate(row.first_output_p50.as_ref(), row.success.count),
        estimate(row.completion_p50.as_ref(), row.success.count),
        estimate(row.completion_p95.as_ref(), row.success.count),
        row.usage.output_tokens,
    )
}

/// `4/5, 80 % [38, 96]`.
pub(crate) fn share(share: &BenchShare) -> String {
    if share.of == 0 {
        return "-".to_owned();
    }
    let percent = |rate: f64| (rate * 100.0).round();
    let (rate, low, high) = (percent(share.rate), percent(share.low), percent(share.high));
    format!("{}/{}, {rate} % [{low}, {high}]", share.count, share.of)
}

/// ` (n = 3)` for a figure of fewer jobs than there are: of one that was taken up after its benchmark was killed not all was
/// seen, and summaries of earlier versions do not tell.
fn of_few(n: u64, jobs: u64) -> String {
    if n == 0 || n >= jobs { String::new() } else { format!(" (n = {n})") }
}

/// `1.2 s [0.9, …]`, of so many successes.
pub(crate) fn estimate(estimate: Option<&BenchEstimate>, successes: u64) -> String {
    let Some(estimate) = estimate else { return "-".to_owned() };
    let bound = |bound: Option<f64>| bound.map_or_else(|| "…".to_owned(), time);
    let mut text = time(estimate.value);
    // Writing to a String cannot fail.
    let _written = write!(
        text,
        " [{}, {}]{}",
        bound(estimate.low),
        bound(estimate.high),
        of_few(estimate.of, successes)
    );
    text
}

/// Milliseconds for people.
pub(crate) fn time(ms: f64) -> String {
    if ms < 1_000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1_000.0) }
}

/// How the second compares with the first.
pub fn verdict(ratio: &BenchRatio) -> &'static str {
    match (ratio.differs, ratio.value > 1.0) {
        (false, _) => "cannot be told apart from",
        (true, true) => "is slower than",
        (true, false) => "is faster than",
    }
}

/// `1.21 times [1.12, 1.31], 15 pairs`.
pub(crate) fn times(ratio: &BenchRatio) -> String {
    format!(
        "{:.2} times its completion [{:.2}, {:.2}], {} pairs",
        ratio.value, ratio.low, ratio.high, ratio.of
    )
}

#[cfg(test)]
mod tests {
    use super::{estimate, figures};
    use dx_protocol::{BenchEstimate, BenchFigures, Usage};
    use serde_json::json;

    #[test]
    fn a_figure_of_fewer_jobs_says_of_how_many() {
        let of = |of| BenchEstimate { value: 900.0, low: None, high: None, of };
        assert_eq!(estimate(Some(&of(4)), 4), "900 ms […, …]");
        assert_eq!(estimate(Some(&of(3)), 4), "900 ms […, …] (n = 3)");
        let share = json!({"count": 4, "of": 5, "rate": 0.8, "low": 0.0, "high": 1.0});
        let mut row: BenchFigures = serde_json::from_value(json!({
            "name": "w", "success": share, "retried": share, "usage": Usage::default(), "memory_peak_kib": 2048,
        }))
        .unwrap();
        assert!(figures(&row).ends_with("| 2 MiB |"), "one that was written without the number");
        assert_eq!(super::fallbacks(&row), None);
        row.fallbacks = 2;
        assert!(super::fallbacks(&row).unwrap().starts_with("w: 2 of 5 jobs ran on another model"));
        row.memory_of = 3;
        assert!(figures(&row).ends_with("| 2 MiB (n = 3) |"), "{}", figures(&row));
    }
}
