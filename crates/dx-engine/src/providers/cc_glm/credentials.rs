//! Where the key of Z.ai comes from: five places, and the first that is named decides, also when nothing can be had there.
//!
//! Called by `cc-glm`. Must never: write a value anywhere, or let it into an error.

use super::op;
use crate::error::EngineError;
use crate::providers::Wish;
use crate::secrets;
use dx_protocol::ReasonCode;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What can name a place, in the order in which they decide.
pub(super) const VARIABLES: [&str; 4] =
    ["CC_GLM_AUTH_TOKEN", "CC_GLM_TOKEN_FILE", "ZAI_API_KEY", "CC_GLM_OP_URI"];
/// In 1Password, where nobody names another place.
const DEFAULT_REFERENCE: &str = "op://dev/Agent-Secrets-Production/ZAI_API_KEY";
/// A longer file holds no token.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// A key and where it is from.
pub(super) struct Credential {
    pub(super) value: String,
    pub(super) source: String,
}

/// One of the five places.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Plain { variable: &'static str },
    File(OsString),
    Reference { uri: String, named_by: String },
}

/// The first place that is named.
fn place(variable: &dyn Fn(&str) -> Option<OsString>) -> Place {
    let set = |name: &str| variable(name).filter(|value| !value.to_string_lossy().trim().is_empty());
    let text = |name: &str| Some(set(name)?.to_string_lossy().trim().to_owned());
    let reference = |uri, named_by: &str| Place::Reference { uri, named_by: named_by.to_owned() };
    if set("CC_GLM_AUTH_TOKEN").is_some() {
        return Place::Plain { variable: "CC_GLM_AUTH_TOKEN" };
    }
    if let Some(path) = set("CC_GLM_TOKEN_FILE") {
        return Place::File(path);
    }
    match (text("ZAI_API_KEY"), text("CC_GLM_OP_URI")) {
        (Some(uri), _) if op::is_reference(&uri) => reference(uri, "variable ZAI_API_KEY"),
        (Some(_), _) => Place::Plain { variable: "ZAI_API_KEY" },
        (None, Some(uri)) => reference(uri, "variable CC_GLM_OP_URI"),
        (None, None) => reference(DEFAULT_REFERENCE.to_owned(), "the default"),
    }
}

impl Place {
    /// In words.
    fn source(&self) -> String {
        match self {
            Self::Plain { variable } => format!("variable {variable}"),
            Self::File(_) => "the file that variable CC_GLM_TOKEN_FILE names".to_owned(),
            Self::Reference { uri, named_by } => format!("{uri} in 1Password, from {named_by}"),
        }
    }
}

/// The place that decides for a job of this environment. What `--env` gives the job counts before the caller's own.
fn place_in(env: &[(OsString, OsString)]) -> (Place, impl Fn(&str) -> Option<OsString>) {
    let variable = |name: &str| {
        let given = env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        given.or_else(|| std::env::var_os(name))
    };
    (place(&variable), variable)
}

/// Where the key would come from. 1Password is not asked.
pub(super) fn named(env: &[(OsString, OsString)]) -> Result<String, EngineError> {
    let (place, _) = place_in(env);
    match &place {
        Place::File(path) => read(path).map(drop)?,
        Place::Reference { uri, .. } => op::look_for(uri).map(drop).map_err(no_key)?,
        Place::Plain { .. } => {}
    }
    Ok(place.source())
}

/// The key for one start. From here on this process shows it nowhere.
pub(super) fn resolve(wish: &Wish<'_>) -> Result<Credential, EngineError> {
    let (place, variable) = place_in(wish.env);
    let value = match &place {
        Place::Plain { variable: name } => {
            let value = variable(name).unwrap_or_default().into_string().ok();
            let problem = || no_key(format!("variable {name} holds no key: it is not one word"));
            value.as_deref().and_then(word).ok_or_else(problem)?
        }
        Place::File(path) => read(path)?,
        Place::Reference { uri, named_by } => {
            (wish.progress)(&format!("asking 1Password for {uri} …"));
            let answer = op::read(uri).map_err(|why| no_key(format!("{why} ({uri} is from {named_by})")))?;
            // Before anything is said of it.
            secrets::also(&[answer.clone().into_bytes()]);
            word(&answer).ok_or_else(|| no_key(format!("{uri} holds no key: it is not one word")))?
        }
    };
    secrets::also(&[value.clone().into_bytes()]);
    Ok(Credential { value, source: place.source() })
}

/// The key, when no other program has to be asked for it.
pub(super) fn at_once() -> Option<String> {
    match place(&|name| std::env::var_os(name)) {
        Place::Plain { variable } => word(std::env::var(variable).ok()?.as_str()),
        Place::File(path) => read(&path).ok(),
        Place::Reference { .. } => None,
    }
}

fn no_key(message: String) -> EngineError {
    EngineError::Provider { reason: ReasonCode::AuthResolutionFailed, message, next_action: None }
}

/// The one word of a text: what may stand in a request's header.
fn word(text: &str) -> Option<String> {
    let word = text.trim();
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic())).then(|| word.to_owned())
}

fn read(path: &OsString) -> Result<String, EngineError> {
    let path = Path::new(path);
    let failed = |why: String| EngineError::Provider {
        reason: ReasonCode::TokenFileError,
        message: format!("the token file {} {why}", path.display()),
        next_action: None,
    };
    let text = read_file(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
    match word(&text) {
        Some(word) => Ok(word),
        None if text.trim().is_empty() => Err(failed("is empty".to_owned())),
        None => Err(failed("holds no token: it is not one word".to_owned())),
    }
}

/// A pipe is refused, not waited for. A link is followed: the user named it.
fn read_file(path: &Path) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_is_named_decides() {
        let of = |pairs: &[(&str, &str)]| {
            place(&|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value)))
        };
        let all = [
            ("CC_GLM_AUTH_TOKEN", "t"),
            ("CC_GLM_TOKEN_FILE", "/f"),
            ("ZAI_API_KEY", "k"),
            ("CC_GLM_OP_URI", "op://a/b/c"),
        ];
        let reference = |uri: &str, named_by: &str| Place::Reference {
            uri: uri.to_owned(),
            named_by: named_by.to_owned(),
        };
        assert_eq!(of(&all), Place::Plain { variable: "CC_GLM_AUTH_TOKEN" });
        assert_eq!(of(&all[1..]), Place::File("/f".into()));
        assert_eq!(of(&all[2..]), Place::Plain { variable: "ZAI_API_KEY" });
        assert_eq!(
            of(&[("ZAI_API_KEY", "op://x/y/z"), all[3]]),
            reference("op://x/y/z", "variable ZAI_API_KEY")
        );
        assert_eq!(of(&all[3..]), reference("op://a/b/c", "variable CC_GLM_OP_URI"));
        assert_eq!(of(&[]), reference(DEFAULT_REFERENCE, "the default"));
        assert_eq!(of(&[("CC_GLM_AUTH_TOKEN", " "), all[1]]), Place::File("/f".into()), "blank is not set");
    }

    #[test]
    fn a_key_is_one_word() {
        assert_eq!(word(" key.with-signs_1\n").as_deref(), Some("key.with-signs_1"));
        for text in ["", " \n", "two words", "two\nlines", "k\0y", "schlüssel"] {
            assert_eq!(word(text), None, "{text:?}");
        }
    }
}
