//! What preflight tells of a provider's program, version and credentials; `start` and `doctor` use the same.
//!
//! Must never: ask a model, or tell the value of a variable.

use super::provider::Provider;
use super::{Wish, form};
use crate::asked::Asked;
use crate::error::EngineError;
use crate::prompt::sha256_hex;
use dx_jobdir::disk;
use dx_protocol::{Level, PreflightRow, ReasonCode};
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program is asked for its version so long.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// More of an answer is not read.
const VERSION_BYTES: u64 = 4096;

pub(crate) fn ok(provider: &Provider, check: &str, found: String) -> PreflightRow {
    PreflightRow {
        provider: provider.name.clone(),
        check: check.to_owned(),
        level: Level::Ok,
        code: None,
        found,
        next_action: "-".to_owned(),
    }
}

pub(crate) fn warn(provider: &Provider, check: &str, code: ReasonCode, found: String) -> PreflightRow {
    PreflightRow {
        level: Level::Warn,
        code: Some(code),
        next_action: code.next_action().to_owned(),
        ..ok(provider, check, found)
    }
}

/// What a version is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    Tested(String),
    Untested(String),
    Unknown,
    /// The provider has no table of versions.
    NotAsked,
}

/// The program's version, from the cache for this very file, or asked for.
pub(crate) fn version(wish: &Wish<'_>, provider: &Provider, binary: &Path) -> Version {
    if provider.tested.is_empty() {
        return Version::NotAsked;
    }
    let cache = std::fs::metadata(binary).ok().map(|meta| {
        let stamp = format!("{}:{}:{}:{}", meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec());
        let key = format!("{}\n{stamp}:{}", binary.display(), meta.mtime());
        wish.state.cache_dir().join(format!("version-{}", &sha256_hex(key.as_bytes())[..24]))
    });
    let cached = cache.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    let told = cached.or_else(|| {
        (wish.progress)(&format!("asking {} for its version, once per binary …", provider.name));
        let told = ask_version(wish.env, binary)?;
        if let Some(cache) = &cache {
            // The next one asks again.
            let _kept =
                disk::make_dir(&wish.state.cache_dir()).and_then(|_| disk::replace(cache, told.as_bytes()));
        }
        Some(told)
    });
    judge(provider, told)
}

/// The same for who must not write.
pub(crate) fn version_now(provider: &Provider, binary: &Path) -> Version {
    if provider.tested.is_empty() {
        return Version::NotAsked;
    }
    let env = provider.environment();
    judge(provider, ask_version(&env, binary))
}

fn judge(provider: &Provider, told: Option<String>) -> Version {
    match told {
        None => Version::Unknown,
        Some(version) if provider.tested.iter().any(|known| begins(&version, known)) => {
            Version::Tested(version)
        }
        Some(version) => Version::Untested(version),
    }
}

/// `1.18` is the beginning of 1.18.3, not of 1.180.
fn begins(version: &str, known: &str) -> bool {
    let known = known.trim_end_matches('.');
    version.strip_prefix(known).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The first word of the answer to `--version` that looks like one.
fn ask_version(env: &[(OsString, OsString)], binary: &Path) -> Option<String> {
    version_in(&printed(env, binary, "--version")?)
}

/// What a program prints that is given one word; `None` when it does not end in time.
pub(crate) fn printed(env: &[(OsString, OsString)], binary: &Path, word: &str) -> Option<String> {
    let mut command = Command::new(binary);
    command
        .arg(word)
        .env_clear()
        .envs(env.iter().map(|(n, v)| (n, v)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut asked = Asked::start(&mut command).ok()?;
    asked.wait(VERSION_DEADLINE).ok()??;
    let mut text = Vec::new();
    let pipe = asked.child.stdout.take()?;
    // A child of it may hold the pipe: what is there by now is the answer.
    rustix::io::ioctl_fionbio(&pipe, true).ok()?;
    let _read = pipe.take(VERSION_BYTES).read_to_end(&mut text);
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn version_in(text: &str) -> Option<String> {
    let plain = |word: &str| word.trim_start_matches('v').trim_end_matches([',', ')', ';']).to_owned();
    let looks = |word: &String| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || ".-+_".contains(c))
    };
    text.split_whitespace().map(plain).find(looks)
}

pub(crate) fn version_row(provider: &Provider, version: &Version) -> Option<PreflightRow> {
    let tested = provider.tested.iter().map(|t| format!("{}.x", t.trim_end_matches('.'))).collect::<Vec<_>>();
    let tested = tested.join(", ");
    Some(match version {
        Version::NotAsked => return None,
        Version::Tested(version) => ok(provider, "version", version.clone()),
        Version::Untested(version) => warn(
            provider,
            "version",
            ReasonCode::ProviderVersionUntested,
            format!("{version}; tested with {tested}"),
        ),
        Version::Unknown => warn(
            provider,
            "version",
            ReasonCode::ProviderVersionUnknown,
            format!("no version was told; tested with {tested}"),
        ),
    })
}

/// Whether credentials are where the program looks for them, and can be had there. Its own store may hold some that cannot
/// be seen.
pub(crate) fn credentials(provider: &Provider, wish: &Wish<'_>) -> Option<PreflightRow> {
    match provider.auth.and_then(|auth| auth.had) {
        Some(had) => Some(auth_row(provider, had(wish))),
        None => credentials_named(provider, wish.env, wish.worktree),
    }
}

/// The same, as far as it can be seen without asking another program.
pub(crate) fn credentials_named(
    provider: &Provider,
    env: &[(OsString, OsString)],
    place: &Path,
) -> Option<PreflightRow> {
    if let Some(auth) = provider.auth {
        return Some(auth_row(provider, (auth.named)(env, place)));
    }
    if provider.credentials.is_empty() && provider.logins.is_empty() {
        return None;
    }
    if let Some(source) = form::source(provider, env) {
        return Some(ok(provider, "credentials", source));
    }
    let home = env.iter().find(|(n, _)| n == "HOME").map(|(_, v)| Path::new(v));
    let login = home.and_then(|home| provider.logins.iter().map(|l| home.join(l)).find(|path| path.exists()));
    if let Some(path) = login {
        return Some(ok(provider, "credentials", format!("login or configuration in {}", path.display())));
    }
    let names = provider.credentials.join(", ");
    let code = ReasonCode::ProviderCredentialsMissing;
    let mut row = warn(provider, "credentials", code, format!("none seen: no login, and none of {names}"));
    row.next_action = format!("log in with its program, or set one of {names}");
    Some(row)
}

fn auth_row(provider: &Provider, source: Result<String, EngineError>) -> PreflightRow {
    match source {
        Ok(source) => ok(provider, "credentials", source),
        Err(error) => PreflightRow {
            level: Level::Error,
            code: Some(error.reason()),
            next_action: error.next_action(),
            ..ok(provider, "credentials", crate::secrets::mask_text(&error.to_string()).into_owned())
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_compared_by_their_parts() {
        assert_eq!(version_in("2.1.329 (Claude Code)\n").as_deref(), Some("2.1.329"));
        assert_eq!(version_in("codex-cli 0.169.0").as_deref(), Some("0.169.0"));
        assert_eq!(version_in("tool version v1.2,").as_deref(), Some("1.2"));
        assert_eq!(version_in("no version here"), None);
        assert!(begins("1.18.33", "1.18.") && begins("1.18", "1.18") && begins("1.18-beta", "1.18"));
        assert!(!begins("1.180.1", "1.18") && !begins("1.1", "1.18"));
    }
}
