//! A page as one HTML file: no script, nothing from elsewhere, light or dark as the reader's system is.
//!
//! Called by: `report`. Must never: let text become markup, or name a resource.

use super::{Body, Page, Section, Table, Tone, one_line};
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The file.
pub(crate) fn render(page: &Page) -> String {
    let title = escaped(&page.title);
    // Writing to a String cannot fail.
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} · dx-runner</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}"
    );
    if let Some((word, tone)) = &page.badge {
        let _ignored = write!(html, " <span class=\"badge {}\">{}</span>", class(*tone), escaped(word));
    }
    html.push_str("</h1>\n");
    for line in &page.lead {
        let _ignored = writeln!(html, "<p>{}</p>", escaped(line));
    }
    html.push_str("</header>\n");
    for part in page.sections.iter().filter(|section| !section.is_empty()) {
        section(&mut html, part);
    }
    let _ignored = write!(html, "<footer>{}</footer>\n</main>\n</body>\n</html>", escaped(&page.foot));
    html
}

fn section(html: &mut String, section: &Section) {
    let wide = if matches!(section.body, Body::Facts(_)) { "" } else { " class=\"wide\"" };
    let _ignored = writeln!(html, "<section{wide}>\n<h2>{}</h2>", escaped(section.title));
    match &section.body {
        Body::Facts(facts) => {
            html.push_str("<dl>\n");
            for (name, value, tone) in facts {
                let _ignored = writeln!(
                    html,
                    "<dt>{}</dt><dd class=\"{}\">{}</dd>",
                    escaped(name),
                    class(*tone),
                    escaped(value)
                );
            }
            html.push_str("</dl>\n");
        }
        Body::Table(of) => table(html, of),
        Body::Steps(steps) => {
            html.push_str("<ol>\n");
            for [at, what, detail] in steps {
                let _ignored = writeln!(
                    html,
                    "<li><time>{}</time><b>{}</b><span>{}</span></li>",
                    escaped(at),
                    escaped(what),
                    escaped(detail)
                );
            }
            html.push_str("</ol>\n");
        }
    }
    html.push_str("</section>\n");
}

fn table(html: &mut String, table: &Table) {
    let number = |at: usize| if table.numbers.contains(&at) { " class=\"n\"" } else { "" };
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for (at, title) in table.head.iter().enumerate() {
        let _ignored = write!(html, "<th{}>{}</th>", number(at), escaped(title));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (row, cells) in table.rows.iter().enumerate() {
        html.push_str(if table.marked == Some(row) { "<tr class=\"marked\">" } else { "<tr>" });
        for (at, cell) in cells.iter().enumerate() {
            let _ignored = write!(html, "<td{}>{}</td>", number(at), escaped(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    if let Some(note) = &table.note {
        let _ignored = writeln!(html, "<p>{}</p>", escaped(note));
    }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Busy => "busy",
    }
}

/// Text that stays text, in elements and in attributes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere_and_text_is_no_markup() {
        let evil = "<script src=//x.invalid></script>\"'&".to_owned();
        let page = Page {
            title: evil.clone(),
            badge: Some((evil.clone(), Tone::Bad)),
            lead: vec![evil.clone()],
            sections: vec![
                Section::facts("Facts", vec![("said", evil.clone())]),
                Section {
                    title: "Steps",
                    body: Body::Steps(vec![[evil.clone(), evil.clone(), evil.clone()]]),
                },
                Section {
                    title: "Table",
                    body: Body::Table(Table {
                        head: vec!["a"],
                        rows: vec![vec![evil.clone()]],
                        numbers: vec![0],
                        marked: Some(0),
                        note: Some(evil.clone()),
                    }),
                },
            ],
            foot: evil,
        };
        let html = render(&page);
        assert!(!html.contains("<script") && !html.contains("&\n"), "{html}");
        for word in ["src=", "href=", "url(", "@import", "http://", "https://"] {
            // Only as text of the evil title.
            assert!(
                html.matches(word).count() == html.matches(&format!("&lt;script {word}")).count(),
                "{word}"
            );
        }
        // The title stands in the head and in the body.
        assert_eq!(html.matches("&lt;script").count(), 11);
    }
}
