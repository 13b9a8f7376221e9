//! The pictures of `report.html`: latencies as dots over an axis, jobs as bars over time.
//!
//! Places from left to right are shares of the width, heights are pixels: a picture fits every window, and its words have
//! the same size in all. Must never: tell something by colour alone, or show text of a record that was not escaped.

use crate::html::escape;
use crate::markdown::time;
use crate::summary::{by_workflow, latencies};
use dx_protocol::{BenchEstimate, BenchManifest, BenchRecord};
use std::fmt::Write;

/// Below the last row: the words of the axis.
const FOOT: f64 = 22.0;
/// Above a row: the name of its workflow.
const HEAD: f64 = 20.0;

/// A row of dots for each workflow over one axis, which begins at zero.
pub(crate) fn strips(
    title: &str,
    manifest: &BenchManifest,
    records: &[&BenchRecord],
    latency: fn(&BenchRecord) -> Option<u64>,
    median: impl Fn(&str) -> Option<BenchEstimate>,
) -> String {
    const ROW: f64 = 52.0;
    let longest = latencies(records, latency).into_iter().fold(0.0, f64::max);
    let axis = Axis::to(longest);
    let height = ROW * manifest.workflows.len() as f64;
    let mut body = axis.ticks(height);
    for (row, workflow) in manifest.workflows.iter().enumerate() {
        let top = ROW * row as f64;
        let middle = top + HEAD + 14.0;
        let mine = latencies(&by_workflow(records, &workflow.name), latency);
        let mut told = escape(&workflow.name);
        if let Some(median) = median(&workflow.name) {
            let at = axis.at(median.value);
            let (above, below) = (middle - 11.0, middle + 11.0);
            if median.low.is_some() || median.high.is_some() {
                // Without a bound on one side it goes on to the picture's end.
                let from = axis.at(median.low.unwrap_or(0.0));
                let to = axis.at(median.high.unwrap_or(axis.end));
                // Writing to a String cannot fail, here and below.
                let _written = write!(
                    body,
                    "<rect class=\"band\" x=\"{from:.2}%\" y=\"{above:.0}\" width=\"{:.2}%\" height=\"22\"/>",
                    (to - from).max(0.1)
                );
            }
            let _written = write!(
                body,
                "<line class=\"median\" x1=\"{at:.2}%\" x2=\"{at:.2}%\" y1=\"{above:.0}\" y2=\"{below:.0}\"/>"
            );
            let _written = write!(told, "<tspan class=\"soft\"> {}</tspan>", time(median.value));
        } else {
            told.push_str("<tspan class=\"soft\"> no success</tspan>");
        }
        for (n, ms) in mine.iter().enumerate() {
            // Three heights, so that equal ones are seen to be several.
            let y = middle + [0.0, -6.0, 6.0][n % 3];
            let (x, told) = (axis.at(*ms), time(*ms));
            let _written = write!(
                body,
                "<circle class=\"dot\" cx=\"{x:.2}%\" cy=\"{y:.0}\" r=\"3.5\"><title>{told}</title></circle>"
            );
        }
        let _written = write!(body, "<text class=\"name\" x=\"0\" y=\"{:.0}\">{told}</text>", top + 15.0);
    }
    svg(title, height + FOOT, &body)
}

/// A bar for each job, one below the other in each workflow's own part.
pub(crate) fn timeline(title: &str, manifest: &BenchManifest, records: &[&BenchRecord]) -> String {
    const BAR: f64 = 13.0;
    let first = records.iter().map(|r| begin(r)).min().unwrap_or(0);
    let last = records.iter().map(|r| r.ended_ms).max().unwrap_or(0);
    let axis = Axis::to((last - first) as f64);
    let mut body = String::new();
    let mut y = 0.0;
    for workflow in &manifest.workflows {
        let mut mine = by_workflow(records, &workflow.name);
        mine.sort_by_key(|record| begin(record));
        // Jobs that did not overlap share a line.
        let mut lines: Vec<u64> = Vec::new();
        let top = y + HEAD;
        for record in mine {
            let line = lines.iter().position(|end| *end <= begin(record)).unwrap_or_else(|| {
                lines.push(0);
                lines.len() - 1
            });
            lines[line] = record.ended_ms;
            let failed = record.earlier.iter().map(|attempt| (attempt.began_ms, attempt.ended_ms, false));
            for (began, ended, good) in failed.chain([(record.began_ms, record.ended_ms, record.success)]) {
                let (from, to) = (
                    axis.at(began.saturating_sub(first) as f64),
                    axis.at(ended.saturating_sub(first) as f64),
                );
                let class = if good { "good" } else { "bad" };
                let told = format!("{}: {}", record.job, time(ended.saturating_sub(began) as f64));
                let _written = write!(
                    body,
                    "<rect class=\"{class}\" x=\"{from:.2}%\" y=\"{:.0}\" width=\"{:.2}%\" height=\"{:.0}\" rx=\"2\"><title>{}</title></rect>",
                    top + line as f64 * BAR + 2.0,
                    (to - from).max(0.3),
                    BAR - 3.0,
                    escape(&told)
                );
            }
        }
        let name = escape(&workflow.name);
        let _written = write!(body, "<text class=\"name\" x=\"0\" y=\"{:.0}\">{name}</text>", y + 15.0);
        y = top + lines.len().max(1) as f64 * BAR + 8.0;
    }
    svg(title, y + FOOT, &format!("{}{body}", axis.ticks(y)))
}

/// When its first attempt began.
fn begin(record: &BenchRecord) -> u64 {
    record.earlier.first().map_or(record.began_ms, |attempt| attempt.began_ms.min(record.began_ms))
}

fn svg(title: &str, height: f64, body: &str) -> String {
    format!("<svg width=\"100%\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">{body}</svg>")
}

/// Time from left to right, from zero.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    /// With so few ticks that their words are apart in a narrow window.
    fn to(longest: f64) -> Self {
        let longest = longest.max(1.0);
        let power = 10_f64.powf((longest / 4.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| longest / step <= 4.0);
        let step = step.unwrap_or(longest);
        // A little room behind the last one.
        Self { end: longest * 1.02, step }
    }

    /// The place of a time, in percent of the width.
    fn at(&self, ms: f64) -> f64 {
        100.0 * (ms / self.end).clamp(0.0, 1.0)
    }

    fn ticks(&self, height: f64) -> String {
        let mut text = String::new();
        let count = (self.end / self.step).floor() as u32;
        for tick in 0..=count {
            let ms = f64::from(tick) * self.step;
            let x = self.at(ms);
            // The outermost words stay inside.
            let (anchor, told) = match tick {
                0 => ("start", "0".to_owned()),
                _ => (if x > 92.0 { "end" } else { "middle" }, time(ms).replace(".0 s", " s")),
            };
            let _written = write!(
                text,
                "<line class=\"grid\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"0\" y2=\"{height:.0}\"/>\
                 <text class=\"soft\" x=\"{x:.2}%\" y=\"{:.0}\" text-anchor=\"{anchor}\">{told}</text>",
                height + 16.0
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Axis;

    #[test]
    fn an_axis_ends_behind_the_longest_with_few_ticks() {
        for longest in [0.0, 1.0, 37.0, 999.0, 1_000.0, 1_001.0, 61_234.0, 4e6] {
            let axis = Axis::to(longest);
            let ticks = axis.end / axis.step;
            assert!(
                axis.end >= longest && (1.0..5.0).contains(&ticks),
                "{longest}: {} {}",
                axis.end,
                axis.step
            );
        }
    }
}
