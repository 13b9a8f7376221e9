//! The caller's environment: places, limits, and what of it an agent gets to see.

use crate::error::EngineError;
use dx_events::mask::Secrets;
use dx_protocol::Limits;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Variables every agent gets when the caller has them.
const PASSED: [&str; 10] =
    ["HOME", "PATH", "LANG", "TERM", "TZ", "USER", "LOGNAME", "SHELL", "NO_COLOR", "NODE_EXTRA_CA_CERTS"];
const PASSED_PREFIXES: [&str; 3] = ["LC_", "XDG_", "SSL_CERT_"];

/// Words of a name (between underscores) that make its value a secret.
const SECRET_WORDS: [&str; 4] = ["PASS", "PWD", "AUTH", "OAUTH"];
/// The same, also as the end of a longer word and with an S behind: `PGPASSWORD`, `MyKey`, `CREDENTIALS`.
const SECRET_ENDS: [&str; 7] = ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "COOKIE"];
/// Beginnings and parts of values that are secrets, beside the shapes of tokens.
const SECRET_PREFIXES: [&str; 9] =
    ["sk-", "ghp_", "gho_", "github_pat_", "xox", "AKIA", "AIza", "eyJ", "glpat-"];
const SECRET_PARTS: [&str; 5] = ["apiKey", "api_key", "BEGIN PRIVATE KEY", "BEGIN RSA PRIVATE", "Bearer "];

/// `$NAME` when absolute, else `$HOME/<below>`.
pub(crate) fn dir(name: &str, below: &str) -> Option<PathBuf> {
    let set = std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME").filter(|h| !h.is_empty())?).join(below)))
}

/// The same in an agent's environment.
pub(crate) fn dir_in(env: &[(OsString, OsString)], name: &str, below: &str) -> Option<PathBuf> {
    let value = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    let set = value(name).filter(|p| p.is_absolute());
    set.or_else(|| Some(value("HOME").filter(|home| home.is_absolute())?.join(below)))
}

/// Keeps `/tmp/dx-runner`, the name in older scripts, as a link to the state directory, when the name is free or is our
/// link already. Never fails: it is a convenience.
pub(crate) fn keep_short_name(root: &Path) {
    let name = Path::new("/tmp/dx-runner");
    match std::fs::symlink_metadata(name) {
        Err(_) => {
            let _made = std::os::unix::fs::symlink(root, name);
        }
        Ok(meta) if meta.is_symlink() && meta.uid() == rustix::process::geteuid().as_raw() => {
            if std::fs::read_link(name).is_ok_and(|to| to != root && !to.exists()) {
                let _removed = std::fs::remove_file(name);
                let _made = std::os::unix::fs::symlink(root, name);
            }
        }
        Ok(_) => {}
    }
}

/// Whether a value must not be recorded.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    let name = name.to_uppercase();
    let secret_word = |word: &str| {
        let one = word.strip_suffix('S').unwrap_or(word);
        SECRET_WORDS.contains(&word) || SECRET_ENDS.iter().any(|end| one.ends_with(end))
    };
    name.split('_').any(secret_word)
        || SECRET_PREFIXES.iter().any(|prefix| value.starts_with(prefix))
        || SECRET_PARTS.iter().any(|part| value.contains(part))
        || Secrets::default().mask_bytes(value.as_bytes()).is_some()
}

/// Whether every agent gets this variable: its value is no secret.
pub(crate) fn is_ordinary(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| PASSED.contains(&name) || PASSED_PREFIXES.iter().any(|p| name.starts_with(p)))
}

/// `--env` options taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtraEnv {
    /// Names that are resolved from the caller's environment, now and at each restart.
    pub(crate) names: Vec<String>,
    /// Literal values that may be recorded.
    pub(crate) values: Vec<(String, String)>,
    /// Literal values that may not; their names are in `names`.
    pub(crate) secrets: Vec<(String, String)>,
}

impl ExtraEnv {
    pub(crate) fn parse(options: &[String]) -> Result<Self, EngineError> {
        let mut extra = Self::default();
        for option in options {
            let (name, value) = option.split_once('=').map_or((option.as_str(), None), |(n, v)| (n, Some(v)));
            let plausible = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !plausible || value.is_some_and(|v| v.contains('\0')) {
                return Err(EngineError::Argument(format!("--env takes NAME or NAME=VALUE, not `{name}`")));
            }
            match value {
                None => extra.names.push(name.to_owned()),
                Some(value) if is_secret(name, value) => {
                    extra.names.push(name.to_owned());
                    extra.secrets.push((name.to_owned(), value.to_owned()));
                }
                Some(value) => extra.values.push((name.to_owned(), value.to_owned())),
            }
        }
        Ok(extra)
    }

    /// The variables with their values; a name that is not set is an error.
    pub(crate) fn resolve(&self) -> Result<Vec<(OsString, OsString)>, EngineError> {
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        for name in &self.names {
            let given = self.secrets.iter().find(|(n, _)| n == name).map(|(_, v)| OsString::from(v));
            let value = given.or_else(|| std::env::var_os(name));
            env.push((name.into(), value.ok_or_else(|| EngineError::EnvUnresolved(name.clone()))?));
        }
        env.extend(self.values.iter().map(|(n, v)| (n.into(), v.into())));
        Ok(env)
    }
}

/// The clean part of the caller's environment, plus what the provider may see.
pub(crate) fn allowed(also: &dyn Fn(&str) -> bool) -> Vec<(OsString, OsString)> {
    let passes = |name: &OsStr| {
        let Some(name) = name.to_str() else { return false };
        PASSED.contains(&name)
            || PASSED_PREFIXES.iter().any(|p| name.starts_with(p))
            || name.to_uppercase().ends_with("_PROXY")
            || also(name)
    };
    std::env::vars_os().filter(|(name, _)| passes(name)).collect()
}

/// Adds or replaces.
pub(crate) fn set(env: &mut Vec<(OsString, OsString)>, name: &str, value: impl Into<OsString>) {
    env.retain(|(n, _)| n != name);
    env.push((name.into(), value.into()));
}

/// No limit is longer: 10 years, in seconds. Its milliseconds can be added up without care.
pub(crate) const MAX_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;
/// No grace is longer: a day.
pub(crate) const MAX_GRACE_MS: u64 = 24 * 60 * 60 * 1000;

/// Refuses limits with which nobody could calculate, wherever they came from.
pub(crate) fn check_limits(limits: &Limits) -> Result<(), EngineError> {
    let times = [
        ("start grace", limits.startup_grace_sec),
        ("no-op time", limits.no_op_sec),
        ("stall time", limits.stall_sec),
        ("maximum runtime", limits.max_runtime_sec),
        ("no-mutation timeout", limits.no_mutation_sec),
        ("check timeout", limits.check_sec),
    ];
    if let Some((what, _)) = times.iter().find(|(_, seconds)| *seconds > MAX_SECONDS) {
        return Err(EngineError::Argument(format!("the {what} is longer than 10 years")));
    }
    if limits.check_sec == 0 {
        return Err(EngineError::Argument("the check timeout is at least 1 second".to_owned()));
    }
    if limits.grace_ms > MAX_GRACE_MS {
        return Err(EngineError::Argument("the grace before the kill is longer than 1 day".to_owned()));
    }
    Ok(())
}

/// The first executable of this name on the caller's PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

/// Whether this is a file that may be run.
pub(crate) fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name_and_shape() {
        for (name, value) in
            [("API_TOKEN", "x"), ("FOO", "sk-abc"), ("CONF", "{\"apiKey\":\"x\"}"), ("MyKey", "1")]
        {
            assert!(is_secret(name, value), "{name}={value}");
        }
        let names = "GITHUB_TOKEN OPENAI_API_KEY OPENAI_APIKEY ApiToken KEY AWS_SECRET_ACCESS_KEY PGPASSWORD DB_PASS \
                     MYSQL_PWD PASSWD GOOGLE_CREDENTIALS CREDENTIAL HTTP_AUTH SSH_AUTH_SOCK COOKIE my_secrets";
        for name in names.split_whitespace() {
            assert!(is_secret(name, "x"), "{name}");
        }
        let names =
            "MODE GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL KEYBOARD KEYMAP_FILE COMPASS PASSAGE TOKENIZER AUTHORITY";
        for name in names.split_whitespace() {
            assert!(!is_secret(name, "fast"), "{name}");
        }
        let extra = ExtraEnv::parse(&["A=1".into(), "B_TOKEN=t".into(), "C".into()]).unwrap();
        assert_eq!(extra.names, ["B_TOKEN", "C"]);
        assert_eq!(extra.values, [("A".to_owned(), "1".to_owned())]);
        assert!(ExtraEnv::parse(&["1A=1".into()]).is_err());
        assert!(ExtraEnv::parse(&["=1".into()]).is_err());
    }

    #[test]
    fn limits_that_would_overflow_are_refused() {
        let limits = Limits::default();
        assert!(check_limits(&limits).is_ok());
        let longest = Limits { max_runtime_sec: MAX_SECONDS, grace_ms: MAX_GRACE_MS, ..limits.clone() };
        assert!(check_limits(&longest).is_ok());
        for beyond in [
            Limits { startup_grace_sec: MAX_SECONDS + 1, ..limits.clone() },
            Limits { no_op_sec: u64::MAX, ..limits.clone() },
            Limits { stall_sec: u64::MAX / 1000, ..limits.clone() },
            Limits { max_runtime_sec: MAX_SECONDS + 1, ..limits.clone() },
            Limits { no_mutation_sec: u64::MAX, ..limits.clone() },
            Limits { check_sec: MAX_SECONDS + 1, ..limits.clone() },
            Limits { check_sec: 0, ..limits.clone() },
            Limits { grace_ms: MAX_GRACE_MS + 1, ..limits },
        ] {
            assert!(matches!(check_limits(&beyond), Err(EngineError::Argument(_))), "{beyond:?}");
        }
    }
}
