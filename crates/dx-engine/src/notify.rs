//! `--notify`: a command that gets each change on its stdin, or an address that gets it as a signed POST.
//!
//! Called by who tells of a job, and by the courier of a wave. Must never send unsigned.

use crate::environment;
use crate::error::EngineError;
use crate::secrets::{is_masked, mask_text};
use dx_opencode::Http;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Its value is the key of signatures.
const SECRET: &str = "DX_RUNNER_NOTIFY_SECRET";
const SIGNATURE: &str = "dx-signature";
/// One try.
const DEADLINE: Duration = Duration::from_secs(10);
/// Before the second, third and fourth try.
pub(crate) const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];
const TICK: Duration = Duration::from_millis(20);
/// Bytes of SHA-256's block.
const BLOCK: usize = 64;

/// Refuses what could never be told anything.
pub(crate) fn check(notify: &str) -> Result<(), EngineError> {
    let refused = |message: String| Err(EngineError::Argument(message));
    if is_masked(notify) {
        return refused("--notify holds a secret, and it would be recorded".to_owned());
    }
    let cwd = std::env::current_dir().unwrap_or_default();
    match Target::of(notify, &cwd) {
        Ok(_) => check_secret(notify, &cwd),
        Err(why) => refused(format!("--notify: {why}")),
    }
}

/// Refuses an address without the secret by which it knows us.
pub(crate) fn check_secret(notify: &str, cwd: &Path) -> Result<(), EngineError> {
    match (Target::of(notify, cwd), secret()) {
        (Ok(Target::Url(_)), Err(why)) => Err(EngineError::Argument(format!(
            "--notify signs what it sends, and {why}: export a value that the receiver knows, too, as that of \
             `openssl rand -hex 32`"
        ))),
        _ => Ok(()),
    }
}

fn secret() -> Result<String, String> {
    std::env::var(SECRET).ok().filter(|value| !value.is_empty()).ok_or(format!("{SECRET} is not set"))
}

/// Who is told.
#[derive(Debug)]
pub(crate) enum Target {
    Command { program: PathBuf, args: Vec<String>, cwd: PathBuf },
    Url(Http),
}

impl Target {
    /// Words of a command are split at white space and mean nothing else: there is no shell.
    pub(crate) fn of(notify: &str, cwd: &Path) -> Result<Self, String> {
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
    pub(crate) fn tell(&self, notice: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_string(notice).map_err(|error| error.to_string())?;
        let text = mask_text(&text);
        match self {
            Self::Url(http) => post(http, &text, secret()?.as_bytes()),
            Self::Command { program, args, cwd } => run(program, args, cwd, &text),
        }
    }
}

/// Tries until it is told, or has finally failed: once more after each pause, unless it is to be given up meanwhile.
pub(crate) fn insist(
    pauses: &[Duration],
    gives_up: impl Fn() -> bool,
    mut tell: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let mut pauses = pauses.iter();
    loop {
        match (tell(), pauses.next()) {
            (Ok(()), _) => return Ok(()),
            (Err(why), None) => return Err(why),
            (Err(why), Some(pause)) => {
                let until = Instant::now() + *pause;
                while Instant::now() < until {
                    if gives_up() {
                        return Err(why);
                    }
                    std::thread::sleep(TICK.min(until.saturating_duration_since(Instant::now())));
                }
            }
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
