//! Reading one configuration file: safely, bounded, every key known, every value with its place.
//!
//! Called by: the layers, and profiles. Must never: follow a link out of a project, or take a key that has no effect.

use super::error::{Place, SettingsError};
use super::table::{self, Files, Setting};
use crate::providers::{Provider, Providers, manifest};
use dx_core::settings::Value;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Nobody writes more by hand.
const MAX_BYTES: u64 = 256 << 10;

/// The table of providers that are only configured.
const PROVIDERS: &str = "providers";

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Below the user's own configuration folder, or named by the user. May be a link: people keep such files in a
    /// repository of their own.
    User,
    /// From a project: it may say less, and is never a link.
    Project,
}

/// What may stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    User,
    Project,
    Profile,
}

/// One key with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The full key.
    pub(crate) key: String,
    pub(crate) setting: &'static Setting,
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// What a file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) entries: Vec<Entry>,
    /// `[allow]` of the user's file.
    pub(crate) allow: Vec<Entry>,
    /// `[providers]` of the user's file.
    pub(crate) providers: Vec<Provider>,
    /// Of a profile.
    pub(crate) description: Option<String>,
}

/// The file's text; `None` when there is no such file.
pub(crate) fn read(path: &Path, owner: Owner) -> Result<Option<String>, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
    let refuse = |why: &str, next_action: &str| SettingsError::Unsafe {
        path: path.to_owned(),
        why: why.to_owned(),
        next_action: next_action.to_owned(),
    };
    let follow = if owner == Owner::Project { OFlags::NOFOLLOW } else { OFlags::empty() };
    // Non-blocking: a pipe in its place must not stop us.
    let file = match rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | follow,
        Mode::empty(),
    ) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(rustix::io::Errno::LOOP) if owner == Owner::Project => {
            return Err(refuse("is a symbolic link", "put the file itself there"));
        }
        Err(error) => return Err(unreadable(error.into())),
    };
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(refuse("is not a regular file", "put a file there, or remove it"));
    }
    let us = rustix::process::geteuid().as_raw();
    if owner == Owner::User && meta.uid() != us && meta.uid() != 0 {
        return Err(refuse(&format!("belongs to user {}", meta.uid()), "make it your own"));
    }
    if meta.mode() & 0o002 != 0 {
        return Err(refuse("can be written by everybody", &format!("chmod o-w {}", path.display())));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(MAX_BYTES) as usize);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(unreadable(io::Error::other(format!("it is larger than {} KiB", MAX_BYTES >> 10))));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        unreadable(io::Error::other(format!(
            "it is not UTF-8, from byte {} on",
            error.utf8_error().valid_up_to()
        )))
    })?;
    Ok(Some(text))
}

/// Whether others than the owner may change the user's file: told by `doctor`, not refused, since many systems give each
/// user a group of their own.
pub(crate) fn group_may_write(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o020 != 0)
}

/// Takes a file's text apart. `file` is its name for people.
pub(crate) fn parse(
    text: &str,
    file: &str,
    shape: Shape,
    providers: &Providers,
) -> Result<Content, SettingsError> {
    let mut reader = Reader { text, file, shape, providers: providers.clone() };
    let table = DeTable::parse(text).map_err(|error| SettingsError::Invalid {
        place: reader.place(error.span().map_or(0, |span| span.start)),
        why: error.message().to_owned(),
    })?;
    let mut content = Content::default();
    // Other keys may speak of them.
    if let Some((key, value)) = table.get_ref().iter().find(|(key, _)| key.get_ref() == PROVIDERS) {
        content.providers = reader.manifests(key, value)?;
        for provider in &content.providers {
            reader.providers.add(provider.clone());
        }
    }
    for (key, value) in table.get_ref() {
        match (key.get_ref().as_ref(), value.get_ref()) {
            (PROVIDERS, _) => {}
            ("allow", DeValue::Table(table)) if shape == Shape::User => {
                reader.table(table, "", true, &mut content.allow)?;
            }
            ("description", DeValue::String(text)) if shape == Shape::Profile => {
                content.description = Some(text.to_string());
            }
            _ => reader.entry(key, value, "", false, &mut content.entries)?,
        }
    }
    // In the order in which they stand: a table of TOML has none.
    content.entries.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(content)
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    shape: Shape,
    providers: Providers,
}

type Key<'i> = Spanned<toml::de::DeString<'i>>;

impl Reader<'_> {
    fn place(&self, at: usize) -> Place {
        Place::in_text(self.file, self.text, at)
    }

    fn manifests(&self, key: &Key<'_>, value: &Spanned<DeValue<'_>>) -> Result<Vec<Provider>, SettingsError> {
        let place = self.place(key.span().start);
        let invalid = |why: &str| SettingsError::Invalid { place: place.clone(), why: why.to_owned() };
        if self.shape != Shape::User {
            // It names a program to be run: nobody but the user may bring that in.
            return Err(invalid("`providers` may only stand in your own configuration file"));
        }
        let DeValue::Table(table) = value.get_ref() else {
            return Err(invalid("`providers`: expected tables such as [providers.NAME]"));
        };
        let place_of = |at: usize| self.place(at);
        table
            .iter()
            .map(|(name, value)| {
                let taken = self.providers.is_taken(name.get_ref());
                manifest::read(name, value, taken, &place_of)
            })
            .collect()
    }

    fn table(
        &self,
        table: &DeTable<'_>,
        above: &str,
        allow: bool,
        into: &mut Vec<Entry>,
    ) -> Result<(), SettingsError> {
        for (key, value) in table {
            self.entry(key, value, above, allow, into)?;
        }
        Ok(())
    }

    fn entry(
        &self,
        name: &Key<'_>,
        value: &Spanned<DeValue<'_>>,
        above: &str,
        allow: bool,
        into: &mut Vec<Entry>,
    ) -> Result<(), SettingsError> {
        let key = format!("{above}{}", name.get_ref());
        let place = self.place(name.span().start);
        let invalid = |why: String| SettingsError::Invalid { place: place.clone(), why };
        let Some(setting) = table::find(&key, &self.providers) else {
            let prefix = format!("{key}.");
            return match value.get_ref() {
                DeValue::Table(table) if table::ALL.iter().any(|s| s.key.starts_with(&prefix)) => {
                    self.table(table, &prefix, allow, into)
                }
                _ => Err(SettingsError::UnknownKey {
                    near: near(&key, self.shape, &self.providers),
                    key,
                    place,
                }),
            };
        };
        if allow && !setting.rule.is_governed() {
            return Err(invalid(format!(
                "`{key}` is neither limit nor permission: [allow] cannot speak of it"
            )));
        }
        if !self.may(setting) {
            return Err(invalid(format!("`{key}` may only stand in {}", where_allowed(setting.files))));
        }
        let value = if allow && setting.kind == super::value::Kind::Variables {
            // Only names are allowed; a value there would be one more place for a secret.
            setting.kind.read(value.get_ref()).and_then(|v| match v {
                Value::List(list) if list.iter().any(|e| e.contains('=')) => {
                    Err("[allow] takes names of variables, without values".to_owned())
                }
                other => Ok(other),
            })
        } else {
            setting.kind.read(value.get_ref())
        };
        let value = value.map_err(|why| invalid(format!("`{key}`: {why}")))?;
        into.push(Entry { key, setting, value, place });
        Ok(())
    }

    fn may(&self, setting: &Setting) -> bool {
        match self.shape {
            Shape::User => setting.files != Files::Project,
            Shape::Project => setting.files != Files::User,
            Shape::Profile => setting.files == Files::All,
        }
    }
}

/// Where a setting may stand, for people.
pub(crate) fn where_allowed(files: Files) -> &'static str {
    match files {
        Files::User => "your own configuration file",
        Files::Project => "a project's configuration file",
        Files::UserProject => "your own configuration file and a project's",
        Files::All => "your own configuration file, a project's, and profiles",
    }
}

/// Known keys that look like this one, best first.
pub(crate) fn near(key: &str, shape: Shape, providers: &Providers) -> Vec<String> {
    let extra: &[&str] = match shape {
        Shape::User => &["allow", PROVIDERS],
        Shape::Project => &[],
        Shape::Profile => &["description"],
    };
    let known = table::ALL.iter().flat_map(|setting| setting.keys(providers));
    let known = known.chain(extra.iter().map(|name| (*name).to_owned()));
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let key = plain(key);
    let score = |name: &str| match (key.rsplit_once('.'), name.rsplit_once('.')) {
        // The table is right: only what stands in it says how near they are.
        (Some((table, key)), Some((other, name))) if table == other => strsim::jaro_winkler(key, name),
        _ => strsim::jaro_winkler(&key, name).max(tail_score(&key, name)),
    };
    let mut scored: Vec<(f64, String)> =
        known.map(|name| (score(&plain(&name)), name)).filter(|(score, _)| *score > 0.84).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(2).map(|(_, name)| name).collect()
}

/// The last part of a key may be right, and its table forgotten.
fn tail_score(key: &str, name: &str) -> f64 {
    name.rsplit_once('.').map_or(0.0, |(_, tail)| strsim::jaro_winkler(key, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, shape: Shape) -> SettingsError {
        parse(text, "f.toml", shape, &Providers::default()).unwrap_err()
    }

    #[test]
    fn values_come_with_their_places() {
        let text = "# mine\nmax_runtime = \"90m\"\n\n[max_parallel]\nopencode = 3\n[allow]\nsandbox_ = 1\n";
        assert!(
            matches!(error(text, Shape::User), SettingsError::UnknownKey { place, .. } if place.line == 7)
        );
        let text = &text[..text.len() - "sandbox_ = 1\n".len()];
        let content = parse(text, "f.toml", Shape::User, &Providers::default()).unwrap();
        let found: Vec<(&str, &Value, usize)> =
            content.entries.iter().map(|e| (e.key.as_str(), &e.value, e.place.line)).collect();
        assert_eq!(
            found,
            [("max_runtime", &Value::Number(5_400_000), 2), ("max_parallel.opencode", &Value::Number(3), 5)]
        );
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (text, shape, place, words) in [
            ("max_runtme = \"1h\"", Shape::User, "f.toml:1:1", "unknown key `max_runtme`"),
            ("\n  pty = 1", Shape::User, "f.toml:2:3", "`pty`: expected true or false, found the number 1"),
            ("max_runtime = 90", Shape::User, "f.toml:1:1", "expected a time such as \"90s\""),
            ("max_runtime = \"soon\"", Shape::User, "f.toml:1:1", "`soon`: expected a time"),
            ("max_log_bytes = -1", Shape::User, "f.toml:1:1", "expected a whole number, found the number -1"),
            (
                "lane = \"fast\"",
                Shape::Profile,
                "f.toml:1:1",
                "expected \"run\" or \"server\" or \"attach\", found `fast`",
            ),
            ("allowed_prefixes = [\"here\"]", Shape::User, "f.toml:1:1", "absolute paths"),
            ("env = [\"API_TOKEN=abc\"]", Shape::User, "f.toml:1:1", "looks like a secret"),
            ("env = [\"1A\"]", Shape::User, "f.toml:1:1", "`1A` is no variable's name"),
            ("pty = true\npty = true", Shape::User, "f.toml:2:1", "duplicate key"),
            ("pty = ", Shape::User, "f.toml:1:", ""),
            ("[max_parallel]\nexce = 1", Shape::Project, "f.toml:2:1", "unknown key `max_parallel.exce`"),
            (
                "check_timeout = \"0\"",
                Shape::Project,
                "f.toml:1:1",
                "`check_timeout`: `0`: expected a time above 0",
            ),
            ("[allow]\ncheck_timeout = \"0s\"", Shape::User, "f.toml:2:1", "expected a time above 0"),
            ("[worktree]\nroot = \"/x\"", Shape::Project, "f.toml:2:1", "may only stand in your own"),
            ("allowed_prefixes = []", Shape::Profile, "f.toml:1:1", "may only stand in your own"),
            ("[allow]\nmodel = \"x\"", Shape::User, "f.toml:2:1", "neither limit nor permission"),
            ("[allow]\nenv = [\"A=1\"]", Shape::User, "f.toml:2:1", "without values"),
            ("[allow]\nmax_runtime = \"9h\"", Shape::Project, "f.toml:1:2", "unknown key `allow`"),
            ("description = \"x\"", Shape::User, "f.toml:1:1", "unknown key `description`"),
        ] {
            let error = error(text, shape).to_string();
            assert!(error.starts_with(place) && error.contains(words), "{text}: {error}");
            assert!(!error.contains("abc"), "{error}");
        }
    }

    #[test]
    fn near_matches() {
        let near = |key, shape| near(key, shape, &Providers::default());
        for (wrong, right) in [
            ("max_runtme", "max_runtime"),
            ("max-runtime", "max_runtime"),
            ("maxRuntime", "max_runtime"),
            ("canonical_model", "opencode.canonical_model"),
            ("allowed_prefix", "allowed_prefixes"),
            ("alow", "allow"),
            ("max_parallel.exce", "max_parallel.exec"),
            ("max_parallel.claude", "max_parallel.claude-code"),
            ("worktree.rot", "worktree.root"),
        ] {
            assert_eq!(near(wrong, Shape::User).first().map(String::as_str), Some(right), "{wrong}");
        }
        assert_eq!(near("zzz", Shape::User), Vec::<String>::new());
    }
}
