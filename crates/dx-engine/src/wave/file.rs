//! Reading a wave file: every key known, every value with its place, all mistakes told at once.
//!
//! Called by: `check`. Must never: look at anything but the text.

use crate::settings::Place;
use std::cell::RefCell;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Nobody writes more by hand.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// One mistake, where it is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    pub what: String,
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a file there is no line.
        if self.place.file != "-" {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// All mistakes of a wave file, in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveFileError(pub Vec<Problem>);

impl fmt::Display for WaveFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for WaveFileError {}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// What `[defaults]` and items have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    pub(super) provider: Option<At<String>>,
    pub(super) model: Option<At<String>>,
    pub(super) profile: Option<At<String>>,
    pub(super) command: Option<At<Vec<String>>>,
    pub(super) sandbox: Option<At<String>>,
    pub(super) scope: Option<At<Vec<String>>>,
    pub(super) check: Option<At<String>>,
    pub(super) require_commit: Option<At<bool>>,
    pub(super) review: Option<At<Review>>,
    pub(super) max_attempts: Option<At<u32>>,
}

/// `review = { … }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Review {
    pub(super) provider: Option<At<String>>,
    pub(super) prompt_file: Option<At<String>>,
    pub(super) model: Option<At<String>>,
    pub(super) profile: Option<At<String>>,
    pub(super) command: Option<At<Vec<String>>>,
}

/// One `[[item]]`.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) id: Option<At<String>>,
    pub(super) prompt: Option<At<String>>,
    pub(super) prompt_file: Option<At<String>>,
    pub(super) needs: Vec<At<String>>,
    pub(super) work: Work,
}

/// The whole file.
#[derive(Debug, Clone, Default)]
pub(super) struct WaveFile {
    pub(super) name: Option<At<String>>,
    pub(super) repo: Option<At<String>>,
    pub(super) base: Option<At<String>>,
    pub(super) max_parallel: Option<At<u32>>,
    pub(super) provider: Option<At<String>>,
    pub(super) fallback: Option<At<Vec<String>>>,
    pub(super) max_attempts: Option<At<u32>>,
    pub(super) fail_fast: Option<At<bool>>,
    pub(super) merge_into: Option<At<String>>,
    pub(super) defaults: Work,
    pub(super) items: Vec<Item>,
}

const TOP: [&str; 3] = ["wave", "defaults", "item"];
const WAVE: [&str; 9] = [
    "name",
    "repo",
    "base",
    "max_parallel",
    "provider",
    "fallback",
    "max_attempts",
    "fail_fast",
    "merge_into",
];
const WORK: [&str; 10] = [
    "provider",
    "model",
    "profile",
    "command",
    "sandbox",
    "scope",
    "check",
    "require_commit",
    "review",
    "max_attempts",
];
const ITEM: [&str; 4] = ["id", "prompt", "prompt_file", "needs"];
const REVIEW: [&str; 5] = ["provider", "prompt_file", "model", "profile", "command"];

/// Takes a file's text apart; `file` is its name for people. Mistakes are pushed, and reading goes on; `None` when it is no
/// TOML.
pub(super) fn parse(text: &str, file: &str, problems: &mut Vec<Problem>) -> Option<WaveFile> {
    let reader = Reader { text, file, problems: RefCell::new(Vec::new()) };
    let wave = match DeTable::parse(text) {
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            reader.push(reader.place(at), error.message().to_owned(), "mend the TOML".to_owned());
            None
        }
        Ok(table) => {
            let mut wave = WaveFile::default();
            reader.whole(table.get_ref(), &mut wave);
            Some(wave)
        }
    };
    problems.append(&mut reader.problems.into_inner());
    wave
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    problems: RefCell<Vec<Problem>>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn place(&self, at: usize) -> Place {
        Place::in_text(self.file, self.text, at)
    }

    fn push(&self, place: Place, what: String, fix: String) {
        self.problems.borrow_mut().push(Problem { place, what, fix });
    }

    fn whole(&self, table: &DeTable<'_>, wave: &mut WaveFile) {
        self.known(table, "", &[&TOP]);
        if let Some(table) = self.table(table, "wave") {
            self.known(table, "wave.", &[&WAVE]);
            wave.name = self.text(table, "name");
            wave.repo = self.text(table, "repo");
            wave.base = self.text(table, "base");
            wave.max_parallel = self.number(table, "max_parallel");
            wave.provider = self.text(table, "provider");
            wave.fallback = self.list(table, "fallback").map(plain);
            wave.max_attempts = self.number(table, "max_attempts");
            wave.fail_fast = self.flag(table, "fail_fast");
            wave.merge_into = self.text(table, "merge_into");
        }
        if let Some(table) = self.table(table, "defaults") {
            self.known(table, "defaults.", &[&WORK]);
            wave.defaults = self.work(table);
        }
        let Some((place, value)) = self.value(table, "item") else { return };
        let DeValue::Array(items) = value.get_ref() else {
            return self.push(place, "`item` is no list of tables".to_owned(), "write [[item]]".to_owned());
        };
        for item in items {
            let DeValue::Table(table) = item.get_ref() else {
                self.push(place.clone(), "an item is no table".to_owned(), "write [[item]]".to_owned());
                continue;
            };
            self.known(table, "item.", &[&ITEM, &WORK]);
            let id = self.text(table, "id");
            wave.items.push(Item {
                place: id.as_ref().map_or_else(|| self.place(item.span().start), |id| id.place.clone()),
                id,
                prompt: self.text(table, "prompt"),
                prompt_file: self.text(table, "prompt_file"),
                needs: self.list(table, "needs").map(|list| list.value).unwrap_or_default(),
                work: self.work(table),
            });
        }
        // In the order in which they stand.
        wave.items.sort_by(|a, b| a.place.cmp(&b.place));
    }

    fn work(&self, table: &DeTable<'_>) -> Work {
        Work {
            provider: self.text(table, "provider"),
            model: self.text(table, "model"),
            profile: self.text(table, "profile"),
            command: self.list(table, "command").map(plain),
            sandbox: self.text(table, "sandbox"),
            scope: self.list(table, "scope").map(plain),
            check: self.text(table, "check"),
            require_commit: self.flag(table, "require_commit"),
            review: self.review(table),
            max_attempts: self.number(table, "max_attempts"),
        }
    }

    fn review(&self, table: &DeTable<'_>) -> Option<At<Review>> {
        let (place, _) = self.value(table, "review")?;
        let table = self.table(table, "review")?;
        self.known(table, "review.", &[&REVIEW]);
        let value = Review {
            provider: self.text(table, "provider"),
            prompt_file: self.text(table, "prompt_file"),
            model: self.text(table, "model"),
            profile: self.text(table, "profile"),
            command: self.list(table, "command").map(plain),
        };
        Some(At { value, place })
    }

    /// Tells keys that mean nothing here, with the known one that looks most like it.
    fn known(&self, table: &DeTable<'_>, above: &str, known: &[&[&str]]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            let all = || known.iter().copied().flatten().copied();
            if all().any(|known| known == name) {
                continue;
            }
            let score = |known: &&str| strsim::jaro_winkler(known, name);
            let near = all().max_by(|a, b| score(a).total_cmp(&score(b))).filter(|n| score(n) > 0.8);
            let fix = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys here: {}", all().collect::<Vec<_>>().join(", ")),
            };
            self.push(self.place(key.span().start), format!("unknown key `{above}{name}`"), fix);
        }
    }

    fn value<'t, 'i>(&self, table: &'t DeTable<'i>, name: &str) -> Option<(Place, &'t Value<'i>)> {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref().as_ref() == name)?;
        Some((self.place(key.span().start), value))
    }

    fn typed<'t, 'i, T>(
        &self,
        table: &'t DeTable<'i>,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&'t DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let (place, value) = self.value(table, name)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.push(place.clone(), format!("`{name}` is not {wanted}"), format!("make it {wanted}"));
        }
        found.map(|value| At { value, place })
    }

    fn table<'t, 'i>(&self, table: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
        let found = self.typed(table, name, "a table", |value| match value {
            DeValue::Table(table) => Some(table),
            _ => None,
        });
        found.map(|at| at.value)
    }

    fn text(&self, table: &DeTable<'_>, name: &str) -> Option<At<String>> {
        self.typed(table, name, "a text that is not empty", |value| match value {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => None,
        })
    }

    fn flag(&self, table: &DeTable<'_>, name: &str) -> Option<At<bool>> {
        self.typed(table, name, "true or false", |value| match value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => None,
        })
    }

    fn number(&self, table: &DeTable<'_>, name: &str) -> Option<At<u32>> {
        self.typed(table, name, "a whole number from 1 to 10000", |value| match value {
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
                u32::try_from(number).ok().filter(|n| (1..=10_000).contains(n))
            }
            _ => None,
        })
    }

    /// A list of texts, each with its place.
    fn list(&self, table: &DeTable<'_>, name: &str) -> Option<At<Vec<At<String>>>> {
        self.typed(table, name, "a list of texts", |value| match value {
            DeValue::Array(list) => list
                .iter()
                .map(|entry| match entry.get_ref() {
                    DeValue::String(text) => {
                        Some(At { value: text.to_string(), place: self.place(entry.span().start) })
                    }
                    _ => None,
                })
                .collect(),
            _ => None,
        })
    }
}

fn plain(list: At<Vec<At<String>>>) -> At<Vec<String>> {
    At { value: list.value.into_iter().map(|entry| entry.value).collect(), place: list.place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(text, "w.toml", &mut problems);
        problems.sort();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn mistakes_are_told_all_at_once_with_their_lines() {
        let text = "[wave]\nname = \"w\"\nmax_paralel = 2\nfail_fast = 1\n\n[[item]]\nid = \"a\"\nneed = []\n\n[[item]]\nid = \"b\"\nneeds = [1]\nreview = { providr = \"x\" }\nscope = \"src\"\nmax_attempts = 0\n[extra]\n";
        assert_eq!(
            told(text),
            [
                "w.toml:3:1: unknown key `wave.max_paralel`; did you mean `max_parallel`?",
                "w.toml:4:1: `fail_fast` is not true or false; make it true or false",
                "w.toml:8:1: unknown key `item.need`; did you mean `needs`?",
                "w.toml:12:1: `needs` is not a list of texts; make it a list of texts",
                "w.toml:13:12: unknown key `review.providr`; did you mean `provider`?",
                "w.toml:14:1: `scope` is not a list of texts; make it a list of texts",
                "w.toml:15:1: `max_attempts` is not a whole number from 1 to 10000; make it a whole number from 1 to 10000",
                "w.toml:16:2: unknown key `extra`; known keys here: wave, defaults, item",
            ]
        );
        assert!(told("[wave\n")[0].starts_with("w.toml:1:"));
        assert_eq!(told("[wave]\nname = \"w\"\n[[item]]\nid = \"a\"\nprompt = \"x\"\n"), [""; 0]);
    }

    #[test]
    fn items_come_in_their_order_with_what_they_say() {
        let text = "[[item]]\nid = \"z\"\nprompt = \"x\"\n[[item]]\nid = \"a\"\nneeds = [\"z\"]\ncommand = [\"make\", \"a\"]\n";
        let mut problems = Vec::new();
        let wave = parse(text, "w.toml", &mut problems).unwrap();
        let ids: Vec<&str> = wave.items.iter().map(|item| item.id.as_ref().unwrap().value.as_str()).collect();
        assert_eq!((ids, problems), (vec!["z", "a"], Vec::new()));
        assert_eq!(wave.items[1].needs[0].place.line, 6);
        assert_eq!(wave.items[1].work.command.as_ref().unwrap().value, ["make", "a"]);
    }
}
