//! Asking `bd`, the program of Beads, something about a repository's issues.
//!
//! Called by: the Beads gate, waves from ready issues. Every call has a deadline and ends as a whole, with what it started; a
//! database that another process holds is asked again until then. Must never: call it without a deadline.

use crate::asked::Asked;
use crate::environment;
use crate::git;
use crate::settings::{BEADS_TIMEOUT, Layers};
use dx_protocol::ReasonCode;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const PROGRAM: &str = "bd";
/// Nobody prints more about issues.
const MAX_BYTES: u64 = 64 << 20;
/// Between two tries at a database that is held.
const PAUSE: Duration = Duration::from_millis(200);
/// A database that fails beside writers in other ways, as `br` 0.2 does now and then, is asked so often.
const TRIES: u32 = 3;

/// Why a call has no answer.
pub(crate) type Refusal = (ReasonCode, String);

/// How `bd` is called.
#[derive(Debug)]
pub(crate) struct Bd {
    program: PathBuf,
    repo: PathBuf,
    /// For each call.
    deadline: Duration,
}

impl Bd {
    pub(crate) fn find(settings: &Layers, repo: &Path) -> Result<Self, Refusal> {
        let program = environment::find_program(PROGRAM)
            .ok_or_else(|| (ReasonCode::BeadsUnavailable, format!("no `{PROGRAM}` on PATH")))?;
        let millis =
            settings.number(BEADS_TIMEOUT.key).map_err(|e| (ReasonCode::ConfigInvalid, e.to_string()))?;
        let deadline = Duration::from_millis(millis.unwrap_or_default());
        Ok(Self { program, repo: repo.to_owned(), deadline })
    }

    /// The document that it answers.
    pub(crate) fn call(&self, args: &[&str]) -> Result<Value, Refusal> {
        let began = Instant::now();
        let mut broken = 0;
        loop {
            let left = self.deadline.saturating_sub(began.elapsed());
            let answer = self.once(args, left);
            let Err((ReasonCode::BeadsDbError, why)) = &answer else { return answer };
            // Another one writes; that passes.
            if !is_held(why) {
                broken += 1;
                if broken == TRIES || !why.to_lowercase().contains("database error") {
                    return answer;
                }
            }
            if left <= PAUSE {
                return answer;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// One try. A group of its own, ended with all that it began at the deadline.
    fn once(&self, args: &[&str], deadline: Duration) -> Result<Value, Refusal> {
        let shown = format!("`{PROGRAM} {}`", args.join(" "));
        let failed = |why: String| (ReasonCode::BeadsDbError, format!("{shown}: {why}"));
        // Files: what a killed call started may keep pipes open.
        let scratch = || {
            let fd = rustix::fs::memfd_create("bd", rustix::fs::MemfdFlags::CLOEXEC);
            fd.map(File::from).map_err(|e| failed(e.to_string()))
        };
        let (mut out, mut err) = (scratch()?, scratch()?);
        let stdio = |file: &File| file.try_clone().map(Stdio::from).map_err(|e| failed(e.to_string()));
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env_clear()
            .envs(environment::allowed(&|name| name.starts_with("BEADS_") || name.starts_with("BD_")))
            .current_dir(&self.repo)
            .stdin(Stdio::null())
            .stdout(stdio(&out)?)
            .stderr(stdio(&err)?)
            .process_group(0);
        let mut asked =
            Asked::start(&mut command).map_err(|e| failed(format!("could not be started: {e}")))?;
        let Some(status) = asked.wait(deadline).map_err(|e| failed(e.to_string()))? else {
            let details =
                format!("{shown} did not end within {} ms and was ended", self.deadline.as_millis());
            return Err((ReasonCode::BeadsTimeout, details));
        };
        let (out, err) = (text_of(&mut out), text_of(&mut err));
        if !status.success() {
            return Err(failed(format!("{status}: {}", message_of(&out, &err))));
        }
        serde_json::from_str(&out).map_err(|_| {
            failed(match out.len() as u64 {
                MAX_BYTES.. => format!("its answer is longer than {} MiB", MAX_BYTES >> 20),
                _ => "its answer is no JSON".to_owned(),
            })
        })
    }
}

/// What SQLite says of a database that another process writes; `bd` passes it on.
fn is_held(why: &str) -> bool {
    let why = why.to_lowercase();
    ["database is locked", "database is busy", "table is locked"].iter().any(|words| why.contains(words))
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(MAX_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a failed call says: the message of its document on either stream, else its last line.
fn message_of(out: &str, err: &str) -> String {
    let of = |text: &str| {
        let document: Value = serde_json::from_str(text).ok()?;
        let error = document.get("error")?;
        error.as_str().or_else(|| error.get("message")?.as_str()).map(str::to_owned)
    };
    of(err).or_else(|| of(out)).unwrap_or_else(|| git::last_line(err.as_bytes()))
}
