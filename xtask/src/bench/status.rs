//! How long reading takes: `status` and `check`, alone and beside a long history.
//!
//! For: the budget of 10 ms with ten jobs, flat in the number of ended records.
//! Called by: `bench::run`; `start` uses the history.
//! Must never: write a record that the product would not have written; they are copies of a real one.

use std::fs;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Size;
use super::measure::{interleaved, timed, until};
use super::report::Report;
use super::world::{Job, State, World};
use crate::Failure;
use crate::workspace::output;

const BUDGET_MS: f64 = 10.0;
const DAY: u64 = 86_400;

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let state = world.state("status");
    state.start_sleepers("live", 10)?;
    report_status(&state, size, report, "status --json, 10 live", &[])?;
    write_history(&state, size.ended, 30)?;
    let beside = |what: &str| format!("{what}, 10 live + {} ended over 30 days", size.ended);
    report_status(&state, size, report, &beside("status --live --json"), &["--live"])?;
    report_status(&state, size, report, &beside("status --json"), &[])?;
    for (what, id) in [("live", "live-5"), ("ended", "original")] {
        let checked = interleaved(size.times, |_| {
            timed(&mut state.runner(&["check", "--json", "--beads", id]), &[0, 2, 3])
        })?;
        report.time(&format!("check --json of one {what} job, same records"), &checked, None);
    }
    report_history(&state, size, report)?;
    let state = world.state("status-today");
    state.start_sleepers("live", 10)?;
    write_history(&state, size.ended, 1)?;
    let beside = |what: &str| format!("{what}, 10 live + {} ended today", size.ended);
    report_status(&state, size, report, &beside("status --recent 10 --json"), &["--recent", "10"])?;
    let all = interleaved(size.times.min(20), |_| timed(&mut state.runner(&["status", "--json"]), &[0]))?;
    report.time(&beside("status --json, all of them shown"), &all, None);
    Ok(())
}

fn report_status(
    state: &State<'_>,
    size: Size,
    report: &mut Report,
    what: &str,
    args: &[&str],
) -> Result<(), Failure> {
    let pair = interleaved(size.times, |_| timed(state.runner(&["status", "--json"]).args(args), &[0]))?;
    report.time(what, &pair, Some(BUDGET_MS));
    Ok(())
}

/// The first question makes the cache out of the ended index; later ones find it.
fn report_history(state: &State<'_>, size: Size, report: &mut Report) -> Result<(), Failure> {
    let beside = |what: &str| format!("{what}, {} ended over 30 days", size.ended);
    let ask = ["history", "query", "SELECT provider, count(*) FROM runs GROUP BY provider", "--json"];
    let cache = state.root().join("cache/history.sqlite");
    let cold = interleaved(5, |_| {
        let _none = fs::remove_file(&cache);
        timed(&mut state.runner(&ask), &[0])
    })?;
    report.time(&beside("history query, cache made anew"), &cold, None);
    let warm = interleaved(size.times, |_| timed(&mut state.runner(&ask), &[0]))?;
    report.time(&beside("history query"), &warm, None);
    let all =
        interleaved(size.times.min(20), |_| timed(&mut state.runner(&["report", "--all", "--json"]), &[0]))?;
    report.time(&beside("report --all --json"), &all, None);
    let one = ["report", "--beads", "original", "--json"];
    let one = interleaved(size.times.min(20), |_| timed(&mut state.runner(&one), &[0]))?;
    report.time(&beside("report --json of one job"), &one, None);
    Ok(())
}

/// Runs one job to its end and copies its records `count` times, spread evenly over the last `days` days: the line of
/// the ended index, `.meta` and `.outcome`. The job itself is called `original`.
pub(super) fn write_history(state: &State<'_>, count: usize, days: u64) -> Result<(), Failure> {
    let job = Job::exec("original");
    timed(&mut state.exec(&job.id, &["true"]), &[0])?;
    let index = state.root().join("ended");
    let line = || {
        let file = fs::read_dir(&index).ok()?.flatten().next()?;
        let text = fs::read_to_string(file.path()).ok()?;
        text.lines().find(|line| line.contains("\"original\"")).map(str::to_owned)
    };
    let (_, line) = until("the line of an ended job", line)?;
    until("the outcome of an ended job", || state.has_view(&job, "outcome").then_some(()))?;
    let original = Original {
        uuid: text_field(&line, "run_uuid")?.to_owned(),
        started: text_field(&line, "started_at")?.to_owned(),
        completed: text_field(&line, "completed_at")?.to_owned(),
        line,
        views: ["meta", "outcome"].map(|suffix| (suffix, state.view(&job, suffix))),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    // "Today" is since midnight in UTC: one file.
    let span = if days == 1 { now % DAY } else { days * DAY };
    let mut lines: Vec<(u64, Vec<String>)> = Vec::new();
    for n in 0..count {
        let at = now - span + span * n as u64 / count as u64;
        match lines.last_mut() {
            Some((day, of_day)) if *day == at / DAY => of_day.push(original.line_of(n, at)),
            _ => lines.push((at / DAY, vec![original.line_of(n, at)])),
        }
        for (suffix, text) in &original.views {
            let path = state.root().join(format!("exec/old-{n}.{suffix}"));
            fs::write(&path, original.copy_of(text, n))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    for (day, of_day) in lines {
        let path = index.join(format!("{}.jsonl", day_name(day)));
        let mut text = of_day.join("\n") + "\n";
        text += &fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let shown = output(state.runner(&["status", "--all", "--json"]).stdout(Stdio::piped()))?;
    let read = shown.matches("\"beads\":\"old-").count();
    if read == count { Ok(()) } else { Err(format!("of {count} ended records only {read} are read")) }
}

/// The records of a real job.
struct Original {
    line: String,
    uuid: String,
    started: String,
    completed: String,
    views: [(&'static str, String); 2],
}

impl Original {
    fn copy_of(&self, text: &str, n: usize) -> String {
        // UUIDv7 sorts by time: the copies are older than the original.
        let uuid = format!("00000000-0000-7000-8000-{n:012x}");
        text.replace("original", &format!("old-{n}")).replace(&self.uuid, &uuid)
    }

    fn line_of(&self, n: usize, at: u64) -> String {
        let field = |name: &str, value: &str| format!("\"{name}\":\"{value}\"");
        let (day, of_day) = (day_name(at / DAY), at % DAY);
        let moment = format!("{day}T{:02}:{:02}:{:02}.000Z", of_day / 3600, of_day / 60 % 60, of_day % 60);
        self.copy_of(&self.line, n)
            .replace(&field("started_at", &self.started), &field("started_at", &moment))
            .replace(&field("completed_at", &self.completed), &field("completed_at", &moment))
    }
}

/// The text of a string field in one line of JSON, which has no escapes in the fields asked for.
pub(super) fn text_field<'t>(line: &'t str, name: &str) -> Result<&'t str, Failure> {
    let (_, rest) =
        line.split_once(&format!("\"{name}\":\"")).ok_or_else(|| format!("no field {name}: {line}"))?;
    Ok(rest.split('"').next().unwrap_or_default())
}

/// The digits of a number field.
pub(super) fn number_field<'t>(line: &'t str, name: &str) -> Result<&'t str, Failure> {
    let (_, rest) =
        line.split_once(&format!("\"{name}\":")).ok_or_else(|| format!("no field {name}: {line}"))?;
    Ok(&rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())])
}

/// `YYYY-mm-dd` of a day count since 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn day_name(days: u64) -> String {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = era * 400 + yoe + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::{day_name, number_field, text_field};

    #[test]
    fn days_have_names() {
        assert_eq!(day_name(0), "1970-01-01");
        assert_eq!(day_name(20_502), "2026-02-18");
        assert_eq!(day_name(11_016), "2000-02-29");
    }

    #[test]
    fn fields_are_found() {
        let line = r#"{"a":"x","n":12,"m":3}"#;
        assert_eq!(text_field(line, "a").unwrap(), "x");
        assert_eq!(number_field(line, "n").unwrap(), "12");
        assert!(number_field(line, "z").is_err());
    }
}
