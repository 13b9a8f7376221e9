//! Running a command with a deadline and keeping all it printed.
//!
//! For: every command a test runs to its end.
//! Called by: `TestEnv::run` and its relatives.
//! Must never: wait longer than the deadline, or accept a command whose output somebody else still holds open
//! (`$(command)` in a shell would hang for ever; that is a defect of the command).

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::processes::describe;

const POLL: Duration = Duration::from_millis(2);
/// How long the output of a killed command may still drain.
const DRAIN: Duration = Duration::from_millis(200);

/// How a command ended and what it printed (invalid UTF-8 replaced).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; minus the signal number when a signal ended it.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Output {
    /// Panics with everything that was printed unless the command exited with `code`.
    #[track_caller]
    pub fn assert_code(self, code: i32) -> Self {
        assert!(self.code == code, "expected exit code {code}, got {self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}\n---", self.code, self.stdout, self.stderr)
    }
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub enum RunError {
    /// It could not be started.
    Spawn(std::io::Error),
    /// It ran past the deadline and was killed.
    Deadline {
        /// The deadline.
        limit: Duration,
        /// What it had printed; the code is that of the kill.
        output: Output,
    },
    /// It exited in time, but its stdout or stderr stayed open past the deadline.
    OutputHeld {
        /// How it ended and what it had printed.
        output: Output,
        /// Descriptions of the processes that hold the pipes.
        holders: Vec<String>,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => write!(f, "cannot be started: {error}"),
            Self::Deadline { limit, output } => {
                write!(f, "was killed after its deadline of {:.1} s: {output}", limit.as_secs_f64())
            }
            Self::OutputHeld { output, holders } => {
                write!(
                    f,
                    "exited, but its output is still held open by\n{}\nand it printed: {output}",
                    holders.join("\n")
                )
            }
        }
    }
}

/// Runs to the end, at most `limit`: `stdin` is written and closed, stdout and stderr are read to their ends.
pub(crate) fn run(mut command: Command, stdin: &[u8], limit: Duration) -> Result<Output, RunError> {
    let end = Instant::now() + limit;
    let input = if stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(RunError::Spawn)?;
    // The command keeps its own copies of nothing piped, but dropping it makes that certain.
    drop(command);
    if let Some(mut pipe) = child.stdin.take() {
        let content = stdin.to_vec();
        // Not joined: a command that never reads must not block the test; the pipe breaks when it ends.
        drop(std::thread::spawn(move || pipe.write_all(&content)));
    }
    let stdout = child.stdout.take().map(Reader::start);
    let stderr = child.stderr.take().map(Reader::start);
    let readers: Vec<&Reader> = [&stdout, &stderr].into_iter().flatten().collect();
    let drained = || readers.iter().all(|reader| reader.thread.is_finished());
    let gather = |status: ExitStatus| Output {
        code: status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
        stdout: stdout.as_ref().map(Reader::text).unwrap_or_default(),
        stderr: stderr.as_ref().map(Reader::text).unwrap_or_default(),
    };

    let mut status = None;
    while Instant::now() < end {
        if status.is_none() {
            status = child.try_wait().map_err(RunError::Spawn)?;
        }
        if let Some(status) = status
            && drained()
        {
            return Ok(gather(status));
        }
        std::thread::sleep(POLL);
    }
    if let Some(status) = status {
        let holders = readers.iter().flat_map(|reader| holders_of(&reader.pipe)).collect();
        return Err(RunError::OutputHeld { output: gather(status), holders });
    }
    // Still our unreaped child, so its number cannot be anybody else's.
    child.kill().map_err(RunError::Spawn)?;
    let status = child.wait().map_err(RunError::Spawn)?;
    let drain_end = Instant::now() + DRAIN;
    while !drained() && Instant::now() < drain_end {
        std::thread::sleep(POLL);
    }
    Err(RunError::Deadline { limit, output: gather(status) })
}

/// A thread that collects one pipe.
struct Reader {
    content: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
    /// The kernel's name of the pipe, as in `/proc/PID/fd`; empty when unknown.
    pipe: String,
}

impl Reader {
    fn start(mut source: impl Read + AsFd + Send + 'static) -> Self {
        let descriptor = source.as_fd().as_raw_fd();
        let pipe = fs::read_link(format!("/proc/self/fd/{descriptor}"));
        let content = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&content);
        let thread = std::thread::spawn(move || {
            let mut chunk = [0_u8; 8192];
            loop {
                match source.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(length) => {
                        sink.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .extend_from_slice(&chunk[..length]);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        Self {
            content,
            thread,
            pipe: pipe.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.content.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Descriptions of the other processes with that pipe among their descriptors.
fn holders_of(pipe: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| *name != own)
        .filter_map(|name| name.parse::<i32>().ok())
        .filter(|pid| {
            fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
                descriptors
                    .flatten()
                    .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy() == pipe))
            })
        })
        .map(describe)
        .collect()
}
