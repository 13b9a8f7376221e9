//! A page for people, in parts that Markdown and HTML both can show.
//!
//! Called by: `report`. Must never: hold markup; what comes from an agent or a file is text to both writers.

pub(crate) mod all_page;
pub(crate) mod html;
pub(crate) mod job_page;
pub(crate) mod markdown;

/// How a word is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing to say about it.
    Plain,
    Good,
    Bad,
    /// Neither: it goes on, or a person should look.
    Busy,
}

/// The whole page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// One word on the whole.
    pub(crate) badge: Option<(String, Tone)>,
    /// A sentence or two below the title.
    pub(crate) lead: Vec<String>,
    pub(crate) sections: Vec<Section>,
    pub(crate) foot: String,
}

/// A titled part.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) body: Body,
}

/// What a part shows.
#[derive(Debug)]
pub(crate) enum Body {
    /// Names and values.
    Facts(Vec<(&'static str, String, Tone)>),
    Table(Table),
    /// Time, what, and more about it.
    Steps(Vec<[String; 3]>),
}

/// Rows below a head.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// Columns that hold numbers, by position: aligned to the right.
    pub(crate) numbers: Vec<usize>,
    /// A row that stands out.
    pub(crate) marked: Option<usize>,
    /// Below the table.
    pub(crate) note: Option<String>,
}

impl Section {
    /// Names and values; those that say nothing are left out.
    pub(crate) fn facts(title: &'static str, facts: Vec<(&'static str, String)>) -> Self {
        let said = facts.into_iter().filter(|(_, value)| !matches!(value.as_str(), "" | "-"));
        Self { title, body: Body::Facts(said.map(|(name, value)| (name, value, Tone::Plain)).collect()) }
    }

    fn is_empty(&self) -> bool {
        match &self.body {
            Body::Facts(facts) => facts.is_empty(),
            Body::Table(table) => table.rows.is_empty(),
            Body::Steps(steps) => steps.is_empty(),
        }
    }
}

/// Text on one line without control characters: a terminal and a table have to bear it.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
