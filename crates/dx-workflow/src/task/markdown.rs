//! Just enough of Markdown: sections with their lines, list items, tables. Text in fenced blocks has no headings.
//!
//! Must never: panic, whatever the text.

/// A section of the second level; those of the third belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    /// Of its heading, counted from 1.
    pub line: usize,
    /// Lines below the heading, each with its number.
    pub lines: Vec<(usize, String)>,
}

/// Sections of a text, and the lines before the first.
pub(crate) fn sections(text: &str) -> (Vec<(usize, String)>, Vec<Section>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut head, mut sections): (Vec<(usize, String)>, Vec<Section>) = (Vec::new(), Vec::new());
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if let Some(title) = line.strip_prefix("## ").filter(|_| !fenced) {
            let title = title.trim().trim_end_matches('#').trim().to_owned();
            sections.push(Section { title, line: index + 1, lines: Vec::new() });
        } else {
            let lines = sections.last_mut().map_or(&mut head, |section| &mut section.lines);
            lines.push((index + 1, line.to_owned()));
        }
    }
    (head, sections)
}

impl Section {
    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(|(_, line)| line.trim().is_empty())
    }

    /// The lines below a heading of the third level, with its own line; `None` when there is none.
    pub(crate) fn below(&self, title: &str) -> Option<(usize, Vec<(usize, String)>)> {
        let is = |line: &str| line.strip_prefix("### ").is_some_and(|text| same(text, title));
        let at = self.lines.iter().position(|(_, line)| is(line))?;
        let rest = &self.lines[at + 1..];
        let end = rest.iter().position(|(_, line)| line.starts_with("### ")).unwrap_or(rest.len());
        Some((self.lines[at].0, rest[..end].to_vec()))
    }
}

/// Titles are the same without regard to case and spaces.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let plain = |text: &str| {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    plain(a) == plain(b)
}

/// Items of a list, bare or between backticks, numbered or not; other lines that say something as `Err`.
pub(crate) fn items(lines: &[(usize, String)]) -> Vec<(usize, Result<String, String>)> {
    let mut fenced = false;
    let mut items = Vec::new();
    for (number, line) in lines {
        let text = line.trim();
        if text.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let item = text.strip_prefix("- ").or_else(|| text.strip_prefix("* ")).or_else(|| numbered(text));
        match item {
            Some(item) => items.push((*number, Ok(bare(item)))),
            None if fenced => items.push((*number, Ok(text.to_owned()))),
            None => items.push((*number, Err(text.to_owned()))),
        }
    }
    items
}

fn numbered(text: &str) -> Option<&str> {
    let (digits, rest) = text.split_once(['.', ')'])?;
    let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    rest.strip_prefix(' ').filter(|_| fine)
}

/// What is between backticks when an item is nothing else.
pub(crate) fn bare(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
    inner.filter(|inner| !inner.contains('`')).unwrap_or(text).trim().to_owned()
}

/// Rows of the first table, cells trimmed; the first row is the head, and the line below it is left out.
pub(crate) fn table(lines: &[(usize, String)]) -> Vec<(usize, Vec<String>)> {
    let rows = lines.iter().skip_while(|(_, line)| !line.trim_start().starts_with('|'));
    let rows = rows.take_while(|(_, line)| line.trim_start().starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(bare).collect::<Vec<String>>()
    };
    let is_rule = |cells: &[String]| {
        cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':')))
    };
    rows.map(|(number, line)| (*number, cells(line))).filter(|(_, cells)| !is_rule(cells)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_in_fences_are_none() {
        let (head, sections) = sections("# T\nSpec: x\n## A\n- a\n```\n## no\n```\n### S\n1. `b`\n## B ##\n");
        assert_eq!(head[1], (2, "Spec: x".to_owned()));
        let titles: Vec<_> = sections.iter().map(|s| (s.title.as_str(), s.line)).collect();
        assert_eq!(titles, [("A", 3), ("B", 10)]);
        assert_eq!(sections[0].below("s"), Some((8, vec![(9, "1. `b`".to_owned())])));
        assert_eq!(items(&sections[0].below("S").unwrap().1), [(9, Ok("b".to_owned()))]);
        assert!(sections[1].is_empty());
    }

    #[test]
    fn tables_are_read() {
        let lines = |text: &str| sections(&format!("## A\n{text}")).1.remove(0).lines;
        let table = table(&lines("x\n| # | Unit |\n|---|:-:|\n| 1 | `a` |\nend\n| 2 | b |\n"));
        assert_eq!(
            table,
            [(3, vec!["#".to_owned(), "Unit".to_owned()]), (5, vec!["1".to_owned(), "a".to_owned()])]
        );
    }
}
