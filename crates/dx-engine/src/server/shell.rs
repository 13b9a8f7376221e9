//! The shell in which tools of our servers run their commands: the user's own, with a word in its environment that tells
//! which call of a tool began it. All that comes from the call inherits that, whatever becomes of its parents.
//!
//! A server tells its tools nothing of their session, and takes any shell. So the word is the time and the command's hash,
//! which are also in the session's messages.
//!
//! Called by: who starts a server, and the hidden entry. Must never: keep a command from running as it would without us.

use crate::prompt::sha256_hex;
use crate::settle::Programs;
use dx_jobdir::{DiskError, StateDir, disk};
use dx_proc::{clock, tree};
use rustix::fs::StatVfsMountFlags;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The hidden entry: `dx-runner __shell <shell> <arguments of the shell>…`.
pub const SHELL: &str = "__shell";
/// The word's variable.
const CALL: &str = "DX_RUNNER_CALL";
/// OpenCode takes another one instead of these.
const REFUSED: [&str; 2] = ["fish", "nu"];
/// So much of a hash.
const DIGITS: usize = 16;

/// Which call began a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Began {
    pub(crate) at_ms: i64,
    command: String,
}

impl Began {
    /// What the environment of a process tells.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::read(&tree::variable(pid, CALL)?)
    }

    fn read(word: &str) -> Option<Self> {
        let (at, command) = word.split_once('-')?;
        Some(Self { at_ms: at.parse().ok()?, command: command.to_owned() })
    }

    fn word(&self) -> String {
        format!("{}-{}", self.at_ms, self.command)
    }

    /// Whether it was this command.
    pub(crate) fn is_of(&self, command: &str) -> bool {
        self.command == hash(command.as_bytes())
    }
}

fn hash(command: &[u8]) -> String {
    sha256_hex(command)[..DIGITS].to_owned()
}

/// Puts it there for a server's environment; `None` where no such program can be run: the server then has the user's shell.
pub(super) fn install(state: &StateDir) -> Result<Option<PathBuf>, DiskError> {
    let (Some(shell), Ok(programs)) = (users(), Programs::find()) else { return Ok(None) };
    let folder = state.server_shell_dir();
    disk::make_dir(&folder)?;
    let runs = rustix::fs::statvfs(&folder).is_ok_and(|fs| !fs.f_flag.contains(StatVfsMountFlags::NOEXEC));
    // One that was replaced while it runs has no name that lasts.
    if !runs || programs.runner.starts_with("/proc") {
        return Ok(None);
    }
    let (Some(name), Some(ours), Some(theirs)) =
        (shell.file_name(), quoted(&programs.runner), quoted(&shell))
    else {
        return Ok(None);
    };
    let path = folder.join(name);
    let text = format!(
        "#!/bin/sh\n# Written by dx-runner: the shell of tools in its OpenCode server.\n\
         [ ! -x {ours} ] || exec {ours} {SHELL} {theirs} \"$@\"\nexec {theirs} \"$@\"\n"
    );
    disk::replace_program(&path, text.as_bytes())?;
    Ok(Some(path))
}

/// The shell that OpenCode would take.
fn users() -> Option<PathBuf> {
    let named = std::env::var_os("SHELL").map(PathBuf::from);
    let good = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        path.is_absolute() && path.is_file() && !REFUSED.iter().any(|refused| name == *refused)
    };
    let others = ["/bin/bash", "/usr/bin/bash", "/bin/sh"].map(PathBuf::from);
    named.into_iter().chain(others).find(good)
}

fn quoted(path: &Path) -> Option<String> {
    Some(format!("'{}'", path.to_str()?.replace('\'', "'\\''")))
}

/// Becomes the shell; an exit code only when it could not.
pub fn shell(args: &[OsString]) -> i32 {
    let Some((shell, args)) = args.split_first() else { return 127 };
    let command = args.last().map(|command| hash(command.as_bytes())).unwrap_or_default();
    let word = Began { at_ms: clock::now_ms(), command }.word();
    let error = Command::new(shell).args(args).env(CALL, word).env("SHELL", shell).exec();
    let _told = writeln!(std::io::stderr(), "{}: {error}", shell.display());
    127
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_tells_the_command() {
        let began = Began { at_ms: 17, command: hash(b"make && make test") };
        assert_eq!(Began::read(&began.word()), Some(began.clone()));
        assert!(began.is_of("make && make test") && !began.is_of("make"));
        assert_eq!(
            (Began::read("x-y"), Began::read("7"), quoted(Path::new("/a'b"))),
            (None, None, Some("'/a'\\''b'".to_owned()))
        );
    }
}
