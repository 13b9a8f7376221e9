//! The rows, as a table for people and as JSON for programs.
//!
//! For: the end of a run.
//! Called by: the sections, `bench::run`.
//! Must never: call a figure ok that has no budget.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use super::measure::{Pair, Samples};
use crate::workspace;

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    what: String,
    unit: &'static str,
    p50: f64,
    p90: f64,
    count: usize,
    /// p50 of the bare process measured in the same loop.
    bare: Option<f64>,
    budget: Option<f64>,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match self.budget {
            None => "",
            Some(budget) if self.p50 <= budget => "ok",
            Some(_) => "over",
        }
    }
}

/// Everything measured in this run.
#[derive(Debug)]
pub(super) struct Report {
    quick: bool,
    load_before: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    pub(super) fn new(quick: bool) -> Self {
        Self { quick, load_before: load(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A time, beside the baseline of its loop.
    pub(super) fn time(&mut self, what: &str, pair: &Pair, budget: Option<f64>) {
        self.add(what, "ms", &pair.figure, Some(pair.bare.p50()), budget);
    }

    /// Anything without a baseline.
    pub(super) fn plain(&mut self, what: &str, unit: &'static str, samples: &Samples, budget: Option<f64>) {
        self.add(what, unit, samples, None, budget);
    }

    fn add(
        &mut self,
        what: &str,
        unit: &'static str,
        samples: &Samples,
        bare: Option<f64>,
        budget: Option<f64>,
    ) {
        let (p50, p90) = (samples.p50(), samples.percentile(90));
        let row = Row { what: what.to_owned(), unit, p50, p90, count: samples.count(), bare, budget };
        println!("   {what}: p50 {} {unit} {}", shown(p50), row.verdict());
        self.rows.push(row);
    }

    /// A sentence below the table.
    pub(super) fn note(&mut self, text: String) {
        println!("   {text}");
        self.notes.push(text);
    }

    fn machine(&self) -> Vec<(&'static str, String)> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1));
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            workspace::output(command.current_dir(workspace::root()).args(args)).unwrap_or_default()
        };
        let dirty = if git(&["status", "--porcelain"]).trim().is_empty() { "" } else { " with changes" };
        vec![
            ("commit", format!("{}{dirty}", git(&["rev-parse", "--short", "HEAD"]).trim())),
            ("size", if self.quick { "quick" } else { "full" }.to_owned()),
            ("cores", cores.to_string()),
            ("cpu", model.unwrap_or("unknown").to_owned()),
            ("kernel", read("/proc/sys/kernel/osrelease")),
            ("load_before", self.load_before.clone()),
            ("load_after", load()),
        ]
    }

    /// The table, as Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.machine() {
            let _fits = writeln!(text, "{name}: {value}");
        }
        let head = ["figure", "unit", "p50", "p90", "n", "bare", "ratio", "budget", ""];
        let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
        for row in &self.rows {
            lines.push(vec![
                row.what.clone(),
                row.unit.to_owned(),
                shown(row.p50),
                shown(row.p90),
                row.count.to_string(),
                row.bare.map(shown).unwrap_or_default(),
                row.bare.map(|bare| format!("{:.1}x", row.p50 / bare)).unwrap_or_default(),
                row.budget.map(shown).unwrap_or_default(),
                row.verdict().to_owned(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        text.push('\n');
        for (index, line) in lines.iter().enumerate() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let _fits = if column == 0 {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let mark = if column == 0 { "-" } else { ":" };
                    let _fits = write!(text, "|{}{mark}", "-".repeat(width + 1));
                }
                text.push_str("|\n");
            }
        }
        for note in &self.notes {
            let _fits = write!(text, "\n{note}");
        }
        text
    }

    /// One JSON document.
    pub(super) fn json(&self) -> String {
        let machine: Vec<String> = self
            .machine()
            .iter()
            .map(|(name, value)| format!("{}:{}", quoted(name), quoted(value)))
            .collect();
        let optional = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |v| format!("{v:.6}"));
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                format!(
                    "{{\"figure\":{},\"unit\":{},\"p50\":{:.6},\"p90\":{:.6},\"n\":{},\"bare_p50\":{},\"budget\":{},\"verdict\":{}}}",
                    quoted(&row.what),
                    quoted(row.unit),
                    row.p50,
                    row.p90,
                    row.count,
                    optional(row.bare),
                    optional(row.budget),
                    quoted(row.verdict())
                )
            })
            .collect();
        let notes: Vec<String> = self.notes.iter().map(|note| quoted(note)).collect();
        format!(
            "{{\"schema\":\"dx-runner/bench/1\",\"machine\":{{{}}},\"rows\":[\n{}\n],\"notes\":[{}]}}\n",
            machine.join(","),
            rows.join(",\n"),
            notes.join(",")
        )
    }
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Three digits that count.
fn shown(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _fits = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{Report, quoted};
    use crate::bench::measure::Samples;

    #[test]
    fn a_figure_is_judged_by_its_budget_only() {
        let mut samples = Samples::default();
        samples.push(2.0);
        let mut report = Report::new(true);
        report.plain("free", "ms", &samples, None);
        report.plain("kept", "ms", &samples, Some(2.0));
        report.plain("broken", "ms", &samples, Some(1.0));
        let verdicts: Vec<&str> = report.rows.iter().map(super::Row::verdict).collect();
        assert_eq!(verdicts, ["", "ok", "over"]);
        assert!(report.table().contains("| kept "));
        assert!(report.json().starts_with("{\"schema\":\"dx-runner/bench/1\""));
    }

    #[test]
    fn text_is_quoted() {
        assert_eq!(quoted("a\"b\\\n"), "\"a\\\"b\\\\\\u000a\"");
    }
}
