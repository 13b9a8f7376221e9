//! What is seen of a wave: a table, drawn over itself on a terminal while the wave runs, a line for each change elsewhere.
//!
//! Called by: `wave`. Must never: be wider or, while the wave runs, higher than the terminal, or print anything when a
//! document was asked for.

use std::fmt::Write as _;

use dx_protocol::{ItemState, WaveDocument, WaveItemRow, WaveState};
use std::collections::BTreeMap;

use unicode_width::UnicodeWidthStr as _;

use crate::context::Context;
use crate::error::CliError;
use crate::status_table::lines_of;
use crate::text::{cut, cut_inside};
use crate::{output, text};

/// No name is cut below this.
const MIN_NAME: usize = 12;
/// The least that is worth its titles: these, an item, and how many are left out.
const MIN_TABLE: usize = 3;

/// The picture so far.
pub(crate) struct WaveView<'a> {
    ctx: &'a Context,
    /// Rows of the terminal that the next picture is drawn over.
    drawn: usize,
    /// What was said last of each item, without a terminal.
    said: BTreeMap<String, String>,
}

impl<'a> WaveView<'a> {
    /// Nothing is drawn yet.
    pub(crate) fn new(ctx: &'a Context) -> Self {
        Self { ctx, drawn: 0, said: BTreeMap::new() }
    }

    /// Shows the wave as it is now.
    pub(crate) fn show(&mut self, wave: &WaveDocument) -> Result<(), CliError> {
        if self.ctx.out.is_json() {
            return Ok(());
        }
        if let Some((columns, rows)) = output::terminal_size() {
            return self.draw(wave, columns, rows);
        }
        self.say(wave);
        Ok(())
    }

    /// Each line clears what was right of it, so nothing flickers.
    fn draw(&mut self, wave: &WaveDocument, columns: usize, rows: usize) -> Result<(), CliError> {
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        let room = room(wave, rows);
        let lines = picture(wave, Some(columns), self.ctx.out.has_colour(), room);
        // On a single row the cursor has none below.
        let (end, more) = if room == Some(0) { ("", 0) } else { ("\n\x1b[J", 1) };
        self.drawn = (height(&lines, columns) + more).saturating_sub(1);
        self.ctx.out.bytes(format!("{up}\r{}\x1b[K{end}", lines.join("\x1b[K\n")).as_bytes())
    }

    fn say(&mut self, wave: &WaveDocument) {
        for item in &wave.items {
            let mut now = format!("{}  {}", item.id, item.state);
            if item.attempts > 1 {
                let _fits = write!(now, " (attempt {} of {})", item.attempts, item.max_attempts);
            }
            if item.state.is_final() && item.state != ItemState::Done {
                let _fits = write!(now, "  {}", why(item));
            }
            let before = self.said.insert(item.id.clone(), now.clone());
            if before.as_ref() != Some(&now) && (before.is_some() || item.state != ItemState::Pending) {
                self.ctx.out.note(&now);
            }
        }
    }
}

/// The rows that a picture may take which is drawn over: all but the cursor's below. The last one is told whole, and scrolls.
fn room(wave: &WaveDocument, rows: usize) -> Option<usize> {
    (wave.state == WaveState::Running).then(|| rows.saturating_sub(1))
}

/// How many rows a line takes. One with colours is of the table, which is never wider than the terminal.
fn rows_of(line: &str, columns: usize) -> usize {
    if line.contains('\u{1b}') { 1 } else { line.width().div_ceil(columns.max(1)).max(1) }
}

fn height(lines: &[String], columns: usize) -> usize {
    lines.iter().flat_map(|line| line.split('\n')).map(|line| rows_of(line, columns)).sum()
}

/// The whole wave for people.
pub(crate) fn text(wave: &WaveDocument, colour: bool) -> String {
    picture(wave, output::terminal_size().map(|(columns, _)| columns), colour, None).join("\n")
}

fn picture(wave: &WaveDocument, columns: Option<usize>, colour: bool, room: Option<usize>) -> Vec<String> {
    let mut lines = vec![head(wave)];
    let mut below = below(wave);
    let mut shown: Vec<&WaveItemRow> = wave.items.iter().collect();
    let (mut most, mut is_titled) = (usize::MAX, true);
    if let Some(room) = room {
        let columns = columns.unwrap_or(usize::MAX);
        lines[0] = cut(&lines[0], room.max(1).saturating_mul(columns).saturating_sub(1));
        let left = room.saturating_sub(height(&lines, columns));
        let whole = shown.len() + 1;
        // What is below is told at the end, too; what is at work is not.
        if height(&below, columns) + whole.min(MIN_TABLE) > left {
            below.clear();
        }
        let left = left - height(&below, columns);
        is_titled = left >= whole.min(MIN_TABLE);
        if left < whole {
            most = if is_titled { left - 2 } else { left };
        }
    }
    // Of a wave that is higher than the terminal what is at work, then what waits, then what is closed.
    let left_out = shown.len().saturating_sub(most);
    if left_out > 0 {
        let rank = |item: &&WaveItemRow| match item.state {
            ItemState::Pending => 1,
            state if state.is_final() => 2,
            _ => 0,
        };
        shown.sort_by_key(rank);
        shown.truncate(most);
    }
    let header = ["ITEM", "STATE", "TRY", "PROVIDER", "TIME", "WHY"].map(str::to_owned).to_vec();
    // What an item is about is said at the right end; a long name leaves room for it.
    let longest = columns.map_or(usize::MAX, |columns| (columns / 4).max(MIN_NAME));
    let names = names(&shown, longest, columns.map_or(usize::MAX, |columns| (columns / 2).max(MIN_NAME)));
    let rows: Vec<Vec<String>> = shown.iter().zip(names).map(|(item, name)| cells(item, name)).collect();
    let mut table = lines_of(header, rows.clone());
    if left_out > 0 && is_titled {
        table.push(format!("… and {left_out} more"));
    }
    if let Some(columns) = columns {
        for line in &mut table {
            *line = cut(line, columns.saturating_sub(1));
        }
    }
    if colour {
        for ((line, item), row) in table.iter_mut().skip(1).zip(&shown).zip(&rows) {
            let (name, rest) = line.split_at_checked(row[0].len()).unwrap_or((line, ""));
            *line = format!("{name}{}", rest.replacen(item.state.as_str(), &painted(item.state), 1));
        }
    }
    lines.extend(table.into_iter().skip(usize::from(!is_titled)));
    lines.extend(below);
    lines
}

/// What is said below the table.
fn below(wave: &WaveDocument) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(failure) = &wave.notify_failure {
        lines.push(format!("not told by --notify: {failure}"));
    }
    if let Some(failure) = &wave.write_back_failure {
        lines.push(format!("not written to Beads: {failure}"));
    }
    if let Some(merged) = &wave.merged {
        match &merged.commit {
            Some(commit) => lines.push(format!("merged into {} at {}", merged.branch, short(commit))),
            None => lines.push(format!("not merged into {}: {}", merged.branch, merged.message)),
        }
        for conflict in &merged.conflicts {
            let [a, b] = &conflict.items;
            lines.push(format!("  {a} and {b} do not fit together: {}", conflict.paths.join("; ")));
        }
    }
    if !matches!(wave.next_action.as_str(), "" | "-") && wave.state != WaveState::Running {
        lines.push(format!("next: {}", wave.next_action));
    }
    lines
}

fn head(wave: &WaveDocument) -> String {
    let mut line = format!(
        "wave {}  {}  {} of {} closed  {}",
        wave.wave_id,
        wave.state.as_str(),
        wave.closed,
        wave.total,
        text::seconds(wave.elapsed_sec)
    );
    if let (Some(left @ 1..), WaveState::Running) = (wave.estimate_sec, wave.state) {
        let _fits = write!(line, ", about {} left", text::seconds(left));
    }
    if let Some(until) = wave.waits_until {
        let _fits = write!(line, ", waits until {until}: every provider it could use is parked");
    }
    line
}

/// The ids as shown, never two alike: cut to `longest`, those that would be alike to `most`, and with a number when that does
/// not do either.
fn names(items: &[&WaveItemRow], longest: usize, most: usize) -> Vec<String> {
    let mut names: Vec<String> = items.iter().map(|item| cut_inside(&item.id, longest)).collect();
    for room in [Some(most), None] {
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for name in &names {
            *count.entry(name.clone()).or_default() += 1;
        }
        for (at, (name, item)) in names.iter_mut().zip(items).enumerate() {
            if count.get(name).is_some_and(|same| *same > 1) {
                let numbered = || format!("{} #{}", cut_inside(&item.id, longest), at + 1);
                *name = room.map_or_else(numbered, |room| cut_inside(&item.id, room));
            }
        }
    }
    names
}

fn cells(item: &WaveItemRow, name: String) -> Vec<String> {
    vec![
        name,
        item.state.to_string(),
        format!("{}/{}", item.attempts, item.max_attempts),
        item.provider.clone(),
        if item.attempts > 0 { text::seconds(item.elapsed_sec) } else { "-".to_owned() },
        why(item),
    ]
}

/// One line about why the item is where it is.
fn why(item: &WaveItemRow) -> String {
    let line = |text: &str| text.lines().next().unwrap_or_default().replace('\t', " ");
    match item.state {
        ItemState::Done => item.notes.first().map(|note| line(note)).unwrap_or_default(),
        // How its job is.
        ItemState::Running | ItemState::Checking | ItemState::Reviewing => {
            // That it is launching would contradict the item's state, for minutes when a command says nothing.
            let of =
                |state: &str| if state == "launching" { "no output yet".into() } else { state.to_owned() };
            item.job.as_ref().map_or_else(String::new, |job| of(&job.state))
        }
        ItemState::Pending if item.needs.is_empty() => String::new(),
        ItemState::Pending => format!("after {}", item.needs.join(", ")),
        _ => {
            let reason = item.reason_code.map_or_else(String::new, |reason| reason.to_string());
            let detail = if item.message.is_empty() {
                item.findings.first().map(|finding| line(finding)).unwrap_or_default()
            } else {
                line(&item.message)
            };
            if detail.is_empty() { reason } else { format!("{reason}: {detail}") }
        }
    }
}

fn painted(state: ItemState) -> String {
    let code = match state {
        ItemState::Done => "32",
        ItemState::Running | ItemState::Checking | ItemState::Reviewing => "36",
        ItemState::Pending => "90",
        ItemState::Revision | ItemState::Skipped | ItemState::Cancelled => "33",
        ItemState::Failed | ItemState::Blocked => "31",
    };
    format!("\u{1b}[{code}m{state}\u{1b}[0m")
}

/// The report of a wave: the table, then each item with what was found and tried.
pub(crate) fn report(wave: &WaveDocument) -> String {
    let mut lines = vec![text(wave, false), String::new()];
    for item in &wave.items {
        let commit = item.commit.as_deref().map_or_else(|| "-".to_owned(), short);
        lines.push(format!("{}  {}  branch {}  commit {commit}", item.id, item.state, item.branch));
        for attempt in &item.history {
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let reason = attempt.reason_code.map_or_else(|| "-".to_owned(), |reason| reason.to_string());
            lines.push(format!(
                "  attempt {} by {}: exit code {} ({reason}), review {}",
                attempt.attempt,
                attempt.provider,
                word(&attempt.exit_code),
                word(&attempt.review)
            ));
        }
        for gate in &item.gates {
            let word = if gate.report.passed { "passed" } else { "FAILED" };
            lines.push(format!("  {}: {word} ({})", gate.name, gate.report.details));
        }
        for note in &item.notes {
            lines.push(format!("  note: {note}"));
        }
        for finding in &item.findings {
            lines.push(format!("  finding: {}", finding.replace('\n', "\n    ")));
        }
    }
    lines.join("\n")
}

fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(ids: &[String]) -> WaveDocument {
        let item = |id: &String| {
            serde_json::json!({ "id": id, "needs": [], "state": "pending", "reason_code": null,
            "message": "", "attempts": 0, "max_attempts": 3, "provider": "exec", "model": "-", "base": null, "branch": id,
            "commit": null, "worktree": null, "elapsed_sec": 0, "findings": [], "gates": [], "job": null, "history": [] })
        };
        let items: Vec<_> = ids.iter().map(item).collect();
        serde_json::from_value(serde_json::json!({ "schema": "dx-runner/wave/1", "generated_at": "2026-01-01T00:00:00.000Z",
            "wave_id": "w-1", "name": "w", "state": "running", "repo": "/r", "base": "main", "file": "-",
            "started_at": "2026-01-01T00:00:00.000Z", "ended_at": null, "elapsed_sec": 0, "closed": 0, "total": ids.len(),
            "estimate_sec": null, "waits_until": null, "merged": null, "cancelled": false, "next_action": "-", "items": items }))
        .unwrap()
    }

    #[test]
    fn two_ids_are_never_shown_alike() {
        let long = |end: &str| format!("implement-the-new-parser-{end}");
        let between = |middle: &str| format!("{}{middle}{}", "a".repeat(60), "z".repeat(60));
        let ids = [long("one"), long("two"), "short".to_owned(), between("1"), between("2"), between("3")];
        for columns in [None, Some(20), Some(40), Some(80), Some(132)] {
            for colour in [false, true] {
                let lines = picture(&wave(&ids), columns, colour, None);
                let shown: std::collections::BTreeSet<&str> =
                    lines[2..].iter().map(|line| line.split("  ").next().unwrap()).collect();
                assert_eq!(shown.len(), ids.len(), "{columns:?}: {lines:#?}");
                assert!(columns.is_some() || ids.iter().all(|id| shown.contains(id.as_str())), "{lines:#?}");
            }
        }
        let lines = picture(&wave(&ids), Some(80), false, None);
        assert!(lines.iter().all(|line| line.chars().count() < 80), "{lines:#?}");
        assert!(lines[2].starts_with("implement-…arser-one "), "{lines:#?}");
    }

    #[test]
    fn a_reason_in_wide_letters_or_many_lines_takes_one_row() {
        for finding in ["界面".repeat(60), "one\ttwo\tthree\tfour\nline2\nline3".to_owned()] {
            let mut wave = wave(&["a".to_owned()]);
            wave.items[0].state = ItemState::Blocked;
            wave.items[0].findings = vec![finding];
            let lines = picture(&wave, Some(60), false, None);
            assert!(lines.iter().all(|line| line.width() < 60 && !line.contains(['\t', '\n'])), "{lines:#?}");
        }
    }

    #[test]
    fn the_last_picture_is_whole_on_a_low_terminal() {
        let ids: Vec<String> = (0..9).map(|at| format!("item-{at}")).collect();
        let mut wave = wave(&ids);
        for (at, item) in wave.items.iter_mut().enumerate() {
            item.state = if at == 8 { ItemState::Failed } else { ItemState::Done };
        }
        let lines = |wave: &WaveDocument| picture(wave, Some(100), false, room(wave, 8));
        let at_work = lines(&wave);
        assert!(at_work.len() == 7 && at_work.iter().any(|line| line.contains(" more")), "{at_work:#?}");
        for state in [WaveState::Done, WaveState::Partial, WaveState::Failed, WaveState::Interrupted] {
            wave.state = state;
            let last = lines(&wave);
            assert!(ids.iter().all(|id| last.iter().any(|line| line.starts_with(id))), "{last:#?}");
        }
    }

    #[test]
    fn a_picture_is_never_higher_than_the_terminal() {
        let ids: Vec<String> = (0..5).map(|at| format!("item-{at}")).collect();
        let (mut usual, mut told) = (wave(&ids), wave(&ids));
        usual.items[4].state = ItemState::Running;
        told.waits_until = Some(told.started_at);
        told.notify_failure = Some("one\ntwo ".repeat(20));
        for at in 0..4 * 9 * 20 {
            let (wave, colour) = (if at % 2 == 0 { &usual } else { &told }, at / 2 % 2 == 0);
            let (columns, rows) = ([1, 5, 12, 24, 30, 40, 80, 100, 132][at / 4 % 9], at / 36 + 1);
            let lines = picture(wave, Some(columns), colour, room(wave, rows));
            // The cursor is below, when there is such a row.
            assert!(height(&lines, columns) < rows.max(2), "{columns}x{rows}: {lines:#?}");
        }
        let firsts = |columns, rows| -> Vec<String> {
            let lines = picture(&usual, Some(columns), false, room(&usual, rows));
            lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        assert_eq!(firsts(100, 8), ["wave", "ITEM", "item-0", "item-1", "item-2", "item-3", "item-4"]);
        assert_eq!(firsts(100, 5), ["wave", "ITEM", "item-4", "…"]);
        assert_eq!(firsts(100, 4), ["wave", "item-4", "item-0"]);
        assert_eq!(firsts(100, 3), ["wave", "item-4"]);
        // Of two rows each.
        assert_eq!(firsts(24, 6), ["wave", "ITEM", "item-4", "…"]);
        assert_eq!((firsts(24, 3), firsts(24, 1)), (vec!["wave".to_owned()], vec!["wave".to_owned()]));
    }

    #[test]
    fn a_line_takes_as_many_rows_as_it_is_wide() {
        for (line, rows) in
            [("", 1), ("12345", 1), ("123456", 2), ("12345678901", 3), ("\u{1b}[31m123456", 1)]
        {
            assert_eq!(rows_of(line, 5), rows, "{line:?}");
        }
    }
}
