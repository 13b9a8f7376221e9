//! One tiny question to a model through the provider's own program, in an empty folder, judged by the same grammar as a job.
//!
//! Must never: run in a worktree, outlive its deadline, or leave a process or a file.

use super::Look;
use crate::asked::Asked;
use crate::environment;
use crate::error::EngineError;
use crate::providers::{Origin, PROMPT, Resolved, checks, script};
use crate::secrets::mask_text;
use crate::settings::{ALLOW_MODEL_OVERRIDE, MODEL};
use dx_events::{Parser, Summary, stderr_event};
use dx_jobdir::disk;
use dx_protocol::{Grammar, Level, PreflightRow, ProviderVerdict, ReasonCode};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The whole question.
const QUESTION: &str = "Answer with the single word READY. Use no tool.";
/// An agent that tries again and again is not ready.
const DEADLINE: Duration = Duration::from_mins(1);
/// No more of an answer is read.
const MOST_BYTES: u64 = 4 << 20;

impl Look<'_> {
    /// Asks. An agent that cannot even be started is refused as a job would be.
    pub(super) fn live(&self) -> Result<PreflightRow, EngineError> {
        let provider = self.provider.as_ref();
        if provider.program.is_none() {
            return Err(EngineError::Provider {
                reason: ReasonCode::NotSupported,
                message: format!("provider {} has no model that could be asked", provider.name),
                next_action: None,
            });
        }
        let folder = Folder::new(&self.state.cache_dir())?;
        let mut env = provider.environment();
        let model = self.settings.text(&MODEL)?;
        let progress = |what: &str| self.engine.progress(what);
        let prompt = folder.path("prompt");
        disk::replace(&prompt, QUESTION.as_bytes())?;
        let resolved = {
            let override_allowed = self.settings.is_on(&ALLOW_MODEL_OVERRIDE)?;
            let mut wish = self.wish(&env, model.as_deref(), override_allowed, &folder.work, &progress)?;
            wish.prompt_file = &prompt;
            if matches!(provider.origin, Origin::Script(_)) {
                return Ok(match script::probe(provider, &wish) {
                    Ok(()) => checks::ok(provider, "live", "adapter_probe_model is content".to_owned()),
                    Err(error) => self.refused("live", &error),
                });
            }
            (provider.resolve)(provider, &wish)?
        };
        for (name, value) in &resolved.env {
            environment::set(&mut env, name, value);
        }
        environment::set(&mut env, "TMPDIR", folder.path("tmp"));
        self.engine.progress(&format!("asking {} for one word …", provider.name));
        let ended = run(&resolved, &env, &folder, &prompt)?;
        let Some(status) = ended else {
            let message = format!("no answer in {} s", DEADLINE.as_secs());
            return Ok(self.failed(ReasonCode::ProbeTimeout, &message));
        };
        Ok(match judge(&resolved, &folder, status) {
            Ok(()) => checks::ok(provider, "live", format!("{} answered", resolved.selected_model)),
            Err((class, message)) => {
                let code = class.map_or(ReasonCode::ProbeFailed, |class| {
                    ReasonCode::of_agent_error(&provider.name, class)
                });
                self.failed(code, &message)
            }
        })
    }

    fn failed(&self, code: ReasonCode, message: &str) -> PreflightRow {
        let mut row = checks::warn(self.provider, "live", code, mask_text(message).into_owned());
        row.level = Level::Error;
        row
    }
}

/// Runs the agent; `None` when it was ended at the deadline. Its whole tree is gone afterwards.
fn run(
    resolved: &Resolved,
    env: &[(OsString, OsString)],
    folder: &Folder,
    prompt: &Path,
) -> Result<Option<ExitStatus>, EngineError> {
    let io = |source| EngineError::Io { what: "start the agent for a probe", source };
    let argv: Vec<OsString> =
        resolved.argv.iter().map(|arg| if arg == PROMPT { QUESTION.into() } else { arg.clone() }).collect();
    let program = argv.first().cloned().unwrap_or_default();
    let stdin =
        if resolved.prompt_on_stdin { Stdio::from(File::open(prompt).map_err(io)?) } else { Stdio::null() };
    let mut command = Command::new(program);
    command
        .args(argv.iter().skip(1))
        .env_clear()
        .envs(env.iter().map(|(n, v)| (n, v)))
        .current_dir(&folder.work)
        .stdin(stdin)
        .stdout(File::create(folder.path("out")).map_err(io)?)
        .stderr(File::create(folder.path("err")).map_err(io)?)
        .process_group(0);
    let mut asked = Asked::start(&mut command).map_err(io)?;
    let status = asked.wait(DEADLINE).map_err(io)?;
    asked.sweep();
    Ok(status)
}

/// Whether it answered; else of which class the error is, where one was told, and its words.
fn judge(
    resolved: &Resolved,
    folder: &Folder,
    status: ExitStatus,
) -> Result<(), (Option<dx_protocol::ErrorClass>, String)> {
    let read = |name: &str| dx_jobdir::read_bounded(&folder.path(name), MOST_BYTES).unwrap_or_default();
    let (out, err) = (read("out"), read("err"));
    let mut summary = Summary::new(resolved.grammar);
    let mut parser = Parser::new(resolved.grammar);
    let mut answer = String::new();
    let mut take = |_, event: dx_protocol::AgentEvent| {
        if let dx_protocol::AgentEvent::Text { text } = &event {
            answer.push_str(text);
        }
        summary.apply(&event);
    };
    parser.feed(&out, &mut take);
    parser.finish(&mut take);
    for line in String::from_utf8_lossy(&err).lines() {
        if let Some(event) = stderr_event(resolved.grammar, line) {
            summary.apply(&event);
        }
    }
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(|line| line.trim().chars().take(300).collect())
    };
    let ended = || {
        last(&err)
            .or_else(|| last(&out))
            .map_or_else(|| status.to_string(), |line: String| format!("{status}: {line}"))
    };
    match summary.verdict() {
        ProviderVerdict::Failed { class, message, .. } => Err((Some(class), message)),
        ProviderVerdict::Refused { what } => Err((None, format!("it was refused {what}"))),
        ProviderVerdict::NoResult => Err((None, format!("it told no result ({})", ended()))),
        _ if !status.success() => Err((None, ended())),
        _ if answer.trim().is_empty() && resolved.grammar != Grammar::Text => {
            Err((None, "it ended well and answered nothing".to_owned()))
        }
        _ if answer.trim().is_empty() => Err((None, "it printed nothing".to_owned())),
        _ => Ok(()),
    }
}

/// A folder that goes with the value.
struct Folder {
    root: PathBuf,
    work: PathBuf,
}

impl Folder {
    fn new(cache: &Path) -> Result<Self, EngineError> {
        disk::make_dir(cache)?;
        let root = cache.join(format!(".probe-{}-{}", std::process::id(), dx_proc::clock::monotonic_ms()));
        let folder = Self { work: root.join("work"), root };
        for path in [&folder.root, &folder.work, &folder.path("tmp")] {
            disk::make_dir(path)?;
        }
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.root);
    }
}
