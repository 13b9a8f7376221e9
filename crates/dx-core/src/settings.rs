//! How the layers of configuration become one value, and who may say what.
//!
//! A setting has words: what each layer says of it. Most settings are taken from the highest layer that speaks. Limits and
//! permissions are governed: what a project or a profile says of them only tightens, and holds against everything above it,
//! unless the user's own file allows more. A word is the user's own when it comes from the built-in default, the user's
//! file, a profile of the user or of the program, the environment or the command line; words of the project's files are
//! not.
//!
//! Called by: the engine, with words it has read. Must never: read a file, a variable or a clock.

use std::fmt;

/// Where a word comes from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    Default,
    User,
    Project,
    Profile,
    Environment,
    Flag,
}

impl Layer {
    /// All, in the order of their weight.
    pub const ALL: [Self; 6] =
        [Self::Default, Self::User, Self::Project, Self::Profile, Self::Environment, Self::Flag];

    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::User => "user",
            Self::Project => "project",
            Self::Profile => "profile",
            Self::Environment => "environment",
            Self::Flag => "flag",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    /// A count, bytes, or milliseconds.
    Number(u64),
    Text(String),
    List(Vec<String>),
}

/// How looseness is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// A smaller number is tighter.
    Number,
    /// The same, and 0 means no limit.
    NumberOrNever,
    /// `true` permits.
    TruePermits,
    /// `true` demands.
    TrueDemands,
    /// Words, loosest first.
    Words(&'static [&'static str]),
}

impl Scale {
    /// 0 is the tightest.
    pub fn looseness(self, value: &Value) -> u64 {
        match (self, value) {
            (Self::NumberOrNever, Value::Number(0)) => u64::MAX,
            (Self::Number | Self::NumberOrNever, Value::Number(n)) => *n,
            (Self::TruePermits, Value::Bool(on)) => u64::from(*on),
            (Self::TrueDemands, Value::Bool(on)) => u64::from(!*on),
            (Self::Words(words), Value::Text(word)) => {
                words.iter().rev().position(|w| w == word).map_or(u64::MAX, |at| at as u64)
            }
            // A value of another kind never gets here; were it to, it would count as the loosest.
            _ => u64::MAX,
        }
    }
}

/// How the words of one setting become a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The highest layer counts.
    Replace,
    /// Governed: projects and profiles tighten only.
    Tighten(Scale),
    /// A governed list that permits: the user's own words add up, others' entries count where the user allows them.
    Grant,
    /// The same for entries `NAME` or `NAME=VALUE`: the user allows names, and the highest word on a name counts.
    GrantNames,
    /// Demands and prohibitions: what every layer says must hold, so that each only adds. The value shows all of it.
    Add,
    /// A governed list of what may be chosen: the highest of the user's own words counts, projects and profiles only take
    /// away.
    Narrow,
}

impl Rule {
    /// Whether `[allow]` of the user's file may speak of it.
    ///
    /// What only adds cannot be loosened by anybody, and needs no bound.
    pub fn is_governed(self) -> bool {
        !matches!(self, Self::Replace | Self::Add)
    }

    /// The published word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Tighten(_) => "tighten",
            Self::Grant | Self::GrantNames => "grant",
            Self::Narrow => "narrow",
            Self::Add => "add",
        }
    }
}

/// What one layer says of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub layer: Layer,
    /// Whether the user said it (or we), and not the project.
    pub own: bool,
    pub value: Value,
}

/// What became of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is the value, or its entries are in it.
    Counts,
    /// A higher layer said something else.
    Overridden,
    /// It would have loosened what this word (by its place in the list) says.
    Looser(usize),
    /// It is beyond what the user's file allows, and a higher layer said something else.
    BeyondAllowed,
    /// It is beyond what the user's file allows, and counts as far as that goes.
    CutToAllowed,
    /// These entries of its list are not allowed; the others count.
    Partly(Vec<String>),
}

/// The value of a setting and what became of each word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// `None` when nobody says anything.
    pub value: Option<Value>,
    /// The word that decided, by its place in the list; `None` where nobody did, or the user's `[allow]` did.
    pub from: Option<usize>,
    /// One for each word, in their order.
    pub fates: Vec<Fate>,
}

/// Merges. The words' order in the list does not matter, but a layer that speaks twice is taken by its last word (for
/// [`Rule::Replace`]). `allow` is what the user's file allows everybody, at most.
pub fn merge(rule: Rule, words: &[Word], allow: Option<&Value>) -> Merged {
    match rule {
        Rule::Replace => replace(words),
        Rule::Tighten(scale) => tighten(scale, words, allow),
        Rule::Grant => grant(words, list(allow), |entry| entry),
        Rule::GrantNames => grant(words, list(allow), name_of),
        Rule::Narrow => narrow(words, allow),
        Rule::Add => all(words),
    }
}

/// The last of the highest words that `counts`.
fn highest(words: &[Word], counts: impl Fn(&Word) -> bool) -> Option<usize> {
    (0..words.len()).filter(|at| counts(&words[*at])).max_by_key(|at| (words[*at].layer, *at))
}

fn replace(words: &[Word]) -> Merged {
    let from = highest(words, |_| true);
    let fate = |at| if Some(at) == from { Fate::Counts } else { Fate::Overridden };
    Merged {
        value: from.map(|at| words[at].value.clone()),
        from,
        fates: (0..words.len()).map(fate).collect(),
    }
}

/// Whether this word holds whatever stands above it.
fn holds(word: &Word) -> bool {
    matches!(word.layer, Layer::Project | Layer::Profile)
}

fn tighten(scale: Scale, words: &[Word], allow: Option<&Value>) -> Merged {
    let loose = |at: usize| scale.looseness(&words[at].value);
    if let Some(bound) = allow {
        // The user has said how far everybody may go: up to there the highest layer counts.
        let beyond = |at: usize| loose(at) > scale.looseness(bound);
        let mut merged = replace(words);
        for (at, fate) in merged.fates.iter_mut().enumerate() {
            if beyond(at) {
                *fate = Fate::BeyondAllowed;
            }
        }
        if let Some(from) = merged.from.filter(|at| beyond(*at)) {
            merged.value = Some(bound.clone());
            merged.from = None;
            merged.fates[from] = Fate::CutToAllowed;
        }
        return merged;
    }
    // The user's own highest word, and everything that holds.
    let own = highest(words, |word| word.own);
    let holders = (0..words.len()).filter(|at| holds(&words[*at]));
    let tightest =
        |a: &usize, b: &usize| loose(*a).cmp(&loose(*b)).then(words[*a].layer.cmp(&words[*b].layer));
    let held = holders.min_by(tightest);
    let from = match (own, held) {
        (Some(own), Some(held)) => Some(if loose(held) < loose(own) { held } else { own }),
        // Nothing is loosened where nothing was said.
        (own, held) => own.or(held),
    };
    // What lies below a word that holds is not refused, it is overridden.
    let wished = |at: usize| holds(&words[at]) || (Some(at) == own && words[at].layer > Layer::Profile);
    let fate = |at: usize| match from {
        Some(from) if at == from => Fate::Counts,
        Some(from) if wished(at) && loose(at) > loose(from) => Fate::Looser(from),
        _ => Fate::Overridden,
    };
    Merged {
        value: from.map(|at| words[at].value.clone()),
        from,
        fates: (0..words.len()).map(fate).collect(),
    }
}

fn list(value: Option<&Value>) -> &[String] {
    match value {
        Some(Value::List(entries)) => entries,
        _ => &[],
    }
}

/// Indexes in the order of their layers.
fn by_layer(words: &[Word]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.sort_by_key(|at| words[*at].layer);
    order
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

/// `id` is what makes two entries the same, and what the user allows.
fn grant(words: &[Word], allow: &[String], id: fn(&str) -> &str) -> Merged {
    let mut fates = vec![Fate::Counts; words.len()];
    let mut entries: Vec<String> = Vec::new();
    let mut from = None;
    for at in by_layer(words) {
        let word = &words[at];
        let mut refused = Vec::new();
        for entry in list(Some(&word.value)) {
            if !word.own && !allow.iter().any(|allowed| allowed == id(entry)) {
                refused.push(entry.clone());
            } else if !entries.contains(entry) {
                entries.retain(|known| id(known) != id(entry));
                entries.push(entry.clone());
                from = Some(at);
            }
        }
        if !refused.is_empty() {
            fates[at] = Fate::Partly(refused);
        }
    }
    Merged { value: (!words.is_empty()).then_some(Value::List(entries)), from, fates }
}

/// Everything that anybody says, lowest layer first, each entry once. One text alone stays a text.
fn all(words: &[Word]) -> Merged {
    let mut entries: Vec<String> = Vec::new();
    let mut from = None;
    for at in by_layer(words) {
        let said = match &words[at].value {
            Value::Text(text) => std::slice::from_ref(text),
            value => list(Some(value)),
        };
        for entry in said {
            if !entries.contains(entry) {
                entries.push(entry.clone());
                from = Some(at);
            }
        }
    }
    let value = match (words.iter().any(|word| matches!(word.value, Value::Text(_))), entries.as_slice()) {
        (true, [text]) => Value::Text(text.clone()),
        _ => Value::List(entries),
    };
    Merged { value: (!words.is_empty()).then_some(value), from, fates: vec![Fate::Counts; words.len()] }
}

fn narrow(words: &[Word], allow: Option<&Value>) -> Merged {
    let own = highest(words, |word| word.own);
    // When nobody of our own says anything, everything may be chosen, and the first who does takes away from that.
    let mut entries: Option<Vec<String>> = own.map(|at| list(Some(&words[at].value)).to_vec());
    let allowed = list(allow);
    let mut fates = vec![Fate::Overridden; words.len()];
    let mut from = own;
    if let Some(own) = own {
        fates[own] = Fate::Counts;
    }
    let is_base = |word: &Word| own.is_some_and(|own| word.own && word.layer == words[own].layer);
    for at in by_layer(words).into_iter().filter(|at| holds(&words[*at]) && !is_base(&words[*at])) {
        let wanted = list(Some(&words[at].value));
        let may = |entry: &&String| {
            entries.as_ref().is_none_or(|entries| entries.contains(entry)) || allowed.contains(entry)
        };
        let (kept, refused): (Vec<&String>, Vec<&String>) = wanted.iter().partition(may);
        let kept: Vec<String> = kept.into_iter().cloned().collect();
        if entries.as_ref() != Some(&kept) {
            from = Some(at);
        }
        fates[at] = if refused.is_empty() {
            Fate::Counts
        } else {
            Fate::Partly(refused.into_iter().cloned().collect())
        };
        entries = Some(kept);
    }
    Merged { value: entries.map(Value::List), from, fates }
}
