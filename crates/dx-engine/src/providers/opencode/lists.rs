//! What the installed OpenCode lists, models and agents, cached by what could change it: the binary, its configuration and
//! the definitions. Asking takes seconds, so a cold start says so; it also lets OpenCode set up a fresh home once, before
//! jobs do it side by side.

use super::warm::Home;
use crate::error::EngineError;
use crate::providers::Wish;
use crate::providers::ask::{AskError, ask};
use crate::providers::remembered::{Grounds, recall, stamped};
use dx_jobdir::disk;
use dx_protocol::ReasonCode;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of OpenCode's configuration.
const CONFIGS: [&str; 2] = ["opencode.json", "opencode.jsonc"];
/// Folders with definitions of agents, beside a configuration.
const DEFINITIONS: [&str; 4] = ["agent", "agents", "mode", "modes"];
/// A question is given up after this.
const DEADLINE: Duration = Duration::from_secs(90);

/// One of its lists.
struct List {
    word: &'static str,
    args: &'static [&'static str],
    failed: ReasonCode,
    is_entry: fn(&str) -> bool,
}

const MODELS: List = List {
    word: "models",
    args: &["models"],
    failed: ReasonCode::OpencodeModelsFailed,
    is_entry: |line| {
        line.split_once('/').is_some_and(|(p, m)| !p.is_empty() && !m.is_empty() && !line.contains(' '))
    },
};

/// `name (mode)`, and below each the rules for it.
const AGENTS: List = List {
    word: "agents",
    args: &["agent", "list"],
    failed: ReasonCode::OpencodeAgentsFailed,
    is_entry: |line| {
        ["primary", "subagent", "all"].iter().any(|mode| {
            line.strip_suffix(')').and_then(|l| l.strip_suffix(mode)).is_some_and(|l| l.ends_with(" ("))
        })
    },
};

/// The models that this OpenCode lists for this environment.
pub(super) fn models(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    listed(wish, binary, &MODELS, &grounds(wish, binary))
}

/// The agents that this OpenCode lists for this environment and worktree, each as `name (mode)`.
pub(super) fn agents(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    let mut grounds = grounds(wish, binary);
    definitions(wish, &mut grounds);
    listed(wish, binary, &AGENTS, &grounds)
}

/// The list, from the cache for what it depends on.
fn listed(wish: &Wish<'_>, binary: &Path, list: &List, on: &Grounds) -> Result<Vec<String>, EngineError> {
    let cache_dir = wish.state.cache_dir();
    disk::make_dir(&cache_dir)?;
    let cache = on.place(&cache_dir, &format!("opencode-{}", list.word));
    let home = Home::of(wish, &cache_dir, &stamped(binary));
    let known = || if home.is_warm() { read(&cache, wish.list_age) } else { None };
    if let Some(entries) = known() {
        return Ok(entries);
    }
    (wish.progress)(&format!("asking OpenCode for its {}, once per binary and configuration …", list.word));
    // The first question sets up a fresh home.
    let setup = home.lock()?;
    if let Some(entries) = known() {
        return Ok(entries);
    }
    let entries = {
        let _with_the_program = setup.hand_down()?;
        question(wish, binary, list)?
    };
    disk::replace(&cache, entries.join("\n").as_bytes())?;
    home.set_warm()?;
    Ok(entries)
}

fn read(cache: &Path, age: Option<Duration>) -> Option<Vec<String>> {
    let text = recall(cache, age)?;
    let entries: Vec<String> = text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    (!entries.is_empty()).then_some(entries)
}

/// The binary's identity and every place OpenCode reads models or credentials from.
fn grounds(wish: &Wish<'_>, binary: &Path) -> Grounds {
    let mut grounds = Grounds::default();
    let value = |name: &str| wish.env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    grounds.file(binary);
    let home = value("HOME").unwrap_or_default();
    let config = value("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let data = value("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
    for name in CONFIGS {
        grounds.file(&config.join("opencode").join(name));
    }
    grounds.file(&data.join("opencode/auth.json"));
    for name in ["OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR"] {
        if let Some(path) = value(name) {
            grounds.file(&path);
        }
    }
    for folder in ["", ".opencode"] {
        for name in CONFIGS {
            grounds.content(wish.worktree, &Path::new(folder).join(name));
        }
    }
    grounds.variables(wish, |name| name.starts_with("OPENCODE_") || name.ends_with("_API_KEY"));
    grounds
}

/// The same for definitions of agents.
fn definitions(wish: &Wish<'_>, grounds: &mut Grounds) {
    let value = |name: &str| wish.env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    let home = value("HOME").unwrap_or_default();
    let config = value("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let bases = [Some(config.join("opencode")), Some(home.join(".opencode")), value("OPENCODE_CONFIG_DIR")];
    for base in bases.into_iter().flatten() {
        for folder in DEFINITIONS {
            grounds.folder(&base.join(folder));
        }
    }
    for folder in DEFINITIONS {
        grounds.contents(wish.worktree, &Path::new(".opencode").join(folder));
    }
}

fn question(wish: &Wish<'_>, binary: &Path, list: &List) -> Result<Vec<String>, EngineError> {
    let failed = |message: String| EngineError::Provider {
        reason: list.failed,
        message: format!("`opencode {}` {message}", list.args.join(" ")),
        next_action: None,
    };
    let answer = match ask(wish, binary, list.args, &super::headless(), DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(message)) => return Err(failed(message)),
    };
    let lines = answer.stdout.lines().map(str::trim_end);
    let entries: Vec<String> = lines
        .filter(|line| !line.starts_with(char::is_whitespace) && (list.is_entry)(line))
        .map(str::to_owned)
        .collect();
    if !answer.status.success() || entries.is_empty() {
        let (status, count) = (answer.status, entries.len());
        return Err(failed(format!("ended with {status} and listed {count} {}", list.word)));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_from_what_is_between_them() {
        for line in ["build (primary)", "my reviewer (all)", "explore (subagent)"] {
            assert!((AGENTS.is_entry)(line), "{line}");
        }
        for line in ["[", "}", "build", "(primary)", "name (other)"] {
            assert!(!(AGENTS.is_entry)(line), "{line}");
        }
        assert!((MODELS.is_entry)("a/b/c") && !(MODELS.is_entry)("a/") && !(MODELS.is_entry)("see a/b"));
    }
}
