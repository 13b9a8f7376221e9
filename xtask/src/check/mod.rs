//! `cargo xtask check`: rules of the repository that neither the compiler nor clippy knows.
//!
//! For: keeping files small and headed, `unsafe` in one place, the supervisor light, links alive.
//! Called by: `main`, `test`. Each rule is one function over the list of files; `RULES` is the list.
//! Must never: change a file.

mod dependencies;
mod documents;
mod source;
mod sources;

use std::fs;
use std::path::PathBuf;

use crate::{Failure, truth, workspace};

/// One text file of the repository.
pub(crate) struct TextFile {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }
}

/// What a rule found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Each breaks the rule.
    pub(crate) errors: Vec<String>,
    /// Each is worth a look, none fails the check.
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    pub(crate) fn error(&mut self, message: impl Into<String>) {
        self.errors.push(message.into());
    }
}

type Rule = fn(&[TextFile]) -> Result<Findings, Failure>;

const RULES: &[(&str, Rule)] = &[
    ("source files are short", |files| Ok(sources::short(files))),
    ("source files say what they are for", |files| Ok(sources::headed(files))),
    ("unsafe code only where it is listed", |files| Ok(sources::unsafe_only_where_listed(files))),
    ("nothing unfinished, no test switched off", |files| Ok(sources::finished(files))),
    ("links between documents resolve", |files| Ok(documents::links(files))),
    ("the table of truth is that of its tests", |_| Ok(truth::findings())),
    ("no absolute path of somebody's machine", |files| Ok(documents::machine_paths(files))),
    ("lock files name no other registry", |files| Ok(dependencies::addresses(files))),
    ("few dependencies", |files| Ok(dependencies::few(files))),
    ("the monitor stays light", |_| dependencies::light_monitor()),
];

/// Runs every rule; the error counts what was found.
pub(crate) fn run() -> Result<(), Failure> {
    let files: Vec<TextFile> = workspace::files()?.into_iter().filter_map(read).collect();
    let mut broken = 0;
    for (name, rule) in RULES {
        let findings =
            rule(&files).unwrap_or_else(|failure| Findings { errors: vec![failure], warnings: vec![] });
        println!("   {} {name}", if findings.errors.is_empty() { "ok    " } else { "BROKEN" });
        for message in &findings.errors {
            println!("          {message}");
        }
        for message in &findings.warnings {
            println!("          warning: {message}");
        }
        broken += usize::from(!findings.errors.is_empty());
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} of {} rules broken", RULES.len())) }
}

/// Reads a file; nothing for what is not text.
fn read(path: PathBuf) -> Option<TextFile> {
    let text = fs::read_to_string(workspace::root().join(&path)).ok()?;
    Some(TextFile { path: path.into_os_string().into_string().ok()?, text })
}
