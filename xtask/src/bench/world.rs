//! The throw-away place of a run: its own HOME, state directories, a repository; and what ends everything in it.
//!
//! For: every section.
//! Called by: `bench::run`.
//! Must never: leave a process or a file behind. A guard in its own process group waits for the end of this program by
//! a pipe, so that it cleans up after an error, Ctrl-C or SIGKILL too.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use super::measure::{parent, quiet, timed, until};
use crate::Failure;

/// How long agents of the benchmark would live if nobody stopped them, in seconds.
pub(super) const LIFE: &str = "1800";

/// Ends everything that has the folder `$1` in its environment, as every process that was started here has. The records
/// are thrown away with it, so nothing is asked to end.
const SWEEP: &str = r#"
tries=0
while [ "$tries" -lt 100 ]; do
    left=$(grep -lsaF "$1/" /proc/[0-9]*/environ | tr -dc '0-9\n')
    [ -n "$left" ] || break
    kill -KILL $left 2>/dev/null
    tries=$((tries + 1)); sleep 0.1
done
"#;

pub(super) struct World {
    root: PathBuf,
    runner: PathBuf,
    guard: Child,
}

impl World {
    pub(super) fn new(runner: &Path) -> Result<Self, Failure> {
        let root = std::env::temp_dir().join(format!("dx-bench-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&root);
        made.map_err(|error| format!("{}: {error}", root.display()))?;
        let mut guard = Command::new("sh");
        let script = format!("trap '' HUP INT TERM\ncat >/dev/null\n{SWEEP}\nrm -rf \"$1\"");
        guard.args(["-c", &script, "bench-guard"]).arg(&root).env_clear();
        guard.env("PATH", path()).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        let guard = guard.spawn().map_err(|error| format!("sh: {error}"))?;
        let world = Self { root, runner: runner.to_owned(), guard };
        for folder in ["home", "state", "bin"] {
            world.make_dir(folder)?;
        }
        world.make_repository()?;
        Ok(world)
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    pub(super) fn make_dir(&self, below: &str) -> Result<PathBuf, Failure> {
        let path = self.root.join(below);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    pub(super) fn write(&self, below: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.root.join(below);
        fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    pub(super) fn write_script(&self, below: &str, text: &str) -> Result<(), Failure> {
        let path = self.write(below, text.as_bytes())?;
        let runs = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        runs.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// A command with the benchmark's environment and no other, its streams closed.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.path("home")).current_dir(&self.root);
        command.env("PATH", format!("{}:{}", self.path("bin").display(), path()));
        command.env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
        quiet(command)
    }

    /// A git repository of 100 files, all committed.
    fn make_repository(&self) -> Result<(), Failure> {
        for n in 0..100 {
            self.make_dir(&format!("repo/part{}", n % 10))?;
            self.write(&format!("repo/part{}/file{n}.txt", n % 10), &vec![b'a' + (n % 26); 2_000])?;
        }
        for args in [
            vec!["init", "--quiet"],
            vec!["add", "."],
            vec!["-c", "user.name=b", "-c", "user.email=b@b.invalid", "commit", "--quiet", "-m", "b"],
        ] {
            timed(self.command("git").arg("-C").arg(self.path("repo")).args(args), &[0])?;
        }
        Ok(())
    }

    /// A state directory of that name.
    pub(super) fn state<'w>(&'w self, name: &str) -> State<'w> {
        State { world: self, root: self.path("state").join(name) }
    }

    /// Everything that was started here, by its environment.
    pub(super) fn processes(&self) -> Vec<u32> {
        let root = format!("{}/", self.root.display());
        let ours = |pid: &u32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|env| String::from_utf8_lossy(&env).contains(&root))
        };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(ours).collect()
    }

    /// Ends everything that was started here.
    pub(super) fn sweep(&self) -> Result<(), Failure> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SWEEP, "bench-sweep"]).arg(&self.root).env_clear().env("PATH", path());
        timed(&mut quiet(shell), &[0]).map(|_| ())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

/// One state directory.
pub(super) struct State<'w> {
    world: &'w World,
    root: PathBuf,
}

impl State<'_> {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// `dx-runner` with these arguments.
    pub(super) fn runner(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(&self.world.runner);
        command.env("DX_RUNNER_STATE_DIR", &self.root);
        command.env("DX_RUNNER_EXTRA_ALLOWED_PREFIXES", &self.world.root);
        command.env("DX_RUNNER_MAX_PARALLEL_DEFAULT", "5000");
        command.args(args);
        command
    }

    /// `start` of provider `exec`.
    pub(super) fn exec(&self, id: &str, agent: &[&str]) -> Command {
        let mut command = self.runner(&["start", "--provider", "exec", "--beads", id, "--worktree"]);
        command.arg(self.world.path("repo")).arg("--").args(agent);
        command
    }

    /// Starts jobs `<stem>-<n>` that sleep.
    pub(super) fn start_sleepers(&self, stem: &str, count: usize) -> Result<(), Failure> {
        for n in 0..count {
            timed(&mut self.exec(&format!("{stem}-{n}"), &["sleep", LIFE]), &[0])?;
        }
        Ok(())
    }

    /// The bytes of a published file, nothing when it is not there.
    pub(super) fn view(&self, job: &Job, suffix: &str) -> String {
        let path = self.root.join(job.provider).join(format!("{}.{suffix}", job.id));
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub(super) fn has_view(&self, job: &Job, suffix: &str) -> bool {
        self.root.join(job.provider).join(format!("{}.{suffix}", job.id)).exists()
    }

    /// Our two processes of a live job.
    pub(super) fn processes(&self, job: &Job) -> Result<Processes, Failure> {
        let look = || {
            let pid = |suffix: &str| self.view(job, suffix).trim().parse::<u32>().ok();
            let (monitor, agent) = (pid("monitor.pid")?, pid("pid")?);
            Some(Processes { monitor, launcher: parent(agent)? })
        };
        let (_, found) = until(&format!("the start of {}", job.id), look)?;
        Ok(found)
    }
}

/// A job's name.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) provider: &'static str,
    pub(super) id: String,
}

impl Job {
    pub(super) fn exec(id: impl Into<String>) -> Self {
        Self { provider: "exec", id: id.into() }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Processes {
    pub(super) monitor: u32,
    pub(super) launcher: u32,
}

impl Processes {
    pub(super) fn ours(self) -> [u32; 2] {
        [self.monitor, self.launcher]
    }
}

/// A shell that sends SIGKILL within microseconds of being told; the standard library cannot.
pub(super) struct Killer {
    shell: Child,
    words: ChildStdin,
}

impl Killer {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut shell = Command::new("sh");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = shell.spawn().map_err(|error| format!("sh: {error}"))?;
        let words = shell.stdin.take().ok_or("a shell without standard input")?;
        Ok(Self { shell, words })
    }

    /// Kills; tells when it was asked to.
    pub(super) fn kill(&mut self, pid: u32) -> Result<Instant, Failure> {
        let begun = Instant::now();
        self.words.write_all(format!("kill -KILL {pid}\n").as_bytes()).map_err(|error| error.to_string())?;
        Ok(begun)
    }

    pub(super) fn end(mut self) {
        drop(self.words);
        let _ended = self.shell.wait();
    }
}

/// A named pipe: an agent reads from it and ends when something is written.
pub(super) struct Gate {
    path: PathBuf,
    file: fs::File,
}

impl Gate {
    pub(super) fn new(world: &World, name: &str) -> Result<Self, Failure> {
        let path = world.path(name);
        timed(world.command("mkfifo").arg(&path), &[0])?;
        // Open for both, so that opening waits for nobody.
        let file = OpenOptions::new().read(true).write(true).open(&path);
        Ok(Self { file: file.map_err(|error| format!("{}: {error}", path.display()))?, path })
    }

    /// An agent that exits with 7 once the gate opens.
    pub(super) fn agent(&self) -> [String; 3] {
        ["sh".to_owned(), "-c".to_owned(), format!("read x <'{}'; exit 7", self.path.display())]
    }

    pub(super) fn open(&mut self) -> Result<Instant, Failure> {
        let begun = Instant::now();
        self.file.write_all(b"\n").map_err(|error| error.to_string())?;
        Ok(begun)
    }
}
