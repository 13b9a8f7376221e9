//! A tool's work: this program as a command, in a process of its own.
//!
//! So a tool does what the command does, with the same checks and the same words; SIGINT cancels it as Ctrl-C would; and
//! what was begun ends in good order even when the server is killed.
//!
//! Called by: the tools. Must never: put a prompt on a command line, or hold more of an output than its bound.

use super::words;
use crate::asking::ASKED_BY;
use dx_proc::PidFd;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No more of an output is kept.
const MOST: u64 = 8 << 20;

/// One command of ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    pub(super) args: Vec<String>,
    pub(super) stdin: Option<String>,
    /// Handed over in a file, with `--json-schema`.
    pub(super) schema: Option<Value>,
    /// Its output is text and no document.
    pub(super) text: bool,
    /// After so many seconds a handle is the answer; `None`: when clients would lose patience.
    pub(super) patience: Option<u64>,
}

/// How every command begins.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) globals: Vec<OsString>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) code: i32,
    text: bool,
    stdout: String,
    stderr: String,
}

/// A command that runs, or has run.
#[derive(Debug)]
pub(super) struct Job {
    process: PidFd,
    finished: Mutex<Option<Finished>>,
    changed: Condvar,
}

impl Program {
    /// Starts a command; it is reaped by a thread of its own.
    pub(super) fn start(&self, run: &Run) -> io::Result<Arc<Job>> {
        let file = run.schema.as_ref().map(TempFile::new).transpose()?;
        let mut command = Command::new(&self.path);
        command.args(&self.globals).env(ASKED_BY, std::process::id().to_string());
        command.args((!run.text).then_some("--json"));
        // In front: what follows `--` in `args` belongs to an agent.
        let (name, rest) = run.args.split_first().map_or(("", &[][..]), |(name, rest)| (name.as_str(), rest));
        command.arg(name);
        if let Some(file) = &file {
            command.arg(format!("--json-schema={}", file.0.display()));
        }
        command.args(rest).process_group(0);
        let input = if run.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // Our child, and nobody has waited for it yet: the number is its own.
        let opened = i32::try_from(child.id())
            .map_err(io::Error::other)
            .and_then(|pid| PidFd::open(pid).map_err(io::Error::other));
        let process = match opened {
            Ok(process) => process,
            Err(error) => {
                let _gone = child.kill().and_then(|()| child.wait());
                return Err(error);
            }
        };
        let job = Arc::new(Job { process, finished: Mutex::new(None), changed: Condvar::new() });
        let (theirs, stdin, text) = (Arc::clone(&job), run.stdin.clone(), run.text);
        std::thread::spawn(move || {
            let finished = collect(child, stdin, text);
            drop(file);
            *theirs.finished.lock().unwrap_or_else(PoisonError::into_inner) = Some(finished);
            theirs.changed.notify_all();
        });
        Ok(job)
    }
}

fn collect(mut child: Child, stdin: Option<String>, text: bool) -> Finished {
    if let (Some(mut pipe), Some(stdin)) = (child.stdin.take(), stdin) {
        // Not joined: one that never reads would hold it up; the pipe breaks when it ends.
        std::thread::spawn(move || pipe.write_all(stdin.as_bytes()));
    }
    let stdout = child.stdout.take().map(kept);
    let stderr = child.stderr.take().map(kept);
    let join = |thread: Option<JoinHandle<String>>| thread.and_then(|t| t.join().ok()).unwrap_or_default();
    let (stdout, stderr) = (join(stdout), join(stderr));
    let code = child.wait().ok().and_then(|status| status.code()).unwrap_or(-1);
    Finished { code, text, stdout, stderr }
}

/// What a pipe brings, up to the bound; the rest is read and forgotten.
fn kept(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _read = pipe.by_ref().take(MOST).read_to_end(&mut bytes);
        let _rest = io::copy(&mut pipe, &mut io::sink());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Job {
    /// Waits for the end, at most so long.
    pub(super) fn wait(&self, patience: Duration) -> Option<Finished> {
        let until = Instant::now() + patience;
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if finished.is_some() || left.is_zero() {
                return finished.clone();
            }
            finished = self.changed.wait_timeout(finished, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Stops it as Ctrl-C does; what it asked others to do is stopped, too.
    pub(super) fn interrupt(&self) {
        // It may have ended.
        let _sent = self.process.send_signal(rustix::process::Signal::INT.as_raw());
    }
}

impl Finished {
    /// The documents that it printed.
    pub(super) fn documents(&self) -> Vec<Value> {
        if self.text {
            return Vec::new();
        }
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The text that it printed; `None` when it failed.
    pub(super) fn words(&self) -> Option<&str> {
        (self.text && self.code == 0).then_some(self.stdout.as_str())
    }

    /// Why there is nothing: the error's document, or whatever was said.
    pub(super) fn error(&self) -> Value {
        let told = self.stderr.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        told.filter(Value::is_object)
            .unwrap_or_else(|| json!({ "error": { "message": self.stderr.trim(), "exit_code": self.code } }))
    }

    /// A tool's result.
    pub(super) fn result(&self) -> Value {
        if let Some(words) = self.words() {
            return json!({ "content": [{ "type": "text", "text": words }] });
        }
        let mut documents = self.documents();
        if documents.is_empty() {
            return failed(&words::of_tools(self.error()));
        }
        let told = if documents.len() == 1 { documents.remove(0) } else { json!({ "documents": documents }) };
        told_as(&words::of_tools(told))
    }
}

/// A result that is a document.
pub(super) fn told_as(document: &Value) -> Value {
    json!({ "content": [{ "type": "text", "text": document.to_string() }], "structuredContent": document })
}

/// A result that says what went wrong.
pub(super) fn failed(document: &Value) -> Value {
    json!({ "content": [{ "type": "text", "text": document.to_string() }],
        "structuredContent": document, "isError": true })
}

/// A file that only its user can read, gone with the value.
struct TempFile(PathBuf);

impl TempFile {
    fn new(value: &Value) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("dx-runner-schema-{}-{number}.json", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let made = Self(path);
        file.write_all(value.to_string().as_bytes())?;
        Ok(made)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.0);
    }
}
