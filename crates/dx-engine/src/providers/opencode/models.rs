//! The list of models of the installed OpenCode, cached by what could change it: the binary and its configuration. Asking
//! takes seconds, so a cold start says so; it also lets OpenCode set up a fresh home once, before jobs do it side by side.

use crate::error::EngineError;
use crate::prompt::sha256_hex;
use crate::providers::Wish;
use dx_jobdir::disk;
use dx_protocol::ReasonCode;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names of OpenCode's configuration.
const CONFIGS: [&str; 2] = ["opencode.json", "opencode.jsonc"];
/// A longer configuration is not read to its end.
const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// `opencode models` is ended after this.
const DEADLINE: Duration = Duration::from_secs(90);

/// The models that this OpenCode lists for this environment.
pub(super) fn listed(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    let cache_dir = wish.state.cache_dir();
    disk::make_dir(&cache_dir)?;
    let cache = cache_dir.join(format!("opencode-models-{}", fingerprint(wish, binary)));
    if let Some(models) = read(&cache) {
        return Ok(models);
    }
    let lock_path = cache_dir.join("opencode-models.lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = rustix::fs::open(&lock_path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| disk::DiskError {
        op: "lock",
        path: lock_path,
        source: e.into(),
    })?;
    (wish.progress)("asking OpenCode for its models, once per binary and configuration …");
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|e| EngineError::Io { what: "lock the model list", source: e.into() })?;
    if let Some(models) = read(&cache) {
        return Ok(models);
    }
    let models = ask(wish, binary)?;
    disk::replace(&cache, models.join("\n").as_bytes())?;
    Ok(models)
}

fn read(cache: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(cache).ok()?;
    let models: Vec<String> = text.lines().filter(|l| !l.is_empty()).map(str::to_owned).collect();
    (!models.is_empty()).then_some(models)
}

/// What the list depends on: the binary's identity and every place OpenCode reads models or credentials from.
fn fingerprint(wish: &Wish<'_>, binary: &Path) -> String {
    let mut text = String::new();
    let mut file = |path: &Path| {
        let stamp = std::fs::metadata(path).map_or_else(
            |_| "-".to_owned(),
            |m| {
                format!("{}:{}:{}:{}", m.dev(), m.ino(), m.size(), m.mtime() * 1_000_000_000 + m.mtime_nsec())
            },
        );
        let _fits = writeln!(text, "{}={stamp}", path.display());
    };
    let value = |name: &str| wish.env.iter().find(|(n, _)| n == name).map(|(_, v)| PathBuf::from(v));
    file(binary);
    let home = value("HOME").unwrap_or_default();
    let config = value("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let data = value("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share"));
    for name in CONFIGS {
        file(&config.join("opencode").join(name));
    }
    file(&data.join("opencode/auth.json"));
    for name in ["OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR"] {
        if let Some(path) = value(name) {
            file(&path);
        }
    }
    // A project's own configuration counts by what it says: each job may have a worktree of its own.
    for folder in ["", ".opencode"] {
        for name in CONFIGS {
            let relative = Path::new(folder).join(name);
            if let Ok(content) = dx_jobdir::read_bounded(&wish.worktree.join(&relative), MAX_CONFIG_BYTES) {
                let _fits = writeln!(text, "{}={}", relative.display(), sha256_hex(&content));
            }
        }
    }
    for (name, value) in wish.env {
        let name = name.to_string_lossy();
        if name.starts_with("OPENCODE_") || name.ends_with("_API_KEY") {
            // Hashed with everything else: no value can be read back from the cache's name.
            let _fits = writeln!(text, "{name}={}", value.to_string_lossy());
        }
    }
    sha256_hex(text.as_bytes())[..24].to_owned()
}

fn ask(wish: &Wish<'_>, binary: &Path) -> Result<Vec<String>, EngineError> {
    let failed = |message: String| EngineError::Provider {
        reason: ReasonCode::OpencodeModelsFailed,
        message: format!("`opencode models` {message}"),
        next_action: None,
    };
    let out = tempfile_in(&wish.state.cache_dir())?;
    let mut child = Command::new(binary)
        .arg("models")
        .env_clear()
        .envs(wish.env.iter().map(|(n, v)| (n, v)))
        .envs(super::headless())
        .current_dir(wish.worktree.ancestors().find(|p| p.is_dir()).unwrap_or(wish.worktree))
        .stdin(Stdio::null())
        .stdout(out.1)
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| failed(format!("could not be started: {e}")))?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > DEADLINE => {
                let _killed = child.kill();
                let _reaped = child.wait();
                let _removed = std::fs::remove_file(&out.0);
                return Err(failed(format!("did not answer in {} s", DEADLINE.as_secs())));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => return Err(failed(e.to_string())),
        }
    };
    let text = std::fs::read_to_string(&out.0).unwrap_or_default();
    let _removed = std::fs::remove_file(&out.0);
    let models: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| {
            l.split_once('/').is_some_and(|(p, m)| !p.is_empty() && !m.is_empty() && !l.contains(' '))
        })
        .map(str::to_owned)
        .collect();
    if !status.success() || models.is_empty() {
        return Err(failed(format!("ended with {status} and listed {} models", models.len())));
    }
    Ok(models)
}

/// A file for the answer: a pipe would have to be drained while waiting.
fn tempfile_in(dir: &Path) -> Result<(PathBuf, std::fs::File), EngineError> {
    let path = dir.join(format!(".models-{}-{}", std::process::id(), dx_proc::clock::monotonic_ms()));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|source| disk::DiskError { op: "create", path: path.clone(), source })?;
    Ok((path, file))
}
