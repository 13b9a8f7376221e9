//! Adapter scripts: `NAME.sh` in the user's folder of adapters, for people who come with shell functions.
//!
//! `adapter_start` starts the job and may return; the launcher above it then has the job as its own child, and what the
//! functions print is believed only where it can be seen. Must never: run a script that others can change.

use super::ask::{AskError, ask};
use super::provider::{Channel, Origin, Provider};
use super::{Resolved, Wish};
use crate::error::EngineError;
use crate::settings::check_script;
use dx_protocol::{Grammar, ProviderName, ReasonCode, SCRIPT_PREFIX};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A function other than `adapter_start` may take so long.
const DEADLINE: Duration = Duration::from_mins(1);
/// The shell that starts the job. It ends as `adapter_start` does: it may be the job itself.
const START: &str = ". \"$1\" || exit 1; shift; adapter_start \"$@\"";
/// The shell for another function; with `-` as its first word it is no failure when there is no such function.
const CALL: &str = ". \"$1\" || exit 1; shift; if ! declare -F \"$1\" >/dev/null; then exit 127; fi; \"$@\"";
/// The shell that looks whether a job could be started at all.
const HAS_START: &str = ". \"$1\" || exit 1; declare -F adapter_start >/dev/null || exit 127";
/// `CALL` ends with this when there is no such function.
const NO_FUNCTION: i32 = 127;

/// The provider of a script; `taken` when another has its name, and only `script:NAME` means this one.
pub(super) fn provider(name: &str, path: PathBuf, taken: bool) -> Provider {
    Provider {
        name: if taken { format!("{SCRIPT_PREFIX}{name}") } else { name.to_owned() },
        description: "adapter script".to_owned(),
        origin: Origin::Script(path),
        program: Some("bash".to_owned()),
        prompt: Channel::File,
        resolve,
        ..Provider::default()
    }
}

/// The scripts of a folder: names and paths, sorted. What is no provider's name is passed over.
pub(crate) fn in_folder(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".sh")?.to_owned();
            let plain = name.parse::<ProviderName>().is_ok() && !name.starts_with(SCRIPT_PREFIX);
            plain.then(|| (name, entry.path()))
        })
        .collect();
    found.sort();
    found
}

fn path_of(provider: &Provider) -> &Path {
    match &provider.origin {
        Origin::Script(path) => path,
        // Only scripts come here.
        Origin::BuiltIn | Origin::Manifest(_) => Path::new("/dev/null"),
    }
}

fn resolve(provider: &Provider, wish: &Wish<'_>) -> Result<Resolved, EngineError> {
    let bash = provider.binary()?;
    let script = path_of(provider);
    check_script(script)?;
    if wish.agent.is_some() {
        return Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: format!("provider {} has no agents to choose from", provider.name),
            next_action: Some("start it without --agent".to_owned()),
        });
    }
    if run(provider, wish, HAS_START, &["adapter_start"], ReasonCode::AdapterFailed)?.is_none() {
        return Err(EngineError::Provider {
            reason: ReasonCode::AdapterFailed,
            message: format!("{} has no function adapter_start", script.display()),
            next_action: Some("add the function to the script".to_owned()),
        });
    }
    call(provider, wish, &["adapter_preflight"], ReasonCode::AdapterFailed)?;
    if let Some(model) = wish.model
        && let Some(listed) = call(provider, wish, &["adapter_list_models"], ReasonCode::AdapterFailed)?
        && !wish.allow_model_override
        && !listed.lines().any(|line| line.trim() == model)
    {
        return Err(EngineError::Provider {
            reason: ReasonCode::ProviderModelUnavailable,
            message: format!("model `{model}` is not among those that adapter_list_models prints"),
            next_action: Some("--model with one of them, or --allow-model-override".to_owned()),
        });
    }
    let mut argv: Vec<OsString> = vec![bash.into()];
    argv.extend(["--noprofile", "--norc", "-c", START, "dx-adapter"].map(OsString::from));
    argv.push(script.as_os_str().to_owned());
    argv.push(wish.beads.into());
    argv.extend([wish.prompt_file, wish.worktree, wish.log].map(|path| path.as_os_str().to_owned()));
    let model = wish.model.map(|model| ("DX_RUNNER_MODEL", model.to_owned()));
    Ok(Resolved {
        argv,
        env: model.into_iter().collect(),
        grammar: Grammar::Text,
        prompt_on_stdin: false,
        prompt_channel: "file",
        selected_model: wish.model.unwrap_or("default").to_owned(),
        fallback_reason: "none".to_owned(),
        auth_source: "the adapter's own".to_owned(),
        base_url: "-".to_owned(),
        state: Vec::new(),
        adapter: true,
    })
}

/// Asks the script's model, where it can be asked.
pub(crate) fn probe(provider: &Provider, wish: &Wish<'_>) -> Result<(), EngineError> {
    let model = wish.model.unwrap_or_default();
    match call(provider, wish, &["adapter_probe_model", model], ReasonCode::ProbeFailed)? {
        Some(_) => Ok(()),
        None => Err(EngineError::Provider {
            reason: ReasonCode::NotSupported,
            message: "the script has no adapter_probe_model".to_owned(),
            next_action: Some("add the function to it".to_owned()),
        }),
    }
}

/// Tells the script that its job shall end, where it wants to know.
pub(crate) fn stop(provider: &Provider, wish: &Wish<'_>) -> Result<(), EngineError> {
    if !matches!(provider.origin, Origin::Script(_)) {
        return Ok(());
    }
    call(provider, wish, &["adapter_stop", wish.beads], ReasonCode::AdapterFailed).map(|_| ())
}

/// Calls a function of the script; what it printed, or `None` when there is no such function.
pub(super) fn call(
    provider: &Provider,
    wish: &Wish<'_>,
    words: &[&str],
    reason: ReasonCode,
) -> Result<Option<String>, EngineError> {
    run(provider, wish, CALL, words, reason)
}

fn run(
    provider: &Provider,
    wish: &Wish<'_>,
    shell: &str,
    words: &[&str],
    reason: ReasonCode,
) -> Result<Option<String>, EngineError> {
    let script = path_of(provider);
    check_script(script)?;
    let script = script.to_string_lossy();
    let args = [&["--noprofile", "--norc", "-c", shell, "dx-adapter", &script][..], words].concat();
    let failed = |message: String| EngineError::Provider {
        reason,
        message: format!("{} of {script} {message}", words[0]),
        next_action: None,
    };
    let answer = match ask(wish, &provider.binary()?, &args, &[], DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(message)) => return Err(failed(message)),
    };
    match answer.status.code() {
        Some(0) => Ok(Some(answer.stdout)),
        Some(NO_FUNCTION) if answer.stdout.is_empty() && answer.stderr.is_empty() => Ok(None),
        _ => {
            let said =
                answer.stderr.lines().chain(answer.stdout.lines()).rfind(|line| !line.trim().is_empty());
            Err(failed(format!("failed ({}): {}", answer.status, said.unwrap_or("it printed nothing"))))
        }
    }
}
