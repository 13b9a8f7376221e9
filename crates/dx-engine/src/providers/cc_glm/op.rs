//! Asking 1Password's program `op` for one value, with a deadline. It can wait for a person, a phone or a network for ever.
//!
//! Called while a start is prepared. Must never: put the value into a file or a command line, or leave a process behind.

use crate::asked::Asked;
use crate::environment;
use dx_proc::{clock, poll};
use rustix::fs::OFlags;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

const PROGRAM: &str = "op";
/// How a reference to a value begins.
const SCHEME: &str = "op://";
const DEADLINE_MS: u64 = 5_000;
/// No more of a value, or of a complaint, is kept.
const MAX_BYTES: usize = 64 << 10;
/// So often a pipe is read at once; it holds 1 MiB at most.
const MOST_READS: usize = 128;
/// How much of a complaint is told.
const MAX_COMPLAINT: usize = 200;

/// Whether a text names a value in 1Password.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with(SCHEME)
}

/// The program that could tell the value of a reference; `Err` is for people.
pub(super) fn look_for(reference: &str) -> Result<PathBuf, String> {
    if !is_reference(reference) {
        return Err(format!("`{reference}` does not begin with {SCHEME}"));
    }
    let program = environment::find_program(PROGRAM);
    program.ok_or_else(|| format!("there is no `{PROGRAM}` on PATH to resolve {reference}"))
}

/// The value of a reference; `Err` is for people.
pub(super) fn read(reference: &str) -> Result<String, String> {
    let command = format!("`{PROGRAM} read {reference}`");
    let program = look_for(reference)?;
    let mut asked = Asked::start(
        Command::new(program)
            .args(["read", "--no-newline", reference])
            // With everything of the caller's: that is where it is signed in.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .map_err(|error| format!("{command} could not be started: {error}"))?;
    let heard = hear(&mut asked);
    let status = match heard {
        Ok(Some(_)) => asked.child.wait().ok(),
        _ => None,
    };
    let Some(status) = status else {
        asked.end();
        let seconds = DEADLINE_MS / 1000;
        return Err(match heard {
            Err(error) => format!("{command} could not be watched: {error}"),
            Ok(_) => format!("{command} did not answer in {seconds} s and was ended"),
        });
    };
    let heard = heard.ok().flatten().unwrap_or_default();
    judge(&command, status, heard)
}

fn judge(command: &str, status: ExitStatus, heard: Heard) -> Result<String, String> {
    if !status.success() {
        let complaint = String::from_utf8_lossy(&heard.complaint);
        let line = complaint.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no word of why");
        let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_COMPLAINT).collect();
        return Err(format!("{command} failed ({status}): {line}"));
    }
    if heard.value.len() > MAX_BYTES {
        return Err(format!("{command} gave more than {} KiB, which is no key", MAX_BYTES >> 10));
    }
    String::from_utf8(heard.value).map_err(|_| format!("{command} gave no text"))
}

/// What it wrote on both outputs.
#[derive(Default)]
struct Heard {
    value: Vec<u8>,
    complaint: Vec<u8>,
}

/// Reads both outputs until the program has ended; `None` when it has not by the deadline. What its children do afterwards
/// with the pipes is not waited for.
fn hear(asked: &mut Asked) -> Result<Option<Heard>, dx_proc::Error> {
    let deadline = clock::monotonic_ms() + DEADLINE_MS;
    let ended = asked.exit()?;
    let child = &mut asked.child;
    let (mut out, mut err) = (Pipe::of(child.stdout.take()), Pipe::of(child.stderr.take()));
    loop {
        // Asked before reading: what it wrote before its end is in the pipes.
        let done = ended.is_exited()?;
        out.drain();
        err.drain();
        if done {
            return Ok(Some(Heard { value: out.bytes, complaint: err.bytes }));
        }
        let left = deadline.saturating_sub(clock::monotonic_ms());
        if left == 0 {
            return Ok(None);
        }
        let mut fds = vec![ended.as_fd()];
        fds.extend(out.source.as_ref().map(AsFd::as_fd));
        fds.extend(err.source.as_ref().map(AsFd::as_fd));
        poll::poll(&fds, Some(left))?;
    }
}

/// One output, read without waiting.
struct Pipe<S> {
    source: Option<S>,
    bytes: Vec<u8>,
}

impl<S: Read + AsFd> Pipe<S> {
    fn of(source: Option<S>) -> Self {
        let set = |source: &S| rustix::fs::fcntl_setfl(source, OFlags::NONBLOCK).is_ok();
        Self { source: source.filter(set), bytes: Vec::new() }
    }

    fn drain(&mut self) {
        let mut buffer = [0; 16 << 10];
        // One that prints for ever is not listened to for ever: more than a pipe holds is for the next time.
        for _ in 0..MOST_READS {
            let Some(source) = &mut self.source else { return };
            match source.read(&mut buffer) {
                Ok(0) => self.source = None,
                Ok(n) => {
                    // One byte more tells that there was more.
                    let room = (MAX_BYTES + 1).saturating_sub(self.bytes.len());
                    self.bytes.extend(&buffer[..n.min(room)]);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.source = None,
            }
        }
    }
}
