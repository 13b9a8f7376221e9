//! What the installed OpenCode lists, models and agents, cached by what could change it: the binary, its configuration and
//! the definitions. Asking takes seconds, so a cold start says so; it also lets OpenCode set up a fresh home once, before
//! jobs do it side by side.

use super::warm::Home;
use crate::error::EngineError;
use crate::prompt::sha256_hex;
use crate::providers::Wish;
use crate::providers::ask::{AskError, ask};
use dx_jobdir::disk;
use dx_protocol::ReasonCode;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of OpenCode's configuration.
const CONFIGS: [&str; 2] = ["opencode.json", "opencode.jsonc"];
/// Folders with definitions of agents, beside a configuration.
const DEFINITIONS: [&str; 4] = ["agent", "agents", "mode", "modes"];
/// A longer configuration or definition is not read to its end.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// No more entries of a folder of definitions count.
const MAX_DEFINITIONS: usize = 2000;
/// A list is asked for again after this, whatever it depends on.
const MOST_AGE: Duration = Duration::from_hours(24);
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
    listed(wish, binary, &MODELS, &fingerprint(wish, binary))
}

/// The agents that this OpenCode lists for this environment and worktree, each as `name (mode)`.
pub(super) fn agents(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    let text = fingerprint(wish, binary) + &definitions(wish);
    listed(wish, binary, &AGENTS, &text)
}

/// The list, from the cache for what it depends on.
fn listed(wish: &Wish<'_>, binary: &Path, list: &List, on: &str) -> Result<Vec<String>, EngineError> {
    let cache_dir = wish.state.cache_dir();
    disk::make_dir(&cache_dir)?;
    // Hashed: no value of the environment can be read back from the cache's name.
    let hash = sha256_hex(on.as_bytes());
    let cache = cache_dir.join(format!("opencode-{}-{}", list.word, &hash[..24]));
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
    let written = std::fs::metadata(cache).ok()?.modified().ok()?;
    // One from the future, by a clock that was set, is not known to be young.
    if written.elapsed().ok()? > age.unwrap_or(MOST_AGE) {
        return None;
    }
    let text = std::fs::read_to_string(cache).ok()?;
    let models: Vec<String> = text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    (!models.is_empty()).then_some(models)
}

/// What the list depends on: the binary's identity and every place OpenCode reads models or credentials from.
fn fingerprint(wish: &Wish<'_>, binary: &Path) -> String {
    let mut text = String::new();
    let mut file = |path: &Path| text += &stamped(path);
    let value = |name: &str| wish.env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    file(binary);
    let home = value("HOME").unwrap_or_default();
    let config = value("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let data = value("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
    for name in CONFIGS {
        file(&config.join("opencode").join(name));
    }
    file(&data.join("opencode/auth.json"));
    for name in ["OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR"] {
        if let Some(path) = value(name) {
            file(&path);
        }
    }
    // A project's own configuration counts by what it says: each job may have a worktree of its own.
    for folder in ["", ".opencode"] {
        for name in CONFIGS {
            let relative = Path::new(folder).join(name);
            if let Ok(content) = dx_jobdir::read_bounded(&wish.worktree.join(&relative), MAX_CONFIG_BYTES) {
                let _fits = writeln!(text, "{}={}", relative.display(), sha256_hex(&content));
            }
        }
    }
    for (name, value) in wish.env {
        let name = name.to_string_lossy();
        if name.starts_with("OPENCODE_") || name.ends_with("_API_KEY") {
            let _fits = writeln!(text, "{name}={}", value.to_string_lossy());
        }
    }
    text
}

/// The same for definitions of agents: a project's count by what they say, others by their files.
fn definitions(wish: &Wish<'_>) -> String {
    let value = |name: &str| wish.env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    let home = value("HOME").unwrap_or_default();
    let config = value("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let mut text = String::new();
    let bases = [Some(config.join("opencode")), Some(home.join(".opencode")), value("OPENCODE_CONFIG_DIR")];
    for base in bases.into_iter().flatten() {
        for file in DEFINITIONS.iter().flat_map(|folder| files_below(&base.join(folder))) {
            text += &stamped(&file);
        }
    }
    let project = wish.worktree.join(".opencode");
    for file in DEFINITIONS.iter().flat_map(|folder| files_below(&project.join(folder))) {
        if let Ok(content) = dx_jobdir::read_bounded(&file, MAX_CONFIG_BYTES) {
            let relative = file.strip_prefix(&project).unwrap_or(&file);
            let _fits = writeln!(text, "{}={}", relative.display(), sha256_hex(&content));
        }
    }
    text
}

/// All files below a folder, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders, mut seen) = (Vec::new(), vec![folder.to_owned()], 0);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MAX_DEFINITIONS {
                break;
            }
            // A link to a folder is not followed: it may lead round in a circle.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => files.push(entry.path()),
            }
        }
    }
    files.sort();
    files
}

/// A file's name with what changes when the file does.
fn stamped(path: &Path) -> String {
    let stamp = std::fs::metadata(path).map_or_else(
        |_| "-".to_owned(),
        |m| format!("{}:{}:{}:{}", m.dev(), m.ino(), m.size(), m.mtime() * 1_000_000_000 + m.mtime_nsec()),
    );
    format!("{}={stamp}\n", path.display())
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
