//! Asks the OpenCode on PATH about its settings and agents, without letting it write into a folder of the user's.
//!
//! Called by: `check --live` and `models`. Must never: give it a file of the user's that it writes by itself.

use super::target::WorkflowScope;
use crate::asked::Asked;
use crate::environment;
use crate::error::EngineError;
use crate::providers::opencode_headless;
use dx_jobdir::disk;
use dx_protocol::ReasonCode;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// A fresh home is set up by the first question.
const DEADLINE: Duration = Duration::from_mins(2);
/// Written by OpenCode in each folder that it reads settings from.
const WRITTEN: [&str; 7] = [
    "opencode.jsonc",
    "opencode.json",
    "config.json",
    ".gitignore",
    "package.json",
    "package-lock.json",
    "bun.lock",
];

/// Where OpenCode is asked, and what is set for it.
pub(super) struct Surroundings {
    pub(super) env: Vec<(&'static str, PathBuf)>,
    pub(super) here: PathBuf,
}

/// Makes a folder that reads like another one: copies of what OpenCode writes, links to all else; nothing for what is left out.
fn reflect(from: &Path, to: &Path, without: &[&str]) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let entries = match fs::read_dir(from) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        let is = |list: &[&str]| list.iter().any(|other| name == *other);
        if is(without) {
            continue;
        }
        let copy = to.join(&name);
        if is(&WRITTEN) && path.is_file() {
            fs::copy(&path, &copy)?;
        } else {
            std::os::unix::fs::symlink(fs::canonicalize(&path).unwrap_or(path), copy)?;
        }
    }
    Ok(())
}

/// How it ended, and what it said.
pub(super) struct Refusal {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

/// A folder that goes with the value.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new(cache: &Path) -> Result<Self, EngineError> {
        disk::make_dir(cache)?;
        let path = cache.join(format!(".workflow-{}", std::process::id()));
        let _stale = fs::remove_dir_all(&path);
        disk::make_dir(&path)?;
        Ok(Self(path))
    }

    /// The user's own settings, for OpenCode to read: it writes `$schema` and `.gitignore` beside what it reads, so it gets
    /// folders of ours, with copies of the files that it writes and links to all others.
    pub(super) fn mine(&self) -> Result<Surroundings, EngineError> {
        let io = |source| EngineError::Io { what: "copy OpenCode's settings", source };
        let named = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let mut env = Vec::new();
        let config = self.0.join("config");
        if let Some(mine) = environment::dir("XDG_CONFIG_HOME", ".config") {
            reflect(&mine, &config, &["opencode"]).map_err(io)?;
            reflect(&mine.join("opencode"), &config.join("opencode"), &[]).map_err(io)?;
            env.push(("XDG_CONFIG_HOME", config));
        }
        if let Some(home) = named("HOME").filter(|home| home.join(".opencode").is_dir()) {
            let copy = self.0.join("home");
            reflect(&home, &copy, &[".opencode"]).map_err(io)?;
            reflect(&home.join(".opencode"), &copy.join(".opencode"), &[]).map_err(io)?;
            env.push(("HOME", copy));
        }
        if let Some(folder) = named("OPENCODE_CONFIG_DIR") {
            let copy = self.0.join("own");
            reflect(&folder, &copy, &[]).map_err(io)?;
            env.push(("OPENCODE_CONFIG_DIR", copy));
        }
        if let Some(file) = named("OPENCODE_CONFIG").filter(|file| file.is_file()) {
            let (folder, copy) = (file.parent().unwrap_or(Path::new(".")), self.0.join("file"));
            let name = file.file_name().unwrap_or_default();
            reflect(folder, &copy, &[&name.to_string_lossy()]).map_err(io)?;
            fs::copy(&file, copy.join(name)).map_err(io)?;
            env.push(("OPENCODE_CONFIG", copy.join(name)));
        }
        let folder = WorkflowScope::Project.folder()?;
        let here = self.0.join("project");
        let top = folder.parent().unwrap_or(&folder);
        reflect(top, &here, &[".opencode", ".git"]).map_err(io)?;
        reflect(&folder, &here.join(".opencode"), &[]).map_err(io)?;
        // OpenCode looks for settings upwards, as far as the repository's top.
        fs::create_dir_all(here.join(".git/objects"))
            .and_then(|()| fs::create_dir_all(here.join(".git/refs")))
            .and_then(|()| fs::write(here.join(".git/HEAD"), "ref: refs/heads/main\n"))
            .map_err(io)?;
        Ok(Surroundings { env, here })
    }

    /// What OpenCode prints.
    pub(super) fn ask(&self, args: &[&str], around: &Surroundings) -> Result<String, EngineError> {
        self.try_ask(args, around)?.map_err(|refusal| {
            let said = refusal.said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
            failed(args, reason_of(args), &format!("ended with {}: {said}", refusal.status))
        })
    }

    /// The same, with its own refusal told apart from what keeps it from being asked.
    pub(super) fn try_ask(
        &self,
        args: &[&str],
        around: &Surroundings,
    ) -> Result<Result<String, Refusal>, EngineError> {
        let reason = reason_of(args);
        let failed = |reason, message: String| failed(args, reason, &message);
        // A file of our own is not OpenCode's fault.
        let ours = |source| EngineError::Io { what: "keep what OpenCode prints", source };
        let missing = || failed(ReasonCode::OpencodeBinaryMissing, "is not on PATH".to_owned());
        let binary = environment::find_program("opencode").ok_or_else(missing)?;
        let (out, err) = (self.0.join("out"), self.0.join("err"));
        let mut command = Command::new(binary);
        command
            .args(args)
            .envs(opencode_headless())
            // Before it loads a plugin it fetches a package that none of ours needs, and where there is no network that takes minutes.
            .env("npm_config_offline", "true")
            .envs(around.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&around.here)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).map_err(ours)?)
            .stderr(fs::File::create(&err).map_err(ours)?);
        let status = Asked::start(&mut command)
            .and_then(|mut asked| asked.wait(DEADLINE))
            .map_err(|error| failed(reason, error.to_string()))?;
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        match status {
            Some(status) if status.success() => Ok(Ok(text(&out))),
            Some(status) => Ok(Err(Refusal { status, said: text(&err) })),
            None => {
                let message = format!("did not answer in {} s", DEADLINE.as_secs());
                Err(failed(reason, message))
            }
        }
    }
}

fn reason_of(args: &[&str]) -> ReasonCode {
    match args.first() {
        Some(&"models") => ReasonCode::OpencodeModelsFailed,
        _ => ReasonCode::OpencodeAgentsFailed,
    }
}

fn failed(args: &[&str], reason: ReasonCode, message: &str) -> EngineError {
    let message = format!("`opencode {}` {message}", args.join(" "));
    EngineError::Provider { reason, message, next_action: None }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}
