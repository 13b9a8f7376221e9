//! One git command on exactly one repository, with what the plain form of [`Repository::git`] has no room for: another
//! index, standard input, an identity, an exit code that is an answer. Must never call git without the overrides.

use super::{Repository, base, ended, failed, is_unanswered, overrides};
use crate::error::EngineError;
use std::ffi::OsString;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

impl Repository {
    /// The commit that a name means; `None` when there is none. A git that was killed has not said so.
    pub(crate) fn commit_of(&self, name: &str) -> Result<Option<String>, EngineError> {
        if name.starts_with('-') {
            return Ok(None);
        }
        let wanted = format!("{name}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", &wanted];
        let output = Call::new(self, &args).output()?;
        match output.status.code() {
            Some(0) => Ok(Some(super::line(&output.stdout))),
            Some(1) => Ok(None),
            _ => Err(ended(&args, &output)),
        }
    }
}

/// A command that is being put together.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    repository: &'a Repository,
    args: Vec<&'a str>,
    env: Vec<(&'static str, OsString)>,
    stdin: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(repository: &'a Repository, args: &[&'a str]) -> Self {
        Self { repository, args: args.to_vec(), env: Vec::new(), stdin: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Works on this index instead of the worktree's own.
    pub(crate) fn index(self, path: &std::path::Path) -> Self {
        self.env("GIT_INDEX_FILE", path)
    }

    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    /// Starts it, with pipes on all three streams.
    pub(crate) fn start(self) -> Result<Child, EngineError> {
        let (mut command, args) = (self.command()?, self.args);
        command.stdin(Stdio::piped()).spawn().map_err(|e| failed(&args, e.to_string()))
    }

    fn command(&self) -> Result<Command, EngineError> {
        let Self { repository, args, env, .. } = self;
        let here = || {
            let mut command = base();
            command
                .env("GIT_DIR", &repository.git_dir)
                .env("GIT_COMMON_DIR", &repository.common_dir)
                .env("GIT_WORK_TREE", &repository.work_tree)
                .arg("-C")
                .arg(&repository.work_tree);
            command
        };
        let mut command = here();
        if repository.may_name_programs().map_err(|e| failed(args, format!("its configuration: {e}")))? {
            command.args(overrides(here())?);
        }
        command.envs(env.iter().map(|(name, value)| (name, value))).args(args);
        Ok(command)
    }

    /// Runs it, whatever its exit code.
    pub(crate) fn output(self) -> Result<Output, EngineError> {
        let output = self.once()?;
        if is_unanswered(&self.args, &output) { self.once() } else { Ok(output) }
    }

    fn once(&self) -> Result<Output, EngineError> {
        let mut command = self.command()?;
        let Self { args, stdin, .. } = self;
        if !stdin.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(|e| failed(args, e.to_string()))?;
        let pipe = child.stdin.take();
        let output = std::thread::scope(|scope| {
            if let Some(mut pipe) = pipe {
                // One that reads no more tells why with its exit code.
                scope.spawn(move || pipe.write_all(stdin));
            }
            child.wait_with_output()
        });
        output.map_err(|e| failed(args, e.to_string()))
    }

    /// Runs it; the standard output of one that succeeded.
    pub(crate) fn run(self) -> Result<Vec<u8>, EngineError> {
        let args = self.args.clone();
        let output = self.output()?;
        if output.status.success() { Ok(output.stdout) } else { Err(ended(&args, &output)) }
    }

    /// Runs it; the first line, which for most plumbing is an object's name.
    pub(crate) fn line(self) -> Result<String, EngineError> {
        Ok(super::line(&self.run()?))
    }
}
