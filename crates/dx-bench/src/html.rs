//! `report.html`: the figures as pictures, in one file that loads nothing. Must never: run a script, or show text of a
//! record that was not escaped.

use crate::markdown::{estimate, share, time, times, verdict};
use crate::summary::{by_workflow, latencies};
use dx_protocol::{BenchManifest, BenchRecord, BenchSummary};
use std::fmt::Write;

/// Width of all pictures in their own units; they grow and shrink with the window.
const WIDTH: f64 = 900.0;
const LABEL: f64 = 230.0;
const ROW: f64 = 34.0;

const STYLE: &str = "
:root { color-scheme: light dark; --back: #fff; --text: #1c2530; --soft: #5d6b7a; --line: #d9dfe6; --good: #1f7a4d;
  --bad: #b3362b; --some: #a26b00; --dot: #2b62c4; --band: #2b62c433; --card: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --back: #12171d; --text: #e4e9ee; --soft: #98a5b3; --line: #2f3944;
  --good: #4cc38a; --bad: #f07a6f; --some: #e0ac4a; --dot: #7aa7f7; --band: #7aa7f733; --card: #1a2129 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem }
p { max-width: 46rem } .soft { color: var(--soft) } .wide { overflow-x: auto }
svg { display: block; width: 100%; min-width: 34rem; height: auto; font: 13px system-ui, sans-serif }
svg text { fill: var(--text) } svg .soft { fill: var(--soft) }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 600 } .all { color: var(--good) } .none { color: var(--bad) } .part { color: var(--some) }
";

/// The whole page.
pub(crate) fn page(manifest: &BenchManifest, summary: &BenchSummary, records: &[BenchRecord]) -> String {
    let measured: Vec<&BenchRecord> = records.iter().filter(|record| record.round > 0).collect();
    let mut page = Page(String::new());
    let title = format!("Benchmark {}", escape(&manifest.run_id));
    page.add("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.add("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.add(&format!("<title>{title}</title>\n<style>{STYLE}</style></head><body>\n<h1>{title}</h1>"));
    page.add(&format!(
        "<p class=\"soft\">{} jobs: {} prompts, {} rounds, up to {} at once. dx-runner {}, {} cores, {}.</p>",
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
    page.add("<h2>Completion latency</h2><p class=\"soft\">A dot is a job that succeeded. The line is the median, the band its interval at 95 %.</p>");
    page.picture(&distributions(manifest, summary, &measured));
    page.add("<h2>First output</h2><p class=\"soft\">Until the first word or tool of the model was in the log.</p>");
    page.picture(&first_outputs(manifest, summary, &measured));
    page.add("<h2>Success</h2><p class=\"soft\">Jobs that succeeded of those that were run, and the median of their completion.</p>");
    page.add("<div class=\"wide\">");
    page.matrix(manifest, summary);
    page.add("</div><h2>Lanes over time</h2><p class=\"soft\">Each bar is a job from its start to its outcome.</p>");
    page.picture(&timeline(manifest, &measured));
    page.add("<h2>Figures</h2><p class=\"soft\">In brackets: the interval at 95 %; … is a bound that so few jobs do not give.</p><div class=\"wide\">");
    page.figures(summary);
    page.add("</div><h2>Differences</h2>");
    page.differences(summary);
    page.add("<h2>Failures</h2>");
    page.failures(summary);
    page.add("</body></html>\n");
    page.0
}

/// Text that is nothing but text.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Page(String);

impl Page {
    fn add(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A picture that scrolls by itself where the window is narrow.
    fn picture(&mut self, svg: &str) {
        self.add(&format!("<div class=\"wide\">{svg}</div>"));
    }

    fn matrix(&mut self, manifest: &BenchManifest, summary: &BenchSummary) {
        let head = manifest.workflows.iter().map(|w| format!("<th>{}</th>", escape(&w.name)));
        self.add(&format!("<table><tr><th>prompt</th>{}</tr>", head.collect::<String>()));
        for prompt in &manifest.prompts {
            let mut row = format!("<tr><td title=\"{}\">{}</td>", escape(&prompt.title), escape(&prompt.id));
            for cell in summary.matrix.iter().filter(|cell| cell.prompt == prompt.id) {
                let class = match cell.success.count {
                    _ if cell.success.of == 0 => "soft",
                    count if count == cell.success.of => "all",
                    0 => "none",
                    _ => "part",
                };
                let sign = if class == "all" {
                    "✓"
                } else if class == "none" {
                    "✗"
                } else {
                    "◐"
                };
                let time = cell.completion_p50_ms.map_or_else(String::new, |ms| format!(" · {}", time(ms)));
                let text = format!("{sign} {}/{}{time}", cell.success.count, cell.success.of);
                // Writing to a String cannot fail.
                let _written = write!(row, "<td class=\"{class}\">{text}</td>");
            }
            self.add(&format!("{row}</tr>"));
        }
        self.add("</table>");
    }

    fn figures(&mut self, summary: &BenchSummary) {
        self.add("<table><tr><th>workflow</th><th>success</th><th>retried</th><th>first output p50</th><th>completion p50</th><th>completion p95</th></tr>");
        for row in &summary.workflows {
            self.add(&format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&row.name),
                share(&row.success),
                share(&row.retried),
                estimate(row.first_output_p50.as_ref()),
                estimate(row.completion_p50.as_ref()),
                estimate(row.completion_p95.as_ref())
            ));
        }
        self.add("</table>");
    }

    fn differences(&mut self, summary: &BenchSummary) {
        let rows = summary.comparisons.iter().map(|comparison| {
            let (a, b) = (escape(&comparison.a), escape(&comparison.b));
            match &comparison.completion {
                None => format!("<li>{a}, {b}: fewer than six pairs; nothing can be said.</li>"),
                Some(ratio) => format!("<li>{b} {} {a}: {}.</li>", verdict(ratio), times(ratio)),
            }
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
        self.add("<table><tr><th>workflow</th><th>whose</th><th>reason</th><th>jobs</th></tr>");
        for row in &summary.failures {
            let (whose, name) = (row.category.as_str(), escape(&row.workflow));
            self.add(&format!(
                "<tr><td>{name}</td><td>{whose}</td><td>{}</td><td>{}</td></tr>",
                row.reason_code, row.count
            ));
        }
        self.add("</table>");
    }
}

fn distributions(manifest: &BenchManifest, summary: &BenchSummary, records: &[&BenchRecord]) -> String {
    strips(
        manifest,
        records,
        |record| record.completion_ms,
        |name| summary.workflows.iter().find(|row| row.name == name).and_then(|row| row.completion_p50),
    )
}

fn first_outputs(manifest: &BenchManifest, summary: &BenchSummary, records: &[&BenchRecord]) -> String {
    strips(
        manifest,
        records,
        |record| record.first_output_ms,
        |name| summary.workflows.iter().find(|row| row.name == name).and_then(|row| row.first_output_p50),
    )
}

/// A row of dots for each workflow over one axis, which begins at zero.
fn strips(
    manifest: &BenchManifest,
    records: &[&BenchRecord],
    latency: fn(&BenchRecord) -> Option<u64>,
    median: impl Fn(&str) -> Option<dx_protocol::BenchEstimate>,
) -> String {
    let all = latencies(records, latency);
    let axis = Axis::to(all.iter().copied().fold(0.0, f64::max));
    let height = ROW * manifest.workflows.len() as f64;
    let mut body = axis.ticks(height);
    for (row, workflow) in manifest.workflows.iter().enumerate() {
        let middle = ROW * (row as f64 + 0.5);
        let name = escape(&workflow.name);
        let _written = write!(body, "<text x=\"0\" y=\"{:.1}\">{name}</text>", middle + 4.0);
        if let Some(median) = median(&workflow.name) {
            let (low, high) = (median.low.unwrap_or(0.0), median.high.unwrap_or(axis.end));
            let (from, to, at) = (axis.x(low), axis.x(high), axis.x(median.value));
            let top = middle - ROW * 0.36;
            let _written = write!(
                body,
                "<rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--band)\"/>\
                 <line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{:.1}\" stroke=\"var(--dot)\" stroke-width=\"2\"/>",
                (to - from).max(1.0),
                ROW * 0.72,
                top + ROW * 0.72
            );
        }
        for (n, ms) in latencies(&by_workflow(records, &workflow.name), latency).iter().enumerate() {
            // Three heights, so that equal ones are seen to be several.
            let y = middle + [0.0, -6.0, 6.0][n % 3];
            let (x, told) = (axis.x(*ms), time(*ms));
            let _written = write!(
                body,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\" fill=\"var(--dot)\" fill-opacity=\".75\"><title>{told}</title></circle>"
            );
        }
    }
    svg("Latencies by workflow", height + 26.0, &body)
}

/// A bar for each job, one below the other in each workflow's own part.
fn timeline(manifest: &BenchManifest, records: &[&BenchRecord]) -> String {
    const BAR: f64 = 12.0;
    let first = records.iter().map(|r| r.began_ms).min().unwrap_or(0);
    let last = records.iter().map(|r| r.ended_ms).max().unwrap_or(0);
    let axis = Axis::to((last - first) as f64);
    let mut body = String::new();
    let mut y = 0.0;
    for workflow in &manifest.workflows {
        let mut mine = by_workflow(records, &workflow.name);
        mine.sort_by_key(|record| record.began_ms);
        // Jobs that did not overlap share a line.
        let mut lines: Vec<u64> = Vec::new();
        let top = y;
        for record in mine {
            let line = lines.iter().position(|end| *end <= record.began_ms).unwrap_or_else(|| {
                lines.push(0);
                lines.len() - 1
            });
            lines[line] = record.ended_ms;
            let (from, to) =
                (axis.x((record.began_ms - first) as f64), axis.x((record.ended_ms - first) as f64));
            let colour = if record.success { "--good" } else { "--bad" };
            let told = format!("{}: {}", record.job, time((record.ended_ms - record.began_ms) as f64));
            let _written = write!(
                body,
                "<rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"var({colour})\"><title>{}</title></rect>",
                top + line as f64 * BAR + 2.0,
                (to - from).max(1.5),
                BAR - 3.0,
                escape(&told)
            );
        }
        y = top + (lines.len().max(1) as f64 * BAR).max(ROW * 0.7) + 8.0;
        let name = escape(&workflow.name);
        let _written = write!(body, "<text x=\"0\" y=\"{:.1}\">{name}</text>", top + 13.0);
    }
    svg("Jobs over time", y + 26.0, &format!("{}{body}", axis.ticks(y)))
}

fn svg(title: &str, height: f64, body: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">{body}</svg>")
}

/// Time from left to right, from zero.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    fn to(longest: f64) -> Self {
        let longest = longest.max(1.0);
        let power = 10_f64.powf((longest / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| longest / step <= 6.0);
        let step = step.unwrap_or(longest);
        Self { end: (longest / step).ceil() * step, step }
    }

    fn x(&self, ms: f64) -> f64 {
        LABEL + (WIDTH - LABEL - 20.0) * (ms / self.end).clamp(0.0, 1.0)
    }

    fn ticks(&self, height: f64) -> String {
        let mut text = String::new();
        let count = (self.end / self.step).round() as u32;
        for tick in 0..=count {
            let ms = f64::from(tick) * self.step;
            let x = self.x(ms);
            let _written = write!(
                text,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height:.1}\" stroke=\"var(--line)\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                height + 18.0,
                if tick == 0 { "0".to_owned() } else { time(ms) }
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, escape};

    #[test]
    fn text_stays_text() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }

    #[test]
    fn an_axis_ends_behind_the_longest_with_few_ticks() {
        for longest in [0.0, 1.0, 37.0, 999.0, 1_000.0, 1_001.0, 61_234.0, 4e6] {
            let axis = Axis::to(longest);
            let ticks = axis.end / axis.step;
            assert!(
                axis.end >= longest && (1.0..=7.0).contains(&ticks),
                "{longest}: {} {}",
                axis.end,
                axis.step
            );
        }
    }
}
