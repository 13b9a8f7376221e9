//! Which values of a job are secret, and where they are known from when nobody told them.
//!
//! Called by `start`, by what settles or passes on a run, and by everything that shows text: [`mask_text`]. Never writes a
//! value anywhere.

use crate::environment::{is_ordinary, is_secret};
use crate::lanes::PASSWORD;
use crate::lookup::Found;
use crate::providers::Providers;
use dx_events::mask::Secrets;
use dx_monitor::{Access, MaskedFile, SecretValues, process_of};
use dx_proc::{Host, Liveness};
use dx_protocol::{Created, Settled};
use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// An environment is not read beyond this.
const MAX_ENVIRONMENT: u64 = 4 << 20;

/// What this process itself must not show: secrets in its own environment, and those that it was given since.
static OWN: LazyLock<RwLock<Own>> = LazyLock::new(|| {
    let env: Vec<_> = std::env::vars_os().collect();
    RwLock::new(Own::new(of_environment(&env, &[])))
});

struct Own {
    values: Vec<Vec<u8>>,
    ready: Arc<Secrets>,
}

impl Own {
    fn new(values: Vec<Vec<u8>>) -> Self {
        let ready = Arc::new(Secrets::new(&values));
        Self { values, ready }
    }
}

/// The text without secrets, each byte of them a `*`: values that this process knows, and the shapes of tokens. For
/// everything that is shown and was not made by us alone.
pub fn mask_text(text: &str) -> Cow<'_, str> {
    match own_secrets().mask_text(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(masked) => Cow::Owned(masked),
    }
}

/// Whether [`mask_text`] would change the text.
pub fn is_masked(text: &str) -> bool {
    matches!(mask_text(text), Cow::Owned(_))
}

/// Whether a recorded name is this one with parts of it masked: byte for byte, a `*` for each that was secret.
pub(crate) fn is_masked_form(recorded: &str, raw: &str) -> bool {
    recorded.len() == raw.len()
        && recorded.contains('*')
        && recorded.bytes().zip(raw.bytes()).all(|(known, byte)| known == b'*' || known == byte)
}

/// What [`mask_text`] masks with, for streams.
pub fn own_secrets() -> Arc<Secrets> {
    Arc::clone(&OWN.read().unwrap_or_else(PoisonError::into_inner).ready)
}

/// From now on this process does not show these either.
pub(crate) fn also(values: &[Vec<u8>]) {
    let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
    let new: Vec<Vec<u8>> = values.iter().filter(|v| !own.values.contains(v)).cloned().collect();
    if !new.is_empty() {
        *own = Own::new([std::mem::take(&mut own.values), new].concat());
    }
}

/// The secret values of an environment: of variables that were passed by name (`named`), and of those that look like
/// secrets. A path that exists is none, whatever its variable is called, nor one whose variable says that it is a file's, nor
/// a reference into 1Password.
pub(crate) fn of_environment(env: &[(OsString, OsString)], named: &[String]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    for (name, value) in env {
        let bytes = value.as_bytes();
        let by_name = named.iter().any(|n| OsStr::new(n) == name);
        let looks = is_secret(&name.to_string_lossy(), &value.to_string_lossy());
        let there = || Path::new(value).exists() || name.as_bytes().ends_with(b"_FILE");
        let path = bytes.starts_with(b"/") && !bytes.contains(&b'\n') && there();
        let reference = bytes.starts_with(b"op://");
        let ordinary = |other: &(OsString, OsString)| is_ordinary(&other.0) && other.1 == *value;
        if (by_name || looks) && !path && !reference && !env.iter().any(ordinary) {
            values.push(bytes.to_vec());
            if name == PASSWORD {
                // With its name as well: the settler needs it to stop a session.
                values.push([name.as_bytes(), b"=", bytes].concat());
            }
        }
    }
    values
}

/// The secret values of a run whose agent lives, read from the agent's own environment.
pub(crate) fn of_agent(host: &Host, found: &Found) -> Vec<Vec<u8>> {
    let Some(agent) = found.run.agent.as_ref().or(found.exit.agent.as_ref()) else { return Vec::new() };
    let path = format!("/proc/{}/environ", agent.pid);
    let text = dx_jobdir::read_bounded(Path::new(&path), MAX_ENVIRONMENT).unwrap_or_default();
    // Asked last: as it lives now, the environment was its own.
    if host.liveness(&process_of(agent)) != Liveness::Alive {
        return Vec::new();
    }
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|b| *b == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    };
    let env: Vec<_> = text.split(|b| *b == 0).filter_map(pair).collect();
    of_environment(&env, &found.run.created.spec.env_names)
}

/// From now on this process does not show what of a run's secrets can be known: from its agent while that lives, and from
/// the caller's environment by the names in its record.
pub(crate) fn also_of(host: &Host, found: &Found) {
    also(&of_agent(host, found));
    also(&of_record(&found.run.created).0);
}

/// The values of the variables that a record names, and the names of those that are not known here.
fn of_record(created: &Created) -> (Vec<Vec<u8>>, Vec<String>) {
    let named = &created.spec.env_names;
    let wanted = |name: &String| named.contains(name) || is_secret(name, "");
    let names: Vec<&String> = created.contract.env_names.iter().filter(|name| wanted(name)).collect();
    let providers = Providers::default();
    let provider = providers.by_name(created.ids.provider.as_str());
    // One that the provider sets itself is not the caller's of that name.
    let value = |name: &str| match provider.and_then(|provider| provider.recall) {
        Some((own, recall)) if own == name => recall().map(OsString::from),
        _ => std::env::var_os(name),
    };
    let known: Vec<_> = names.iter().map(|name| (OsString::from(name), value(name))).collect();
    let unresolved: Vec<String> = names
        .iter()
        .zip(&known)
        .filter(|(_, (_, value))| value.is_none())
        .map(|(name, _)| (*name).clone())
        .collect();
    let env: Vec<(OsString, OsString)> =
        known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    (of_environment(&env, named), unresolved)
}

/// How a run's output is masked.
#[derive(Debug, Clone)]
pub(crate) struct Masking {
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) access: Access,
    /// Variables of the run whose values are not known here.
    unresolved: Vec<String>,
}

impl Masking {
    /// For a settler, which was given the values.
    pub(crate) fn given(values: &SecretValues) -> Self {
        Self { secrets: values.ready(), access: Access::Mend, unresolved: Vec::new() }
    }

    /// For a command that has to know them itself: the caller's environment may have them still.
    pub(crate) fn again(created: &Created, access: Access) -> Self {
        let (known, unresolved) = of_record(created);
        let values = [OWN.read().unwrap_or_else(PoisonError::into_inner).values.clone(), known];
        Self { secrets: Arc::new(Secrets::new(values.concat())), access, unresolved }
    }

    /// Takes the secrets out of a file that nobody reads here.
    pub(crate) fn mend(&self, path: &Path) -> bool {
        let Some(mut file) = MaskedFile::open(path, &self.secrets, self.access) else { return true };
        let mut buffer = vec![0; 64 << 10];
        while file.read(&mut buffer, &mut |_| {}) > 0 {}
        file.finish(&mut |_| {});
        !file.failed()
    }

    /// What has to be said: values that were not known, or a file that could not be written.
    pub(crate) fn fact(&self, failed: bool) -> Option<Settled> {
        let said = failed || !self.unresolved.is_empty();
        said.then(|| Settled::Masking { unresolved: self.unresolved.clone(), failed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_an_environment() {
        let env = [
            ("HOME", "/home/somebody-else"),
            ("DEBUG_LEVEL", "very-verbose-1"),
            ("NAMED", "value-by-name-1"),
            ("SOME_TOKEN", "token-value-1"),
            ("SSH_AUTH_SOCK", "/"),
            ("USER_KEY", "/home/somebody-else"),
            ("HTTPS_PROXY", "http://me:pr0xy-pass@proxy.invalid:3128"),
            ("BASE_URL", "http://host.invalid:80/x"),
            ("PLAIN", "sk-abcdefghijklmnop1"),
            ("REFERRED_KEY", "op://vault/item/field"),
            ("KEY_FILE", "/home/somebody-else/key"),
        ]
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let values = of_environment(&env, &["NAMED".to_owned()]);
        let expected = [
            "value-by-name-1",
            "token-value-1",
            "http://me:pr0xy-pass@proxy.invalid:3128",
            "sk-abcdefghijklmnop1",
        ];
        assert_eq!(values, expected.map(|v| v.as_bytes().to_vec()));
        also(&values);
        assert_eq!(mask_text("say token-value-1!"), "say *************!");
        assert!(matches!(mask_text("nothing"), Cow::Borrowed("nothing")));
    }
}
