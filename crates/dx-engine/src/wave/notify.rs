//! `wave run --notify`: a command that gets each change on its stdin, or an address that gets it as a signed POST.
//!
//! Called by the coordinator, which hands over its records and goes on; a thread delivers them in order, at least once. How
//! far it came is in a file, for a successor. Must never keep the wave waiting, write its journal, or send unsigned.

use crate::environment;
use crate::error::EngineError;
use crate::secrets::{is_masked, mask_text};
use dx_core::wave::Notices;
use dx_jobdir::{WavePaths, disk};
use dx_opencode::Http;
use dx_protocol::{WaveCreated, WaveNotice, WaveRecord};
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Its value is the key of signatures.
const SECRET: &str = "DX_RUNNER_NOTIFY_SECRET";
const SIGNATURE: &str = "dx-signature";
/// One try.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before the second, third and fourth try.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
const TICK: Duration = Duration::from_millis(20);
/// Bytes of SHA-256's block.
const BLOCK: usize = 64;

/// Refuses what could never be told anything.
pub(super) fn check(notify: &str) -> Result<(), EngineError> {
    let refused = |message: String| Err(EngineError::Argument(message));
    if is_masked(notify) {
        return refused("--notify holds a secret, and it would be recorded".to_owned());
    }
    match Target::of(notify, &std::env::current_dir().unwrap_or_default()) {
        Ok(Target::Url(_)) => match secret() {
            Ok(_) => Ok(()),
            Err(why) => refused(format!("--notify signs what it sends, and {why}")),
        },
        Ok(Target::Command { .. }) => Ok(()),
        Err(why) => refused(format!("--notify: {why}")),
    }
}

/// Which notice could not be delivered, and why.
pub(super) fn failure(paths: &WavePaths) -> Option<String> {
    std::fs::read_to_string(failure_file(paths)).ok().map(|text| text.trim_end().to_owned())
}

fn failure_file(paths: &WavePaths) -> PathBuf {
    paths.dir().join("notify.failure")
}

/// The number of the last notice that nobody needs to try again.
fn cursor(paths: &WavePaths) -> PathBuf {
    paths.dir().join("notified")
}

fn secret() -> Result<String, String> {
    std::env::var(SECRET).ok().filter(|value| !value.is_empty()).ok_or(format!("{SECRET} is not set"))
}

/// Who is told.
#[derive(Debug)]
enum Target {
    Command { program: PathBuf, args: Vec<String>, cwd: PathBuf },
    Url(Http),
}

impl Target {
    /// Words of a command are split at white space and mean nothing else: there is no shell.
    fn of(notify: &str, cwd: &Path) -> Result<Self, String> {
        if notify.starts_with("http://") || notify.starts_with("https://") {
            return Http::new(notify, None).map(Self::Url).map_err(|error| error.to_string());
        }
        let mut words = notify.split_whitespace().map(str::to_owned);
        let first = words.next().ok_or("it takes a command or an address")?;
        let found = if first.contains('/') {
            Some(cwd.join(&first)).filter(|path| environment::is_program(path))
        } else {
            environment::find_program(&first)
        };
        let program = found.ok_or_else(|| format!("there is no program `{first}`"))?;
        Ok(Self::Command { program, args: words.collect(), cwd: cwd.to_owned() })
    }

    /// One try.
    fn tell(&self, text: &str) -> Result<(), String> {
        match self {
            Self::Url(http) => post(http, text, secret()?.as_bytes()),
            Self::Command { program, args, cwd } => run(program, args, cwd, text),
        }
    }
}

fn post(http: &Http, text: &str, key: &[u8]) -> Result<(), String> {
    let signature = format!("sha256={}", signature(key, text.as_bytes()));
    let headers = [("content-type", "application/json"), (SIGNATURE, signature.as_str())];
    let answer = http.call_with("POST", "", text.to_owned(), &headers, DEADLINE);
    match answer.map_err(|error| error.to_string())?.status {
        200..=299 => Ok(()),
        status => Err(format!("it answered with status {status}")),
    }
}

fn run(program: &Path, args: &[String], cwd: &Path, text: &str) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(cwd)
        // The key is for signing; nobody who is called needs it.
        .env_remove(SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("it could not be started: {error}"))?;
    // A notice fits into the pipe. One that does not read it may be content all the same.
    if let Some(mut input) = child.stdin.take() {
        let _read_or_not = input.write_all(text.as_bytes()).and_then(|()| input.write_all(b"\n"));
    }
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) if began.elapsed() < DEADLINE => std::thread::sleep(TICK),
            Ok(None) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    // Not reaped yet: its group is still its own.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _gone = kill_process_group(group, Signal::KILL);
    }
    let _reaped = child.wait();
    Err(format!("it did not end within {} s", DEADLINE.as_secs()))
}

/// HMAC-SHA256 (RFC 2104), in hexadecimal digits.
fn signature(key: &[u8], message: &[u8]) -> String {
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
    let inner = keyed(0x36).chain_update(message).finalize();
    let mut hex = String::with_capacity(BLOCK);
    for byte in keyed(0x5c).chain_update(inner).finalize() {
        let _fits = write!(hex, "{byte:02x}");
    }
    hex
}

/// The coordinator's hand on the thread that delivers.
#[derive(Debug)]
pub(super) struct Notifier {
    records: Sender<WaveRecord>,
    thread: JoinHandle<()>,
    closing: Arc<AtomicBool>,
}

impl Notifier {
    /// Starts with everything that the journal holds; `None` when nobody wants to be told.
    pub(super) fn start(
        created: &WaveCreated,
        paths: &WavePaths,
        known: Vec<WaveRecord>,
    ) -> Result<Option<Self>, EngineError> {
        let Some(notify) = &created.notify else { return Ok(None) };
        let (records, receiver) = channel();
        let closing = Arc::new(AtomicBool::new(false));
        let courier = Courier {
            target: Target::of(notify, Path::new(&created.cwd)),
            paths: paths.clone(),
            closing: Arc::clone(&closing),
        };
        let thread = std::thread::Builder::new()
            .spawn(move || courier.work(known, &receiver))
            .map_err(|source| EngineError::Io { what: "start a thread", source })?;
        Ok(Some(Self { records, thread, closing }))
    }

    pub(super) fn tell(&self, record: WaveRecord) {
        // Whoever gave up needs to hear nothing.
        let _heard = self.records.send(record);
    }

    /// Waits until everything is delivered, or one notice finally cannot be.
    pub(super) fn finish(self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.records);
        let _ended = self.thread.join();
    }
}

struct Courier {
    target: Result<Target, String>,
    paths: WavePaths,
    closing: Arc<AtomicBool>,
}

impl Courier {
    fn work(&self, known: Vec<WaveRecord>, new: &Receiver<WaveRecord>) {
        let told = std::fs::read_to_string(cursor(&self.paths)).ok();
        let told: u64 = told.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut notices = Notices::default();
        for record in known.into_iter().chain(new.iter()) {
            let Some(notice) = notices.next(&record).filter(|notice| notice.number > told) else { continue };
            match self.deliver(&notice) {
                Ok(()) => {}
                Err(why) => {
                    let text = format!("notice {}: {why}\n", notice.number);
                    let _told = disk::replace(&failure_file(&self.paths), mask_text(&text).as_bytes());
                    if self.closing.load(Ordering::Relaxed) {
                        return;
                    }
                }
            }
            let _kept = disk::replace(&cursor(&self.paths), format!("{}\n", notice.number).as_bytes());
        }
        if self.closing.load(Ordering::Relaxed) {
            let _removed = disk::remove(&cursor(&self.paths));
        }
    }

    fn deliver(&self, notice: &WaveNotice) -> Result<(), String> {
        let target = self.target.as_ref().map_err(Clone::clone)?;
        let text = serde_json::to_string(notice).map_err(|error| error.to_string())?;
        let text = mask_text(&text);
        let mut pauses = PAUSES.iter();
        loop {
            match (target.tell(&text), pauses.next()) {
                (Ok(()), _) => return Ok(()),
                (Err(why), None) => return Err(why),
                (Err(_), Some(pause)) => std::thread::sleep(*pause),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 4] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, digest) in cases {
            assert_eq!(signature(key, message), digest);
        }
    }

    #[test]
    fn words_of_a_command_are_words_and_addresses_are_addresses() {
        let here = Path::new("/");
        let Ok(Target::Command { program, args, .. }) = Target::of(" sh  -c $HOME;x ", here) else {
            panic!()
        };
        assert!(program.is_absolute() && args == ["-c", "$HOME;x"], "{args:?}");
        assert!(matches!(Target::of("https://h/x", here), Ok(Target::Url(_))));
        for bad in ["", " ", "no-such-program-x", "./nothing", "http://", "http://u:p@h"] {
            assert!(Target::of(bad, here).is_err(), "{bad}");
        }
    }
}
