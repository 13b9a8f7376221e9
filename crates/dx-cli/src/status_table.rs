//! The table of `status`.
//!
//! Called by: `status`. Must never: be wider than the terminal while there is a column that can go.

use comfy_table::{ContentArrangement, Table, presets};
use dx_protocol::StatusRow;

use crate::text;

/// One column: title, and the content of a row.
type Column = (&'static str, fn(&StatusRow) -> String);

const STATE: &str = "STATE";
const COLUMNS: [Column; 9] = [
    ("ID", |row| row.beads.clone()),
    ("PROVIDER", |row| row.provider.clone()),
    (STATE, |row| row.state.to_string()),
    ("REASON", |row| row.reason_code.to_string()),
    ("ELAPSED", |row| row.elapsed.clone()),
    ("LOG", |row| text::bytes(row.log_bytes)),
    ("MUT", |row| row.mutation_count.to_string()),
    ("RETRY", |row| row.retry_count.to_string()),
    ("OUTCOME", |row| row.outcome.clone()),
];
/// What goes first when there is no room.
const DISPENSABLE: [&str; 7] = ["RETRY", "LOG", "MUT", "REASON", "ELAPSED", "PROVIDER", "OUTCOME"];

/// The table, at most `width` wide where that is possible, without a line feed at the end.
pub(crate) fn render(rows: &[StatusRow], width: Option<usize>, colour: bool) -> String {
    let mut columns: Vec<Column> = COLUMNS.to_vec();
    let mut lines = plain(rows, &columns);
    for title in DISPENSABLE {
        let widest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
        if width.is_none_or(|width| widest <= width) {
            break;
        }
        columns.retain(|column| column.0 != title);
        lines = plain(rows, &columns);
    }
    if colour {
        paint(&mut lines, rows);
    }
    lines.join("\n")
}

fn plain(rows: &[StatusRow], columns: &[Column]) -> Vec<String> {
    lines_of(
        columns.iter().map(|column| column.0.to_owned()).collect(),
        rows.iter().map(|row| columns.iter().map(|column| (column.1)(row)).collect()).collect(),
    )
}

/// A table without lines: two spaces between columns, nothing wrapped.
pub(crate) fn lines_of(header: Vec<String>, rows: Vec<Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Colours the state of each row, which stands below its title: everything left of it is ASCII.
fn paint(lines: &mut [String], rows: &[StatusRow]) {
    let Some(start) = lines.first().and_then(|header| header.find(STATE)) else { return };
    for (line, row) in lines.iter_mut().skip(1).zip(rows) {
        let end = start + row.state.as_str().len();
        if line.get(start..end) == Some(row.state.as_str()) {
            line.replace_range(start..end, &text::coloured(row.state, row.state.as_str(), true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dx_protocol::{ReasonCode, State};

    fn row(beads: &str, state: State) -> StatusRow {
        StatusRow {
            beads: beads.to_owned(),
            provider: "opencode".to_owned(),
            pid: "-".to_owned(),
            state,
            reason_code: ReasonCode::ProviderEvent,
            elapsed: "2h1m".to_owned(),
            log_bytes: 3500,
            mutation_count: 4,
            retry_count: 0,
            outcome: "-".to_owned(),
            run_instance: "-".to_owned(),
            host: "-".to_owned(),
            cwd: "-".to_owned(),
            worktree: "-".to_owned(),
            started_at: "-".to_owned(),
            elapsed_sec: 7260,
            selected_model: "-".to_owned(),
            sample_age_sec: 0,
            ended: false,
            tokens_in: None,
            tokens_out: None,
            cost_usd: None,
            verdicts: None,
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [row("bd-1", State::Healthy), row("bd-100.2", State::ExitedErr)];
        let expected = "\
ID        PROVIDER  STATE       REASON          ELAPSED  LOG      MUT  RETRY  OUTCOME
bd-1      opencode  healthy     provider_event  2h1m     3.4 KiB  4    0      -
bd-100.2  opencode  exited_err  provider_event  2h1m     3.4 KiB  4    0      -";
        assert_eq!(render(&rows, None, false), expected);
    }

    #[test]
    fn narrow_terminals_lose_columns_and_keep_id_and_state() {
        let rows = [row("bd-1", State::Healthy)];
        for width in [20, 30, 40, 60, 80] {
            let table = render(&rows, Some(width), false);
            assert!(table.lines().all(|line| line.len() <= width), "{width}: {table}");
            assert!(table.contains("bd-1") && table.contains("healthy"), "{table}");
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let rows = [row("bd-1", State::Healthy), row("healthy", State::Stalled)];
        let coloured = render(&rows, None, true);
        assert!(
            coloured.contains("\u{1b}[32mhealthy\u{1b}[0m")
                && coloured.contains("\u{1b}[33mstalled\u{1b}[0m")
        );
        let stripped =
            ["\u{1b}[32m", "\u{1b}[33m", "\u{1b}[0m"].iter().fold(coloured, |t, c| t.replace(c, ""));
        assert_eq!(stripped, render(&rows, None, false));
    }
}
