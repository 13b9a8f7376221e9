//! The table of units: what each delivers, what it needs, with what it may run at the same time.
//!
//! Must never: call a graph with a cycle one that can be run.

use super::markdown::{same, table};
use super::spec::is_none;
use dx_protocol::PackFinding;

const COLUMNS: [&str; 5] = ["#", "Unit", "Delivers", "Depends on", "Parallel with"];

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub line: usize,
    /// Without leading zeros; `None` when it is no number.
    pub number: Option<u32>,
    pub name: String,
    pub delivers: String,
    /// Numbers, and words that are none as `Err`.
    pub depends_on: Vec<Result<u32, String>>,
    pub parallel_with: Vec<Result<u32, String>>,
}

impl Unit {
    /// The name of its folder.
    pub fn folder(&self) -> String {
        format!("{:02}-{}", self.number.unwrap_or_default(), super::slug(&self.name))
    }

    /// Units that it needs, those that are numbers.
    pub fn needs(&self) -> impl Iterator<Item = u32> {
        self.depends_on.iter().filter_map(|need| need.as_ref().ok().copied())
    }
}

/// A table of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Of its head.
    pub(super) line: usize,
    pub(super) missing: Vec<&'static str>,
    pub(super) units: Vec<Unit>,
}

/// The table, when these lines hold one.
pub(super) fn read(lines: &[(usize, String)]) -> Option<Table> {
    let rows = table(lines);
    let (line, head) = rows.first()?;
    let column =
        |name: &str| head.iter().position(|cell| cell.trim() == name || (name != "#" && same(cell, name)));
    let at: Vec<Option<usize>> = COLUMNS.iter().map(|name| column(name)).collect();
    // A table with these two is meant to be it, whatever else is missing.
    at[0].and(at[1])?;
    let unit = |(line, cells): &(usize, Vec<String>)| {
        let cell = |column: usize| at[column].and_then(|at| cells.get(at)).cloned().unwrap_or_default();
        Unit {
            line: *line,
            number: cell(0).parse().ok(),
            name: cell(1),
            delivers: cell(2),
            depends_on: numbers(&cell(3)),
            parallel_with: numbers(&cell(4)),
        }
    };
    let missing = COLUMNS.into_iter().zip(&at).filter(|(_, at)| at.is_none()).map(|(name, _)| name);
    Some(Table { line: *line, missing: missing.collect(), units: rows[1..].iter().map(unit).collect() })
}

fn numbers(cell: &str) -> Vec<Result<u32, String>> {
    let words = cell.split([',', ';', ' ']).map(|word| word.trim().trim_matches('`').trim_start_matches('#'));
    words.filter(|word| !is_none(word)).map(|word| word.parse().map_err(|_| word.to_owned())).collect()
}

/// Units by layer: what one needs is in layers before its own. `Err`: the units that wait for one another.
pub fn layers(units: &[Unit]) -> Result<Vec<Vec<u32>>, Vec<u32>> {
    let mut left: Vec<&Unit> = units.iter().filter(|unit| unit.number.is_some()).collect();
    let mut layers: Vec<Vec<u32>> = Vec::new();
    while !left.is_empty() {
        let waits =
            |unit: &Unit| unit.needs().any(|need| left.iter().any(|other| other.number == Some(need)));
        let ready: Vec<u32> =
            left.iter().filter(|unit| !waits(unit)).filter_map(|unit| unit.number).collect();
        if ready.is_empty() {
            return Err(left.iter().filter_map(|unit| unit.number).collect());
        }
        left.retain(|unit| !unit.number.is_some_and(|number| ready.contains(&number)));
        layers.push(ready);
    }
    Ok(layers)
}

/// Units in the order in which they can be carried out, each with what it waits for: what it needs, and what stands before it
/// and is not said to be parallel with it, for then the second builds on the work of the first. Nothing for a graph with a
/// cycle.
pub fn waits(units: &[Unit]) -> Vec<(&Unit, Vec<u32>)> {
    let order = layers(units).unwrap_or_default().concat();
    let mut waits: Vec<(&Unit, Vec<u32>)> = Vec::new();
    for unit in order.iter().filter_map(|wanted| units.iter().find(|unit| unit.number == Some(*wanted))) {
        let mut own: Vec<u32> = unit.needs().collect();
        // The nearest first: what that waits for needs no mention.
        for (earlier, _) in waits.iter().rev().filter(|(earlier, _)| !are_parallel(earlier, unit)) {
            let Some(number) = earlier.number else { continue };
            if !own.iter().any(|other| *other == number || leads(&waits, *other, number)) {
                own.push(number);
            }
        }
        own.sort_unstable();
        own.dedup();
        waits.push((unit, own));
    }
    waits
}

/// Whether `from` waits for `to`, over others too.
fn leads(waits: &[(&Unit, Vec<u32>)], from: u32, to: u32) -> bool {
    let own = waits.iter().find(|(unit, _)| unit.number == Some(from));
    own.is_some_and(|(_, list)| list.iter().any(|next| *next == to || leads(waits, *next, to)))
}

/// What is wrong with the table alone.
pub(super) fn findings(file: &str, units: &[Unit]) -> Vec<PackFinding> {
    let mut found = Vec::new();
    let mut add = |line: usize, rule: &str, message: String, fix: &str| {
        found.push(PackFinding {
            file: file.to_owned(),
            line: line as u64,
            rule: rule.to_owned(),
            message,
            fix: fix.to_owned(),
        });
    };
    if units.is_empty() {
        add(1, "units", "the table of units has no row".to_owned(), "give each unit a row");
    }
    for (index, unit) in units.iter().enumerate() {
        let Some(number) = unit.number else {
            add(unit.line, "units", format!("`{}` has no number", unit.name), "number the units 1, 2, 3");
            continue;
        };
        if super::slug(&unit.name).is_empty() {
            add(
                unit.line,
                "units",
                format!("unit {number} has no name"),
                "a short name, as its folder has it",
            );
        }
        if unit.delivers.is_empty() {
            add(
                unit.line,
                "units",
                format!("unit {number} delivers nothing"),
                "say what is there when it is done",
            );
        }
        if units[..index].iter().any(|other| other.number == Some(number)) {
            add(unit.line, "unit_twice", format!("unit {number} is there twice"), "number the units 1, 2, 3");
        }
        for (words, what) in [(&unit.depends_on, "depends on"), (&unit.parallel_with, "is parallel with")] {
            for word in words {
                match word {
                    Ok(other) if *other == number => {
                        add(unit.line, "unit_self", format!("unit {number} {what} itself"), "remove it");
                    }
                    Ok(other) if !units.iter().any(|unit| unit.number == Some(*other)) => {
                        let message = format!("unit {number} {what} {other}, which is no unit");
                        add(unit.line, "unit_unknown", message, "name numbers of this table, or `None`");
                    }
                    Ok(_) => {}
                    Err(word) => {
                        let message = format!("unit {number} {what} `{word}`, which is no number");
                        add(unit.line, "unit_unknown", message, "name numbers of this table, or `None`");
                    }
                }
            }
        }
        for other in unit.parallel_with.iter().flatten().filter(|other| **other != number) {
            if reaches(units, number, *other) || reaches(units, *other, number) {
                let message = format!("units {number} and {other} are parallel, and one needs the other");
                add(unit.line, "unit_parallel", message, "remove one of the two");
            }
        }
    }
    if let Err(cycle) = layers(units) {
        let line =
            units.iter().find(|unit| unit.number == cycle.first().copied()).map_or(1, |unit| unit.line);
        let names: Vec<String> = cycle.iter().map(u32::to_string).collect();
        let message = format!("units wait for one another: {}", names.join(", "));
        add(line, "unit_cycle", message, "let one of them need less");
    }
    found
}

/// Whether `from` needs `to`, over others too.
fn reaches(units: &[Unit], from: u32, to: u32) -> bool {
    let (mut open, mut seen) = (vec![from], Vec::new());
    while let Some(number) = open.pop() {
        for unit in units.iter().filter(|unit| unit.number == Some(number)) {
            for need in unit.needs() {
                if need == to {
                    return true;
                }
                if !seen.contains(&need) {
                    seen.push(need);
                    open.push(need);
                }
            }
        }
    }
    false
}

/// Whether one of two units says that they may run at the same time.
pub(super) fn are_parallel(a: &Unit, b: &Unit) -> bool {
    let says = |a: &Unit, b: &Unit| a.parallel_with.iter().flatten().any(|other| Some(*other) == b.number);
    says(a, b) || says(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number, what it depends on, what it is parallel with.
    fn units(rows: &[(u32, &str, &str)]) -> Vec<Unit> {
        let unit = |(number, needs, with): &(u32, &str, &str)| Unit {
            line: 1,
            number: Some(*number),
            name: "x".to_owned(),
            delivers: "x".to_owned(),
            depends_on: numbers(needs),
            parallel_with: numbers(with),
        };
        rows.iter().map(unit).collect()
    }

    fn told(rows: &[(u32, &str, &str)]) -> Vec<(u32, Vec<u32>)> {
        let units = units(rows);
        waits(&units).into_iter().map(|(unit, list)| (unit.number.unwrap(), list)).collect()
    }

    #[test]
    fn only_what_is_said_to_be_parallel_is() {
        let diamond = [(4, "2, 3", ""), (2, "1", "3"), (3, "1", ""), (1, "", "")];
        assert_eq!(told(&diamond), [(1, vec![]), (2, vec![1]), (3, vec![1]), (4, vec![2, 3])]);
        assert_eq!(told(&[(1, "", ""), (2, "", ""), (3, "", "")]), [(1, vec![]), (2, vec![1]), (3, vec![2])]);
        // 3 may run beside 1, and not beside 2.
        assert_eq!(
            told(&[(1, "", "2 3"), (2, "", ""), (3, "", "")]),
            [(1, vec![]), (2, vec![]), (3, vec![2])]
        );
        assert_eq!(told(&[(1, "2", ""), (2, "1", "")]), []);
    }
}
