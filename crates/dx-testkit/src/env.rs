//! `TestEnv`: a world of its own for one test.
//!
//! For: every test that starts a process. Home, XDG folders, state, temporary files and PATH are the test's own.
//! Called by: tests; make one per test, keep it alive as long as anything it started.
//! Must never: let anything of the caller's environment through, or survive with processes running: dropping it
//! kills, by an unforgeable mark in their environment, whatever it started and whatever that started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::run::{self, Output, RunError};
use crate::{agent, git, processes};

/// The mark in the environment of every process a `TestEnv` starts itself; its value is unique per `TestEnv`.
pub const ENV_MARKER: &str = "DX_TESTKIT_ENV";

/// Variables whose value lies below the environment's root. Jobs get a clean environment without our mark, but
/// with at least one of these.
const ROOTED: [&str; 8] = [
    "HOME",
    "TMPDIR",
    "DX_RUNNER_STATE_DIR",
    "DX_RUNNER_EXTRA_ALLOWED_PREFIXES",
    "XDG_STATE_HOME",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
];

/// How long a command may run unless the test says otherwise.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long clean-up tries to kill what is left.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// Between two looks at what still runs.
const LOOK: Duration = Duration::from_millis(20);

/// A hermetic environment: folders, variables, commands with deadlines, clean-up.
#[derive(Debug)]
pub struct TestEnv {
    root: tempfile::TempDir,
    id: String,
    program: Option<PathBuf>,
    deadline: Duration,
    extra: Vec<(OsString, OsString)>,
}

impl Default for TestEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl TestEnv {
    /// Makes the folders. The state folder is left for the product to make.
    ///
    /// With `DX_TESTKIT_KEEP` in the caller's environment the folders stay after the test, and their place is printed.
    ///
    /// # Panics
    /// When the temporary folder cannot be made.
    #[track_caller]
    pub fn new() -> Self {
        // A short path: sockets below it must fit in 108 bytes.
        let made = tempfile::Builder::new().prefix("dxt-").tempdir();
        let mut root = made.unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        if std::env::var_os("DX_TESTKIT_KEEP").is_some() {
            root.disable_cleanup(true);
            #[allow(clippy::print_stderr, reason = "asked for by the variable; shown with the test's output")]
            {
                eprintln!("DX_TESTKIT_KEEP: {}", root.path().display());
            }
        }
        let name = root.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let id = format!("{}.{name}", std::process::id());
        let env = Self { root, id, program: None, deadline: DEADLINE, extra: Vec::new() };
        for name in ["home", "tmp", "bin", "xdg/state", "xdg/data", "xdg/config", "xdg/cache", "repos"] {
            let folder = env.path(name);
            std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        env
    }

    /// Says which program `run` runs: `env!("CARGO_BIN_EXE_dx-runner")`.
    pub fn dx_runner(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Changes the deadline of `run` and its relatives (60 s).
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Sets a variable for every later command of this environment.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.extra.push((name.into(), value.into()));
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path below the root.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root().join(relative)
    }

    /// `HOME`.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// `DX_RUNNER_STATE_DIR`; it does not exist until the product makes it.
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// The prefix below which worktrees are allowed (`DX_RUNNER_EXTRA_ALLOWED_PREFIXES`).
    pub fn allowed_root(&self) -> PathBuf {
        self.path("repos")
    }

    /// The first folder of PATH, the test's own.
    pub fn bin_dir(&self) -> PathBuf {
        self.path("bin")
    }

    /// The value of `ENV_MARKER` in what this environment starts.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Puts a link to `target` into PATH under `name` and returns its path.
    #[track_caller]
    pub fn link_program(&self, name: &str, target: impl AsRef<Path>) -> PathBuf {
        let link = self.bin_dir().join(name);
        let made = std::os::unix::fs::symlink(target, &link);
        made.unwrap_or_else(|error| panic!("{}: {error}", link.display()));
        link
    }

    /// The path of the fake agent's binary; see `fake_agent`.
    #[track_caller]
    pub fn fake_agent(&self) -> PathBuf {
        agent::fake_agent()
    }

    /// A command in this environment: nothing inherited, current directory at the root, found on its own PATH.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let mut path = self.bin_dir().into_os_string();
        path.push(":/usr/local/bin:/usr/bin:/bin");
        command
            .env_clear()
            .current_dir(self.root())
            .env("PATH", path)
            .env("HOME", self.home())
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_STATE_HOME", self.path("xdg/state"))
            .env("XDG_DATA_HOME", self.path("xdg/data"))
            .env("XDG_CONFIG_HOME", self.path("xdg/config"))
            .env("XDG_CACHE_HOME", self.path("xdg/cache"))
            .env("DX_RUNNER_STATE_DIR", self.state_dir())
            .env("DX_RUNNER_EXTRA_ALLOWED_PREFIXES", self.allowed_root())
            // Test agents leave their marks beside the worktree; tests of the sandbox take this away.
            .env("DX_RUNNER_SANDBOX_WRITE", self.root())
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .env("TERM", "dumb")
            .env(ENV_MARKER, &self.id);
        git::isolate(&mut command);
        command.envs(self.extra.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A command of the program given to `dx_runner`.
    ///
    /// # Panics
    /// When `dx_runner` was not called.
    #[track_caller]
    pub fn product(&self) -> Command {
        let Some(program) = &self.program else { panic!("this TestEnv was made without .dx_runner(path)") };
        self.command(program)
    }

    /// Runs the product with `args` to its end, stdin empty.
    ///
    /// # Panics
    /// With everything printed: past the deadline (it is killed), or when its output stays open after it exited.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Output {
        let mut command = self.product();
        command.args(args);
        self.run_command(command)
    }

    /// Like `run`, with `stdin` written and closed.
    #[track_caller]
    pub fn run_with_stdin<S: AsRef<OsStr>>(&self, args: &[S], stdin: impl AsRef<[u8]>) -> Output {
        let mut command = self.product();
        command.args(args);
        finish(self.try_run(command, stdin.as_ref()))
    }

    /// Like `run`, for any command made by `command` or `product`.
    #[track_caller]
    pub fn run_command(&self, command: Command) -> Output {
        finish(self.try_run(command, b""))
    }

    /// Like `run_command`, with the failure as a value.
    pub fn try_run(&self, command: Command, stdin: &[u8]) -> Result<Output, RunError> {
        run::run(command, stdin, self.deadline)
    }

    /// Makes a git repository `name` below `allowed_root` with `files` (path, content) in one commit on `main`.
    #[track_caller]
    pub fn git_repo(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.allowed_root().join(name);
        git::create(&|| self.command("git"), &folder, files);
        folder
    }

    /// Runs git in `folder` and returns its stdout; panics with its stderr when it fails.
    #[track_caller]
    pub fn git(&self, folder: impl AsRef<Path>, args: &[&str]) -> String {
        git::call(self.command("git"), folder.as_ref(), args)
    }

    /// Panics, naming them, when processes of this environment still run after `limit`; none does afterwards.
    #[track_caller]
    pub fn assert_ended(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while Instant::now() < end && !processes::processes_where(&self.is_mine()).is_empty() {
            std::thread::sleep(LOOK);
        }
        assert_eq!(self.kill_leftovers(), Vec::<String>::new());
    }

    /// Kills whatever still runs and belongs to this environment; returns one line about each.
    ///
    /// Dropping does the same; a test calls this to see what was left.
    pub fn kill_leftovers(&self) -> Vec<String> {
        processes::kill_where(&self.is_mine(), CLEAN_UP)
    }

    /// Whether an entry of a process's environment tells that it is one of this environment.
    fn is_mine(&self) -> impl Fn(&[u8]) -> bool + use<> {
        let mark = format!("{ENV_MARKER}={}", self.id).into_bytes();
        let root = self.root().as_os_str().as_bytes().to_vec();
        move |entry| entry == mark || is_rooted(entry, &root)
    }
}

/// Whether `entry` is one of `ROOTED` with a value at or below `root`.
fn is_rooted(entry: &[u8], root: &[u8]) -> bool {
    ROOTED.iter().any(|name| {
        let value = entry.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        let rest = value.and_then(|value| value.strip_prefix(root));
        rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
    })
}

#[track_caller]
fn finish(result: Result<Output, RunError>) -> Output {
    result.unwrap_or_else(|error| panic!("the command {error}"))
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        drop(self.kill_leftovers());
    }
}

#[cfg(test)]
mod tests {
    use super::is_rooted;

    #[test]
    fn an_entry_is_rooted_only_below_the_root_and_under_a_known_name() {
        let root = b"/tmp/dxt-a";
        assert!(is_rooted(b"HOME=/tmp/dxt-a", root));
        assert!(is_rooted(b"TMPDIR=/tmp/dxt-a/tmp", root));
        assert!(!is_rooted(b"TMPDIR=/tmp/dxt-ab/tmp", root));
        assert!(!is_rooted(b"PWD=/tmp/dxt-a", root));
        assert!(!is_rooted(b"HOME=/tmp", root));
    }
}
