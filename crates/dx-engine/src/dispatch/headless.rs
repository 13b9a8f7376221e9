//! Members that are agents' own command lines: one short run, in an empty folder or in the one that is asked about, with no
//! tool that writes.
//!
//! The program, its environment and its credentials are those of the provider's jobs; the arguments are not: a question
//! changes nothing. A schema goes into the words, and the answer is checked here.
//!
//! Must never: leave a process or a file behind, or put a prompt on a command line.

use super::answer::Raw;
use super::cli::{Cli, gemini_folder, gemini_policy};
use super::open::{Open, Sessions};
use super::schema::{CORRECTIONS, Schema, correction};
use super::{Failure, Question};
use crate::Engine;
use crate::asked::Asked;
use crate::environment;
use crate::error::EngineError;
use crate::providers::{Provider, Wish, codex_options};
use dx_events::{Parser, Summary, stderr_event, trouble_of};
use dx_jobdir::{StateDir, disk};
use dx_protocol::{AgentEvent, ErrorClass, Grammar, ProviderVerdict, ReasonCode, RunUuid, Trouble};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// No more of an answer is read.
const MOST_BYTES: u64 = 8 << 20;
/// No text of an answer is longer.
const MOST_TEXT: usize = 1 << 20;
/// How often a wait looks whether it is still wanted.
const GLANCE_MS: u64 = 50;
/// What is said of an answer without a word.
const NOTHING_SAID: &str = "returned an empty response";
/// An agent may try again once; beyond this attempt it only loses time.
const MOST_ATTEMPTS: u32 = 2;

/// A program that is ready to be asked.
struct Ready<'a> {
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    grammar: Grammar,
    folder: &'a Folder,
    place: PathBuf,
    mark: &'a RunUuid,
}

/// Asks, and corrects an answer that does not fit.
pub(super) fn ask(
    engine: &Engine,
    cli: Cli,
    model: &str,
    question: &Question<'_>,
    directory: Option<&Path>,
) -> Result<Raw, Failure> {
    let state = engine.state()?;
    engine.sweep_questions(&state, Sessions::None);
    // The record goes after the folder.
    let open = Open::of_agent(&state)?;
    let folder = Folder::new(&state, open.mark())?;
    let ready = prepare(engine, cli, model, question.reads, directory, (&folder, open.mark()))?;
    let mut raw = Raw::default();
    let begun = worded(question.system, question.prompt, question.schema);
    let mut prompt = begun.clone();
    loop {
        raw.text = once(&ready, &prompt, question, &mut raw).map_err(|failure| advised(cli, failure))?;
        let Some(schema) = question.schema else { return Ok(raw) };
        match schema.value_in(&raw.text) {
            Ok(value) => {
                raw.structured = Some(value);
                return Ok(raw);
            }
            Err(_) if raw.text.trim().is_empty() => return Ok(raw),
            Err(problems) if raw.corrections >= CORRECTIONS => {
                return Err(Failure::new(ReasonCode::SchemaMismatch, problems.join("; ")));
            }
            Err(problems) => {
                raw.corrections += 1;
                // Each run is a new conversation.
                prompt = format!("{begun}\n\nYou answered:\n{}\n\n{}", raw.text, correction(&problems));
            }
        }
    }
}

/// With what one does about credentials of this agent, which are not OpenCode's.
fn advised(cli: Cli, failure: Failure) -> Failure {
    match failure.reason {
        ReasonCode::AuthMissing if failure.next_action.is_none() => {
            let next = ReasonCode::of_agent_error(cli.provider(), ErrorClass::Auth).next_action();
            failure.with(next)
        }
        _ => failure,
    }
}

/// The prompt with all that has to be said in words.
fn worded(system: Option<&str>, prompt: &str, schema: Option<&Schema>) -> String {
    let mut text = system.map(|system| format!("{system}\n\n")).unwrap_or_default();
    text.push_str(prompt);
    if let Some(schema) = schema {
        text.push_str("\n\nAnswer with nothing but one JSON value that fits this JSON schema:\n");
        text.push_str(&schema.value.to_string());
    }
    text
}

fn prepare<'a>(
    engine: &Engine,
    cli: Cli,
    model: &str,
    reads: bool,
    directory: Option<&Path>,
    (folder, mark): (&'a Folder, &'a RunUuid),
) -> Result<Ready<'a>, EngineError> {
    let settings = engine.layers(None, None)?;
    let provider = settings.providers.find(&cli.provider().parse()?)?;
    let settings = settings.with_provider(std::sync::Arc::clone(&provider));
    let provider: &Provider = &provider;
    let mut env = provider.environment();
    let about = directory.map(|path| {
        let real = path.canonicalize().ok().filter(|path| path.is_dir());
        real.ok_or_else(|| EngineError::WorktreeMissing(path.to_owned()))
    });
    let about = about.transpose()?;
    let place = about.clone().filter(|_| cli.works_there()).unwrap_or_else(|| folder.path("work"));
    let state = engine.state()?;
    let wish = Wish {
        state: &state,
        server: None,
        worktree: &place,
        repository: None,
        beads: "dispatch",
        log: Path::new("/dev/null"),
        model: Some(model),
        allow_model_override: true,
        agent: None,
        confined: false,
        command: &[],
        has_prompt: true,
        prompt_file: Path::new("/dev/null"),
        env: &env,
        progress: &|what| engine.progress(what),
        settings: &settings,
        list_age: None,
    };
    let resolved = (provider.resolve)(provider, &wish)?;
    let program = resolved.argv.first().cloned().unwrap_or_default();
    let mut args = cli.args(model, reads);
    if cli == Cli::Gemini {
        let policy = folder.path("policy.toml");
        disk::replace(&policy, gemini_policy(reads).as_bytes())?;
        args.extend(["--policy".into(), policy.into_os_string()]);
        if let Some(about) = &about {
            args.extend(["--include-directories".into(), gemini_folder(about)?]);
        }
    }
    if cli == Cli::Codex {
        // Behind its command, before the model and what stands for the prompt.
        args.splice(1..1, codex_options(&wish, Path::new(&program), reads)?);
    }
    for (name, value) in &resolved.env {
        environment::set(&mut env, name, value);
    }
    environment::set(&mut env, "TMPDIR", folder.path("tmp"));
    if cli == Cli::Claude {
        // It would try again for minutes, in silence.
        environment::set(&mut env, "CLAUDE_CODE_MAX_RETRIES", "1");
    }
    crate::secrets::also(&crate::secrets::of_environment(&env, &[]));
    let argv = std::iter::once(program).chain(args).collect();
    Ok(Ready { argv, env, grammar: resolved.grammar, folder, place, mark })
}

/// One run; what was said last.
fn once(ready: &Ready<'_>, prompt: &str, question: &Question<'_>, raw: &mut Raw) -> Result<String, Failure> {
    let io = |source| Failure::from(EngineError::Io { what: "start the agent for a question", source });
    let file = ready.folder.path("prompt");
    disk::replace(&file, prompt.as_bytes()).map_err(EngineError::from)?;
    let mut command = Command::new(ready.argv.first().cloned().unwrap_or_default());
    command
        .args(ready.argv.iter().skip(1))
        .env_clear()
        .envs(ready.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&ready.place)
        .stdin(Stdio::from(File::open(&file).map_err(io)?))
        .stdout(File::create(ready.folder.path("out")).map_err(io)?)
        .stderr(File::create(ready.folder.path("err")).map_err(io)?)
        .process_group(0);
    let mut asked = Asked::start_marked(&mut command, ready.mark.clone()).map_err(io)?;
    let mut beside = Beside::new(ready);
    let status = wait(&mut asked, question, &mut beside);
    asked.sweep();
    let heard = Heard::read(ready, raw);
    match status {
        Ok(status) => heard.judge(status),
        Err(failure) if failure.reason == ReasonCode::Timeout => {
            Err(heard.trouble().or_else(|| beside.stands()).unwrap_or(failure))
        }
        Err(failure) => Err(failure),
    }
}

/// Until it has ended; at the deadline, or when it is given up, it is ended with all that it began.
fn wait(asked: &mut Asked, question: &Question<'_>, beside: &mut Beside<'_>) -> Result<ExitStatus, Failure> {
    let failed = |error: String| Failure::new(ReasonCode::Internal, error);
    let exit = asked.exit().map_err(|error| failed(error.to_string()))?;
    loop {
        if exit.is_exited().map_err(|error| failed(error.to_string()))? {
            return asked.child.wait().map_err(|error| failed(error.to_string()));
        }
        let wanted = question.still_wanted();
        if wanted.is_err() || question.left().is_zero() {
            asked.end();
            return Err(wanted.err().unwrap_or_else(|| question.late("the agent had not ended")));
        }
        if let Some(failure) = beside.look() {
            asked.end();
            return Err(failure);
        }
        dx_proc::poll::poll(&[exit.as_fd()], Some(GLANCE_MS)).map_err(|error| failed(error.to_string()))?;
    }
}

/// What an agent tells on its standard error of calls that it tries again.
///
/// That file and its output have no common order. So it is watched: what the output holds when one more try is told came
/// before it, and what comes later shows that it was got over.
struct Beside<'a> {
    ready: &'a Ready<'a>,
    /// So much was looked at.
    length: u64,
    tries: usize,
    /// The last try, and the length of the output by then.
    last: Option<(u32, Trouble, u64)>,
}

impl<'a> Beside<'a> {
    fn new(ready: &'a Ready<'a>) -> Self {
        Self { ready, length: 0, tries: 0, last: None }
    }

    fn length_of(&self, name: &str) -> u64 {
        std::fs::metadata(self.ready.folder.path(name)).map_or(0, |metadata| metadata.len())
    }

    /// Looks at what is new; a failure when it has tried again often enough.
    fn look(&mut self) -> Option<Failure> {
        let length = self.length_of("err");
        if length == self.length {
            return None;
        }
        self.length = length;
        let text = dx_jobdir::read_bounded(&self.ready.folder.path("err"), MOST_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        // A line that is still being written is looked at when it is whole.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let tries = whole.lines().filter_map(|line| match stderr_event(self.ready.grammar, line)? {
            // Of the first line of one that takes two.
            AgentEvent::Retrying { attempt, status, message, .. } if attempt > 0 => {
                Some((attempt, trouble_of(status, &message)))
            }
            _ => None,
        });
        let tries: Vec<_> = tries.collect();
        if tries.len() > self.tries {
            self.tries = tries.len();
            let output = self.length_of("out");
            self.last = tries.into_iter().next_back().map(|(attempt, trouble)| (attempt, trouble, output));
        }
        let beyond = self.last.as_ref().is_some_and(|(attempt, ..)| *attempt >= MOST_ATTEMPTS);
        if beyond { self.stands() } else { None }
    }

    /// What it had not got over.
    fn stands(&self) -> Option<Failure> {
        let (attempt, trouble, length) = self.last.as_ref()?;
        let message = format!("{} (attempt {attempt}; it would try again)", trouble.message);
        (self.length_of("out") == *length).then(|| Failure::new(reason_of(trouble.class), message))
    }
}

/// What a run printed.
struct Heard {
    summary: Summary,
    /// After its last tool.
    said: String,
    /// The last line of its standard error.
    last: String,
}

impl Heard {
    fn read(ready: &Ready<'_>, raw: &mut Raw) -> Self {
        let read =
            |name: &str| dx_jobdir::read_bounded(&ready.folder.path(name), MOST_BYTES).unwrap_or_default();
        let (out, err) = (read("out"), read("err"));
        let mut summary = Summary::new(ready.grammar);
        let mut parser = Parser::with_text_max(ready.grammar, MOST_TEXT);
        let mut said: Vec<String> = Vec::new();
        let mut take = |_, event: AgentEvent| {
            match &event {
                AgentEvent::Text { text } => said.push(text.clone()),
                AgentEvent::ToolStarted { .. } | AgentEvent::ToolFinished { .. } => said.clear(),
                _ => {}
            }
            summary.apply(&event);
        };
        parser.feed(&out, &mut take);
        parser.finish(&mut take);
        let err = String::from_utf8_lossy(&err).into_owned();
        for line in err.lines() {
            if let Some(event) = stderr_event(ready.grammar, line) {
                summary.apply(&event);
            }
        }
        raw.tokens.0 += summary.usage.input_tokens;
        raw.tokens.1 += summary.usage.output_tokens;
        raw.cost = summary.usage.cost_usd.map(|cost| cost + raw.cost.unwrap_or(0.0)).or(raw.cost);
        let last = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last = last.trim().chars().take(300).collect();
        Self { summary, said: said.join("\n"), last }
    }

    /// What it was still trying to get over when it ended, or was ended: more than that it was late.
    fn trouble(&self) -> Option<Failure> {
        self.summary.trouble().map(|trouble| Failure::new(reason_of(trouble.class), trouble.message))
    }

    /// What it said, if it says that it went well.
    fn judge(self, status: ExitStatus) -> Result<String, Failure> {
        let last = &self.last;
        match self.summary.verdict() {
            // Gemini CLI takes that for an error of the API.
            ProviderVerdict::Failed { message, .. } if message.contains(NOTHING_SAID) => {
                Err(Failure::new(ReasonCode::EmptyResponse, message))
            }
            ProviderVerdict::Failed { class, message, .. } => Err(Failure::new(reason_of(class), message)),
            ProviderVerdict::NoResult => {
                let nothing = format!("it told no result ({status}: {last})");
                Err(self.trouble().unwrap_or_else(|| Failure::new(ReasonCode::ServerError, nothing)))
            }
            // A tool that was refused is no failure: it may have said so.
            _ if !status.success() => {
                Err(Failure::new(ReasonCode::ServerError, format!("it ended with {status}: {last}")))
            }
            _ => Ok(self.said),
        }
    }
}

fn reason_of(class: ErrorClass) -> ReasonCode {
    match class {
        ErrorClass::Auth => ReasonCode::AuthMissing,
        ErrorClass::RateLimit | ErrorClass::Quota | ErrorClass::Capacity => ReasonCode::RateLimited,
        ErrorClass::ModelUnavailable => ReasonCode::ModelNotFound,
        ErrorClass::Aborted => ReasonCode::Aborted,
        _ => ReasonCode::ServerError,
    }
}

/// A folder that goes with the value.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// That of the question with this mark.
    pub(super) fn of(state: &StateDir, mark: &RunUuid) -> Self {
        Self(state.cache_dir().join(format!(".dispatch-{mark}")))
    }

    fn new(state: &StateDir, mark: &RunUuid) -> Result<Self, EngineError> {
        disk::make_dir(&state.cache_dir())?;
        let folder = Self::of(state, mark);
        for path in [folder.0.clone(), folder.path("work"), folder.path("tmp")] {
            disk::make_dir(&path)?;
        }
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
