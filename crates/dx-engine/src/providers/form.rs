//! From a provider's form alone to a command line: for those that need no code of their own, ours and the configuration's.
//!
//! Called through [`Provider::resolve`]. Must never: put the prompt into what is recorded.

use super::models::Policy;
use super::provider::{Channel, Provider};
use super::{Resolved, StatePath, Wish};
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What stands for the prompt in a command line, also in the record of it.
pub(crate) const PROMPT: &str = "{prompt}";
/// Where flag and model go; at the end when it is nowhere.
pub(super) const MODEL: &str = "{model}";
/// The path of the prompt's copy.
pub(super) const PROMPT_FILE: &str = "{prompt_file}";
/// The path of the worktree.
pub(super) const WORKTREE: &str = "{worktree}";
/// All of them.
pub(super) const PLACEHOLDERS: [&str; 4] = [PROMPT, MODEL, PROMPT_FILE, WORKTREE];

pub(super) fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let binary = provider.binary()?;
    if wish.agent.is_some() {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: format!("provider {} has no agents to choose from", provider.name),
            next_action: Some("start it without --agent".to_owned()),
        });
    }
    let model = wanted(provider, wish)?;
    let named = model.as_ref().zip(provider.model_flag.as_ref());
    let named: Vec<OsString> =
        named.iter().flat_map(|(model, flag)| [OsString::from(flag), OsString::from(model)]).collect();
    let mut argv: Vec<OsString> = vec![binary.into()];
    for arg in &provider.args {
        if arg == MODEL {
            argv.extend(named.iter().cloned());
        } else {
            argv.push(filled(arg, wish));
        }
    }
    if !provider.args.iter().any(|arg| arg == MODEL) {
        argv.extend(named);
    }
    Ok(Resolved {
        argv,
        env: Vec::new(),
        grammar: provider.grammar,
        prompt_on_stdin: provider.prompt == Channel::Stdin,
        prompt_channel: provider.prompt.as_str(),
        selected_model: model.unwrap_or_else(|| "default".to_owned()),
        fallback_reason: "none".to_owned(),
        auth_source: source(provider, wish.env).unwrap_or_else(|| "the program's own login".to_owned()),
        base_url: "-".to_owned(),
        state: provider.state.iter().filter_map(|place| state(place, wish.env)).collect(),
        adapter: false,
    })
}

/// The model that is asked for, where one can be named and may be.
fn wanted(provider: &Provider, wish: &Wish<'_>) -> Result<Option<String>, EngineError> {
    if wish.model.is_some() && provider.model_flag.is_none() {
        return Err(EngineError::Provider {
            reason: ReasonCode::ProviderModelUnavailable,
            message: format!("provider {} has no `model_flag`: its model cannot be chosen", provider.name),
            next_action: Some("start it without --model, or add model_flag to its table".to_owned()),
        });
    }
    Policy::of(wish, &provider.models)?.wanted()
}

/// An argument with the paths in their places. Bytes, as a path need not be UTF-8.
fn filled(arg: &str, wish: &Wish<'_>) -> OsString {
    let mut filled = OsString::new();
    let mut rest = arg;
    let paths: [(&str, &Path); 2] = [(PROMPT_FILE, wish.prompt_file), (WORKTREE, wish.worktree)];
    while let Some((at, (name, path))) =
        paths.iter().filter_map(|pair| Some((rest.find(pair.0)?, *pair))).min_by_key(|(at, _)| *at)
    {
        filled.push(&rest[..at]);
        filled.push(path);
        rest = &rest[at + name.len()..];
    }
    filled.push(rest);
    filled
}

/// The variable that its credentials come from, in words for a record.
pub(super) fn source(provider: &Provider, env: &[(OsString, OsString)]) -> Option<String> {
    let set = |name: &String| env.iter().any(|(n, v)| n == OsStr::new(name) && !v.is_empty());
    provider.credentials.iter().find(|name| set(name)).map(|name| format!("variable {name}"))
}

/// A place of its own; none when it lies in a HOME that there is not.
fn state(place: &str, env: &[(OsString, OsString)]) -> Option<StatePath> {
    let path = match place.strip_prefix("~/") {
        Some(below) => {
            let home = env.iter().find(|(n, _)| n == "HOME").map(|(_, v)| PathBuf::from(v))?;
            home.is_absolute().then(|| home.join(below))?
        }
        None => PathBuf::from(place),
    };
    let is_json = path.extension().is_some_and(|end| end == "json");
    Some(if is_json { StatePath::JsonFile(path) } else { StatePath::Folder(path) })
}
