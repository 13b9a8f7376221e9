//! `[providers.NAME]` of the user's own configuration file: a provider without a line of code.
//!
//! Called by the reader of that file, and by no other: a project's file must not bring in a command. Every key is known, and
//! every mistake is told with its place.

use super::form::{MODEL, PLACEHOLDERS, PROMPT, PROMPT_FILE};
use super::models::Allowed;
use super::provider::{Channel, Origin, Provider};
use super::rules::REASONS;
use crate::settings::{Kind, Place, SettingsError};
use dx_core::settings::Value;
use dx_protocol::{ErrorClass, ErrorRule, Grammar, OutputMatch, ProviderName};
use regex_lite::Regex;
use toml::Spanned;
use toml::de::DeValue;

/// Keys of the table.
const KEYS: [&str; 14] = [
    "description",
    "command",
    "prompt",
    "model_flag",
    "model_env",
    "allowed_models",
    "output",
    "success",
    "errors",
    "pass_env",
    "credentials",
    "state",
    "tested_versions",
    "max_parallel",
];
/// Keys of `success`, and with `reason` of an entry of `errors`.
const SIGN_KEYS: [&str; 5] = ["reason", "field", "equals", "stdout", "stderr"];

/// Tells the place of a byte of the file.
pub(crate) type PlaceOf<'a> = &'a dyn Fn(usize) -> Place;

/// Reads one table. `taken` is whether a provider of ours has the name.
pub(crate) fn read(
    name: &Spanned<toml::de::DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    taken: bool,
    place: PlaceOf<'_>,
) -> Result<Provider, SettingsError> {
    let here = place(name.span().start);
    let invalid = |place: Place, why: String| Err(SettingsError::Invalid { place, why });
    let name = name.get_ref().as_ref();
    if let Err(error) = name.parse::<ProviderName>() {
        return invalid(here, error.to_string());
    }
    if taken {
        return invalid(here, format!("`{name}` is a provider of dx-runner's own; take another name"));
    }
    let DeValue::Table(table) = value.get_ref() else {
        return invalid(here, format!("`providers.{name}`: expected a table"));
    };
    let mut reader = Reader {
        name,
        place,
        provider: Provider {
            name: name.to_owned(),
            description: "from your configuration".to_owned(),
            origin: Origin::Manifest(here.clone()),
            ..Provider::default()
        },
        has_command: false,
    };
    for (key, value) in table {
        reader.key(key.get_ref(), &place(key.span().start), value)?;
    }
    if !reader.has_command {
        return invalid(here, format!("`providers.{name}` has no `command`"));
    }
    reader.fits(here)
}

struct Reader<'a> {
    name: &'a str,
    place: PlaceOf<'a>,
    provider: Provider,
    has_command: bool,
}

impl Reader<'_> {
    fn key(&mut self, key: &str, at: &Place, value: &Spanned<DeValue<'_>>) -> Result<(), SettingsError> {
        let full = format!("providers.{}.{key}", self.name);
        let invalid =
            |why: String| SettingsError::Invalid { place: at.clone(), why: format!("`{full}`: {why}") };
        let de = value.get_ref();
        let text = || match Kind::Text.read(de) {
            Ok(Value::Text(text)) => Ok(text),
            Ok(_) => Ok(String::new()),
            Err(why) => Err(invalid(why)),
        };
        let list = || match Kind::Texts.read(de) {
            Ok(Value::List(list)) => Ok(list),
            Ok(_) => Ok(Vec::new()),
            Err(why) => Err(invalid(why)),
        };
        let provider = &mut self.provider;
        match key {
            "description" => provider.description = text()?,
            "command" => {
                let mut words = list()?.into_iter();
                let program = words.next().ok_or_else(|| invalid("it is empty".to_owned()))?;
                provider.program = Some(program_of(program).map_err(invalid)?);
                provider.args = words.collect();
                if let Some(bad) = provider.args.iter().find_map(|arg| unknown_placeholder(arg)) {
                    return Err(invalid(format!("`{bad}` is none of {}", PLACEHOLDERS.join(", "))));
                }
                self.has_command = true;
            }
            "prompt" => {
                provider.prompt = match text()?.as_str() {
                    "stdin" => Channel::Stdin,
                    "file" => Channel::File,
                    "arg" => Channel::Arg,
                    other => {
                        return Err(invalid(format!(
                            "expected \"stdin\", \"file\" or \"arg\", found `{other}`"
                        )));
                    }
                }
            }
            "model_flag" => provider.model_flag = Some(text()?),
            "model_env" => provider.model_env = Some(text()?),
            "allowed_models" => provider.models.allowed = Allowed::Table(list()?),
            "output" => {
                let word = text()?;
                provider.grammar = Grammar::all().find(|g| g.as_str() == word).ok_or_else(|| {
                    let known: Vec<&str> = Grammar::all().map(Grammar::as_str).collect();
                    invalid(format!("expected one of {}, found `{word}`", known.join(", ")))
                })?;
            }
            "success" => {
                let sign = self.sign(value, &full, false)?.1;
                self.provider.rules.success = Some(sign);
            }
            "errors" => {
                let DeValue::Array(entries) = de else {
                    return Err(invalid("expected a list of tables".to_owned()));
                };
                let mut errors = Vec::new();
                for entry in entries {
                    let (class, when) = self.sign(entry, &full, true)?;
                    errors.push(ErrorRule { when, class });
                }
                self.provider.rules.errors = errors;
            }
            "pass_env" => provider.passes = list()?,
            "credentials" => provider.credentials = list()?,
            "state" => {
                provider.state = list()?;
                if let Some(bad) = provider.state.iter().find(|p| !p.starts_with('/') && !p.starts_with("~/"))
                {
                    return Err(invalid(format!("`{bad}` is neither absolute nor begins with ~/")));
                }
            }
            "tested_versions" => provider.tested = list()?,
            "max_parallel" => match Kind::Number("a whole number").read(de) {
                Ok(Value::Number(cap)) => provider.cap = Some(usize::try_from(cap).unwrap_or(usize::MAX)),
                Ok(_) => {}
                Err(why) => return Err(invalid(why)),
            },
            _ => return Err(unknown(full, key, at, &KEYS, &format!("providers.{}.", self.name))),
        }
        Ok(())
    }

    /// A table of `success` or `errors`.
    fn sign(
        &self,
        value: &Spanned<DeValue<'_>>,
        above: &str,
        with_reason: bool,
    ) -> Result<(ErrorClass, OutputMatch), SettingsError> {
        let here = (self.place)(value.span().start);
        let invalid = |place: &Place, why: String| SettingsError::Invalid { place: place.clone(), why };
        let DeValue::Table(table) = value.get_ref() else {
            return Err(invalid(&here, format!("`{above}`: expected a table such as {{ stderr = \"…\" }}")));
        };
        let mut class = None;
        let (mut field, mut equals, mut pattern) = (None, None, None);
        for (key, value) in table {
            let at = (self.place)(key.span().start);
            let key = key.get_ref().as_ref();
            let known = if with_reason { &SIGN_KEYS[..] } else { &SIGN_KEYS[1..] };
            if !known.contains(&key) {
                return Err(unknown(format!("{above}.{key}"), key, &at, known, &format!("{above}.")));
            }
            let text = match Kind::Text.read(value.get_ref()) {
                Ok(Value::Text(text)) => text,
                Ok(_) => String::new(),
                Err(why) => return Err(invalid(&at, format!("`{above}.{key}`: {why}"))),
            };
            match key {
                "reason" => {
                    let known = REASONS.iter().find(|(name, _)| *name == text);
                    class = Some(known.map(|(_, class)| *class).ok_or_else(|| {
                        let names: Vec<&str> = REASONS.iter().map(|(name, _)| *name).collect();
                        invalid(&at, format!("`{above}.{key}`: `{text}` is none of {}", names.join(", ")))
                    })?);
                }
                "field" => field = Some(text),
                "equals" => equals = Some(text),
                _ => {
                    if let Err(error) = Regex::new(&text) {
                        return Err(invalid(&at, format!("`{above}.{key}`: {error}")));
                    }
                    let sign = if key == "stdout" {
                        OutputMatch::Stdout { pattern: text }
                    } else {
                        OutputMatch::Stderr { pattern: text }
                    };
                    if pattern.replace(sign).is_some() {
                        return Err(invalid(&at, format!("`{above}`: either `stdout` or `stderr`")));
                    }
                }
            }
        }
        let sign = match (field, equals, pattern) {
            (Some(field), Some(equals), None) => OutputMatch::Field { field, equals },
            (None, None, Some(pattern)) => pattern,
            _ => {
                return Err(invalid(
                    &here,
                    format!("`{above}`: either `field` and `equals`, or `stdout`, or `stderr`"),
                ));
            }
        };
        let class = match class {
            None if with_reason => return Err(invalid(&here, format!("`{above}`: `reason` is missing"))),
            class => class.unwrap_or(ErrorClass::Other),
        };
        Ok((class, sign))
    }

    /// The whole, when command and prompt belong together.
    fn fits(self, here: Place) -> Result<Provider, SettingsError> {
        let provider = self.provider;
        let name = self.name;
        let has = |word: &str| provider.args.iter().any(|arg| arg.contains(word));
        let why = match provider.prompt {
            Channel::File if !has(PROMPT_FILE) => {
                Some(format!("prompt = \"file\" needs {PROMPT_FILE} in the command"))
            }
            Channel::Arg if !provider.args.iter().any(|arg| arg == PROMPT) => {
                Some(format!("prompt = \"arg\" needs {PROMPT} as an argument of the command"))
            }
            Channel::Stdin | Channel::File if has(PROMPT) => {
                Some(format!("{PROMPT} in the command needs prompt = \"arg\""))
            }
            Channel::Stdin if has(PROMPT_FILE) => {
                Some(format!("{PROMPT_FILE} in the command needs prompt = \"file\""))
            }
            _ if has(MODEL) && provider.model_flag.is_none() => {
                Some(format!("{MODEL} in the command needs `model_flag`"))
            }
            _ => None,
        };
        match why {
            Some(why) => {
                Err(SettingsError::Invalid { place: here, why: format!("`providers.{name}`: {why}") })
            }
            None => Ok(provider),
        }
    }
}

/// A name on PATH, or an absolute path.
fn program_of(word: String) -> Result<String, String> {
    if let Some(below) = word.strip_prefix("~/") {
        let home = std::env::var("HOME").map_err(|_| "HOME is not set".to_owned())?;
        return Ok(format!("{home}/{below}"));
    }
    if word.contains('/') && !word.starts_with('/') {
        return Err(format!("`{word}` is neither a name on PATH nor an absolute path"));
    }
    Ok(word)
}

/// A word in braces that is none of ours: a typing error would be given to the program as it is.
fn unknown_placeholder(arg: &str) -> Option<String> {
    let mut rest = arg;
    while let Some(open) = rest.find('{') {
        let word = rest[open + 1..].split('}').next().unwrap_or_default();
        let closed = rest.len() > open + 1 + word.len();
        let whole = format!("{{{word}}}");
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let misplaced = arg != whole && (whole == MODEL || whole == PROMPT);
        if closed && is_word && (!PLACEHOLDERS.contains(&whole.as_str()) || misplaced) {
            return Some(arg.to_owned());
        }
        rest = &rest[open + 1..];
    }
    None
}

fn unknown(full: String, key: &str, at: &Place, known: &[&str], above: &str) -> SettingsError {
    let mut scored: Vec<(f64, &str)> =
        known.iter().map(|name| (strsim::jaro_winkler(key, name), *name)).collect();
    scored.retain(|(score, _)| *score > 0.8);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near = scored.into_iter().take(2).map(|(_, name)| format!("{above}{name}")).collect();
    SettingsError::UnknownKey { place: at.clone(), key: full, near }
}
