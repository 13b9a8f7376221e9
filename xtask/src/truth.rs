//! The table of truth in the guide: made from the rows that its tests run, and from the times they noted.
//!
//! For: a table that cannot say anything else than the tests. `gen` writes it between its marks in the guide; `check`
//! compares. Times are taken as they are: a row that was not measured shows none.
//! Called by: `generate`, `check`.
//! Must never: change the page outside of the marks, or run an agent.

use std::collections::BTreeMap;
use std::fs;

use crate::check::Findings;
use crate::{Failure, workspace};

const FOLDER: &str = "crates/dx-cli/tests/it/truth";
const PAGE: &str = "docs/guide/errors.md";
const BEGIN: &str = "<!-- table of truth: made from the tests by `cargo xtask gen` -->\n";
const END: &str = "<!-- end of the table -->\n";
/// For a row without a time, and for what does not apply.
const NONE: &str = "–";

struct Row<'a> {
    provider: &'a str,
    case: &'a str,
    start: &'a str,
    suite: &'a str,
    state: &'a str,
    reason: &'a str,
    exit: &'a str,
}

/// Puts the table into the page; with `check` fails when that would change it.
pub(crate) fn run(check: bool) -> Result<(), Failure> {
    let (old, new) = pages()?;
    if old == new {
        return Ok(());
    }
    if check {
        return Err(format!("run `cargo xtask gen`: the table in {PAGE} is not that of {FOLDER}"));
    }
    println!("   {PAGE} differs");
    fs::write(workspace::root().join(PAGE), new).map_err(|error| format!("{PAGE}: {error}"))
}

/// The same as a rule of `check`.
pub(crate) fn findings() -> Findings {
    let mut found = Findings::default();
    if let Err(failure) = run(true) {
        found.error(failure);
    }
    found
}

/// The page as it is and as it should be.
fn pages() -> Result<(String, String), Failure> {
    let read = |path: &str| {
        fs::read_to_string(workspace::root().join(path)).map_err(|error| format!("{path}: {error}"))
    };
    let table = table(&read(&format!("{FOLDER}/rows.txt"))?, &read(&format!("{FOLDER}/seconds.txt"))?)?;
    let old = read(PAGE)?;
    let new =
        between_marks(&old, &table).ok_or_else(|| format!("{PAGE}: the marks of the table are not there"))?;
    Ok((old, new))
}

fn between_marks(page: &str, table: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn table(rows: &str, seconds: &str) -> Result<String, Failure> {
    let times: BTreeMap<(&str, &str), &str> = lines(seconds)
        .filter_map(|(_, cells)| match cells[..] {
            [provider, case, time] => Some(((provider, case), time)),
            _ => None,
        })
        .collect();
    let mut text = "| case | provider | state | reason code | exit of the agent | seconds |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let mut all = Vec::new();
    for (line, cells) in lines(rows) {
        let [provider, case, _, start, suite, state, reason, exit] = cells[..] else {
            return Err(format!("{FOLDER}/rows.txt: not eight cells: {line}"));
        };
        all.push(Row { provider, case, start, suite, state, reason, exit });
    }
    // The same case of all providers stands together, in the order in which cases come first.
    let mut cases: Vec<&str> = Vec::new();
    for row in &all {
        if !cases.contains(&row.case) {
            cases.push(row.case);
        }
    }
    for row in cases.iter().flat_map(|case| all.iter().filter(move |row| row.case == *case)) {
        let time = times.get(&(row.provider, row.case)).copied().unwrap_or(NONE);
        let slow = if row.suite == "soak" { " ¹" } else { "" };
        let exit = if row.exit == "-" { NONE } else { row.exit };
        let state = match row.state.split_once(' ') {
            Some((word, code)) => format!("{word}, `start` exits {code}"),
            None => format!("`{}`", row.state),
        };
        let cells = [
            format!("{}{}{slow}", row.case, settings(row.start)),
            format!("`{}`", row.provider),
            state,
            format!("`{}`", row.reason),
            exit.to_owned(),
            time.to_owned(),
        ];
        text.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    Ok(text)
}

/// What of the start makes a difference for the case; credentials and names do not.
fn settings(start: &str) -> String {
    let words: Vec<&str> = start.split(' ').collect();
    let mut told: Vec<String> =
        words.iter().filter(|w| w.starts_with("CLAUDE_CODE_MAX_RETRIES")).map(|w| format!("`{w}`")).collect();
    told.extend(words.windows(2).filter(|w| w[0] == "--max-runtime").map(|w| format!("`{} {}`", w[0], w[1])));
    if told.is_empty() { String::new() } else { format!("; {}", told.join(" ")) }
}

/// Lines with their cells, comments left out.
fn lines(text: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| (line, line.split('|').map(str::trim).collect()))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, between_marks, table};

    const ROWS: &str = "# x\na | hang | hang | --max-runtime 4s --agent n | test | exited_err | r1 | 143\n\
        a | quota | q | K=v | soak | exited_err | r2 | 1\nb | hang | hang | - | test | refused 21 | r3 | -\n";

    #[test]
    fn cases_stand_together_with_their_times() {
        let table = table(ROWS, "a | hang | 4.2\nb | gone | 9\n").expect("eight cells each");
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| hang; `--max-runtime 4s` | `a` | `exited_err` | `r1` | 143 | 4.2 |",
                "| hang | `b` | refused, `start` exits 21 | `r3` | – | – |",
                "| quota ¹ | `a` | `exited_err` | `r2` | 1 | – |"
            ]
        );
        assert!(super::table("a | b\n", "").is_err());
    }

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(between_marks(&page, "new\n").as_deref(), Some(&*format!("a\n{BEGIN}\nnew\n\n{END}b\n")));
        assert_eq!(between_marks("a\n", "new\n"), None);
    }
}
