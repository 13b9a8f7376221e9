//! `report.html`: the figures as tables and pictures, in one file that loads nothing. Must never: run a script, or show text of a
//! record that was not escaped.

use crate::markdown::{
    NOTHING_RUN, cautions, estimate, share, succeed_differently, time, times, told, verdict,
};
use crate::plots::{strips, timeline};
use dx_protocol::{BenchEstimate, BenchFigures, BenchManifest, BenchRecord, BenchSummary};
use std::fmt::Write;

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fff; --text: #1c2530; --soft: #566373; --line: #d9dfe6; --good: #1f7a4d;
  --bad: #b3362b; --some: #8a5a00; --dot: #2b62c4; --band: #2b62c429; --good-tint: #1f7a4d1c; --bad-tint: #b3362b1c;
  --some-tint: #a26b0022 }
@media (prefers-color-scheme: dark) { :root { --back: #12171d; --text: #e4e9ee; --soft: #a2afbd; --line: #2f3944;
  --good: #4cc38a; --bad: #f07a6f; --some: #e0ac4a; --dot: #7aa7f7; --band: #7aa7f733; --good-tint: #4cc38a24;
  --bad-tint: #f07a6f24; --some-tint: #e0ac4a24 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1.25rem 3rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .2rem }
p { max-width: 46rem; margin: .2rem 0 .8rem } .soft { color: var(--soft) } .wide { overflow-x: auto }
svg { display: block; overflow: visible; font: 13px system-ui, sans-serif }
svg text { fill: var(--text) } svg .soft { fill: var(--soft) }
svg .name { paint-order: stroke; stroke: var(--back); stroke-width: 4px; stroke-linejoin: round }
.grid { stroke: var(--line) } .band { fill: var(--band) } .median { stroke: var(--dot); stroke-width: 2.5 }
.dot { fill: var(--dot); fill-opacity: .8 } .good { fill: var(--good) }
.bad { fill: var(--bad-tint); stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 4 2 }
.key { display: inline-block; width: 1.6rem; height: .65rem; border-radius: 2px; background: var(--good) }
.key.failed { background: var(--bad-tint); border: 1.5px dashed var(--bad) }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } .cards { overflow-wrap: normal } .cards td:first-child { white-space: nowrap }
.matrix th, .matrix td { padding: .35rem .6rem; overflow-wrap: normal } .matrix td { border: 2px solid var(--back) }
.matrix th:first-child { position: sticky; left: 0; background: var(--back) }
.matrix td small { display: block; color: var(--soft) }
.all { background: var(--good-tint) } .none { background: var(--bad-tint) } .part { background: var(--some-tint) }
.gate { padding: .6rem .8rem; border-left: 4px solid var(--bad); background: var(--bad-tint) } .gate b { color: var(--bad) }
.all b { color: var(--good) } .none b { color: var(--bad) } .part b { color: var(--some) }
@media (max-width: 44rem) {
  .cards, .cards tbody, .cards tr, .cards td { display: block } .cards tr:first-child { display: none }
  .cards tr { padding: .5rem 0; border-bottom: 1px solid var(--line) } .cards td { border: 0; padding: .05rem 0 }
  .cards td:first-child { font-weight: 600 }
  .cards td[data-name]::before { content: attr(data-name) ': '; color: var(--soft) }
  .matrix { font-size: .76rem } .matrix th, .matrix td { padding: .3rem .3rem } }
";

/// The whole page.
pub(crate) fn page(manifest: &BenchManifest, summary: &BenchSummary, records: &[BenchRecord]) -> String {
    let measured: Vec<&BenchRecord> = records.iter().filter(|record| record.round > 0).collect();
    let mut page = Page::of(summary);
    page.add(&format!(
        "<p class=\"soft\">{} jobs: {} prompts, rounds: {}, up to {} at once. dx-runner {}, {} cores, {}.</p>",
        summary.jobs,
        manifest.prompts.len(),
        manifest.rounds,
        manifest.parallel,
        escape(&manifest.program),
        manifest.cores,
        escape(&manifest.os)
    ));
    if summary.missing > 0 {
        page.add(&format!("<p class=\"none\"><b>{} planned jobs have no record.</b></p>", summary.missing));
    }
    for told in cautions(manifest, summary) {
        page.add(&format!("<p class=\"part\"><b>{}</b></p>", escape(&told)));
    }
    let median = |of: fn(&BenchFigures) -> Option<BenchEstimate>| {
        move |name: &str| summary.workflows.iter().find(|row| row.name == name).and_then(of)
    };
    page.add("<h2>Completion latency</h2><p class=\"soft\">A dot is a job that succeeded. The line is the median, the band its interval at 95 %, where there are jobs enough for one.</p>");
    let completion = |record: &BenchRecord| record.completion_ms;
    page.add(&strips(
        "Completion by workflow",
        manifest,
        &measured,
        completion,
        median(|row| row.completion_p50),
    ));
    page.add("<h2>First output</h2><p class=\"soft\">Until the first word or tool of the model was in the log.</p>");
    let first = |record: &BenchRecord| record.first_output_ms;
    page.add(&strips(
        "First output by workflow",
        manifest,
        &measured,
        first,
        median(|row| row.first_output_p50),
    ));
    page.add("<h2>Success</h2><p class=\"soft\">Jobs that succeeded of those that were run, and the median of their completion.</p>");
    page.matrix(manifest, summary);
    page.add("<h2>Lanes over time</h2><p class=\"soft\">Each bar is an attempt of a job from its start to its outcome: <span class=\"key\"></span> succeeded, <span class=\"key failed\"></span> failed.</p>");
    page.add(&timeline("Jobs over time", manifest, &measured));
    page.add("<h2>Figures</h2><p class=\"soft\">In brackets: the interval at 95 %; … is a bound that so few jobs do not give; n, of how many jobs a figure is where not all could be measured.</p>");
    page.figures(summary);
    page.add("<h2>Differences</h2>");
    page.differences(summary);
    page.add("<h2>Failures</h2>");
    page.failures(summary);
    page.end()
}

/// The page of a run of which no job was run.
pub(crate) fn refused(summary: &BenchSummary) -> String {
    let mut page = Page::of(summary);
    page.add(&format!("<p>{NOTHING_RUN}</p>"));
    page.end()
}

/// Text that is nothing but text.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Page(String);

impl Page {
    /// Title, and which gates failed: nobody is to read the figures without that.
    fn of(summary: &BenchSummary) -> Self {
        let mut page = Self(String::new());
        let title = format!("Benchmark {}", escape(&summary.run_id));
        page.add("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        page.add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        page.add(&format!("<title>{title}</title>\n<style>{STYLE}</style></head><body>\n<h1>{title}</h1>"));
        for gate in &summary.failed_gates {
            let (what, more) = told(gate);
            let (what, more) = (escape(&what), escape(more));
            page.add(&format!("<p class=\"gate\"><b>{what}</b> {more} ({})</p>", gate.reason_code));
        }
        page
    }

    fn end(mut self) -> String {
        self.add("</body></html>\n");
        self.0
    }

    fn add(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn matrix(&mut self, manifest: &BenchManifest, summary: &BenchSummary) {
        // Names may break behind each underscore.
        let name = |name: &str| escape(name).replace('_', "_<wbr>");
        let head = manifest.workflows.iter().map(|w| format!("<th>{}</th>", name(&w.name)));
        let head: String = head.collect();
        self.add(&format!("<div class=\"wide\"><table class=\"matrix\"><tr><th>prompt</th>{head}</tr>"));
        for prompt in &manifest.prompts {
            let mut row = format!("<tr><th title=\"{}\">{}</th>", escape(&prompt.title), escape(&prompt.id));
            for cell in summary.matrix.iter().filter(|cell| cell.prompt == prompt.id) {
                let (class, sign) = match cell.success.count {
                    _ if cell.success.of == 0 => ("soft", "–"),
                    count if count == cell.success.of => ("all", "✓"),
                    0 => ("none", "✗"),
                    _ => ("part", "◐"),
                };
                let time = cell.completion_p50_ms.map_or_else(String::new, time);
                let (count, of) = (cell.success.count, cell.success.of);
                // Writing to a String cannot fail.
                let _written =
                    write!(row, "<td class=\"{class}\"><b>{sign} {count}/{of}</b><small>{time}</small></td>");
            }
            self.add(&format!("{row}</tr>"));
        }
        self.add("</table></div>");
    }

    /// A table whose rows become blocks in a narrow window. Cells are escaped already.
    fn cards(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        self.add(&format!("<table class=\"cards\"><tr><th>{}</th></tr>", head.join("</th><th>")));
        for row in rows {
            let mut line = String::new();
            for (n, (name, cell)) in head.iter().zip(&row).enumerate() {
                let name = if n == 0 { String::new() } else { format!(" data-name=\"{name}\"") };
                let _written = write!(line, "<td{name}>{cell}</td>");
            }
            self.add(&format!("<tr>{line}</tr>"));
        }
        self.add("</table>");
    }

    fn figures(&mut self, summary: &BenchSummary) {
        let head = ["workflow", "success", "retried", "first output p50", "completion p50", "completion p95"];
        let rows = summary.workflows.iter().map(|row| {
            vec![
                escape(&row.name),
                share(&row.success),
                share(&row.retried),
                estimate(row.first_output_p50.as_ref(), row.success.count),
                estimate(row.completion_p50.as_ref(), row.success.count),
                estimate(row.completion_p95.as_ref(), row.success.count),
            ]
        });
        self.cards(&head, rows);
    }

    fn differences(&mut self, summary: &BenchSummary) {
        let rows = summary.comparisons.iter().map(|comparison| {
            let (a, b) = (escape(&comparison.a), escape(&comparison.b));
            let mut rows = match &comparison.completion {
                None => format!("<li>{a}, {b}: fewer than six pairs; nothing can be said.</li>"),
                Some(ratio) => format!("<li>{b} {} {a}: {}.</li>", verdict(ratio), times(ratio)),
            };
            if comparison.success_differs {
                let _written = write!(rows, "<li>{}</li>", succeed_differently(&a, &b));
            }
            rows
        });
        let rows: String = rows.collect();
        let none = "<p class=\"soft\">One workflow; nothing to compare.</p>".to_owned();
        self.add(&if rows.is_empty() { none } else { format!("<ul>{rows}</ul>") });
    }

    fn failures(&mut self, summary: &BenchSummary) {
        if summary.failures.is_empty() {
            self.add("<p class=\"soft\">None.</p>");
            return;
        }
        let rows = summary.failures.iter().map(|row| {
            let whose = row.category.as_str().to_owned();
            vec![escape(&row.workflow), whose, row.reason_code.to_string(), row.count.to_string()]
        });
        self.cards(&["workflow", "whose", "reason", "jobs"], rows);
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
