//! A page as Markdown that is readable as it is: tables line up.
//!
//! Called by: `report`. Must never: let text become markup.

use super::{Body, Page, Table, one_line};
use std::fmt::Write;

/// The page, without a line feed at the end.
pub(crate) fn render(page: &Page) -> String {
    let mut text = format!("# {}", escaped(&page.title));
    if let Some((word, _)) = &page.badge {
        // Writing to a String cannot fail.
        let _ignored = write!(text, ": {}", escaped(word));
    }
    text.push('\n');
    for line in &page.lead {
        let _ignored = write!(text, "\n{}\n", escaped(line));
    }
    for section in page.sections.iter().filter(|section| !section.is_empty()) {
        let _ignored = write!(text, "\n## {}\n\n", section.title);
        match &section.body {
            Body::Facts(facts) => {
                for (name, value, _) in facts {
                    let _ignored = writeln!(text, "- {name}: {}", escaped(value));
                }
            }
            Body::Table(of) => table(&mut text, of),
            Body::Steps(steps) => table(
                &mut text,
                &Table {
                    head: vec!["time", "what", "detail"],
                    rows: steps.iter().map(|step| step.to_vec()).collect(),
                    numbers: Vec::new(),
                    marked: None,
                    note: None,
                },
            ),
        }
    }
    let _ignored = write!(text, "\n{}", escaped(&page.foot));
    text
}

fn table(text: &mut String, table: &Table) {
    let head: Vec<String> = table.head.iter().map(|&title| title.to_owned()).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(|cell| escaped(cell)).collect()).collect();
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).chain(head.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let right = |at: usize| table.numbers.contains(&at);
    let mut line = |cells: &[String]| {
        for (at, width) in widths.iter().copied().enumerate() {
            let cell = cells.get(at).map_or("", String::as_str);
            let _ignored =
                if right(at) { write!(text, "| {cell:>width$} ") } else { write!(text, "| {cell:<width$} ") };
        }
        text.push_str("|\n");
    };
    line(&head);
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(at, width)| if right(at) { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(*width) })
        .collect();
    line(&rule);
    for row in &rows {
        line(row);
    }
    if let Some(note) = &table.note {
        let _ignored = write!(text, "\n{}\n", escaped(note));
    }
}

/// Text that stays text: what Markdown or HTML would take for markup has a backslash before it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        if matches!(c, '\\' | '|' | '<' | '`' | '*' | '[' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Section, Tone};

    #[test]
    fn tables_line_up_and_text_is_no_markup() {
        let page = Page {
            title: "bd-1".to_owned(),
            badge: Some(("exited_ok".to_owned(), Tone::Good)),
            lead: vec!["one\n<b>two</b>\u{1b}[31m".to_owned()],
            sections: vec![
                Section::facts("Facts", vec![("said", "a|b".to_owned()), ("nothing", "-".to_owned())]),
                Section {
                    title: "Table",
                    body: Body::Table(Table {
                        head: vec!["name", "n"],
                        rows: vec![
                            vec!["x`y`".to_owned(), "10".to_owned()],
                            vec!["z".to_owned(), "7".to_owned()],
                        ],
                        numbers: vec![1],
                        marked: None,
                        note: None,
                    }),
                },
                Section { title: "Empty", body: Body::Steps(Vec::new()) },
            ],
            foot: "end".to_owned(),
        };
        let expected = "\
# bd-1: exited_ok

one \\<b>two\\</b> \\[31m

## Facts

- said: a\\|b

## Table

| name   |   n |
| ------ | --: |
| x\\`y\\` |  10 |
| z      |   7 |

end";
        assert_eq!(render(&page), expected);
    }
}
