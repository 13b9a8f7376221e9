//! `cargo xtask install-agents`: the pinned real agents, from the npm registry into a cache folder.
//!
//! For: tests that run real agents. The versions are in `xtask/agents/package.json`, the content in its lock file
//! (integrity hashes, no download addresses, so any registry mirror serves). The packages are the platform packages
//! with the native binary, or scripts in one bundle: those need no install script, and none is run.
//! To change a version: edit `package.json` and `AGENTS`, then in `xtask/agents` run
//! `npm install --package-lock-only --ignore-scripts`.
//! Called by: `main`, `test`.
//! Must never: run an install script, touch a user's own agents, or leave a half-made folder under its final name.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, tools, workspace};

/// One agent, on one platform where that makes a difference.
struct Agent {
    /// The command tests look for.
    command: &'static str,
    /// `os-cpu` in npm's words; none for a script that Node.js runs anywhere.
    platform: Option<&'static str>,
    package: &'static str,
    /// What `--version` prints.
    version: &'static str,
    /// The binary, inside the package.
    binary: &'static str,
}

/// What is installed. A row more needs its package in `package.json` (under `optionalDependencies`, so that npm
/// passes over other platforms) and in the lock file.
const AGENTS: &[Agent] = &[
    Agent {
        command: "claude",
        platform: Some("linux-x64"),
        package: "@anthropic-ai/claude-code-linux-x64",
        version: "2.1.329",
        binary: "claude",
    },
    Agent {
        command: "codex",
        platform: Some("linux-x64"),
        // The name that the package with the wrapper gives it; in the registry it is a version of that package.
        package: "@openai/codex-linux-x64",
        version: "0.169.0",
        binary: "vendor/x86_64-unknown-linux-musl/bin/codex",
    },
    Agent {
        command: "gemini",
        platform: None,
        package: "@google/gemini-cli",
        version: "0.61.0",
        binary: "bundle/gemini.js",
    },
    Agent {
        command: "opencode",
        platform: Some("linux-x64"),
        package: "opencode-linux-x64",
        version: "1.18.33",
        binary: "bin/opencode",
    },
    Agent {
        // The last that is known to end attached runs with "No context found for instance".
        command: "opencode-old",
        platform: Some("linux-x64"),
        package: "opencode-old-linux-x64",
        version: "1.2.6",
        binary: "bin/opencode",
    },
];

/// Tells the tests of real agents where the pinned ones are: a folder with one link for each.
pub(crate) const AGENTS_DIR: &str = "DX_TEST_AGENTS_DIR";

/// How long a binary may take to print its version.
const PROBE_LIMIT: Duration = Duration::from_mins(1);

/// Why the agents are not there.
#[derive(Debug)]
pub(crate) enum InstallError {
    /// Programs this needs are not installed.
    MissingTools(Vec<&'static str>),
    /// No agent is pinned for this platform.
    Platform(String),
    /// Something that was tried failed.
    Failed(Failure),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingTools(names) => write!(f, "{} missing: {}", names.len(), names.join(", ")),
            Self::Platform(platform) => write!(f, "no agent is pinned for {platform}"),
            Self::Failed(failure) => f.write_str(failure),
        }
    }
}

impl From<Failure> for InstallError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Prints what is pinned.
pub(crate) fn list() {
    for Agent { command, platform, package, version, .. } in AGENTS {
        let platform = platform.unwrap_or("any");
        println!("{command:<10} {version:<10} {platform:<12} npm package {package}");
    }
}

/// The command: installs and says where.
pub(crate) fn run() -> Result<(), Failure> {
    install().map(drop).map_err(|error| error.to_string())
}

/// Installs what is not there yet and returns the folder with one link for each agent.
pub(crate) fn install() -> Result<PathBuf, InstallError> {
    let platform = platform();
    let agents: Vec<&Agent> =
        AGENTS.iter().filter(|agent| agent.platform.is_none_or(|p| p == platform)).collect();
    if agents.iter().all(|agent| agent.platform.is_none()) {
        return Err(InstallError::Platform(platform));
    }
    let sources = workspace::root().join("xtask/agents");
    let all = workspace::cache_dir()?.join("agents");
    at(&all, fs::create_dir_all(&all))?;
    let lock_path = all.join(".lock");
    let lock = at(&lock_path, File::create(&lock_path))?;
    if lock.try_lock().is_err() {
        println!("   waiting for another installation ({})", lock_path.display());
        at(&lock_path, lock.lock())?;
    }
    let home = all.join(identity(&sources)?);
    if home.exists() {
        println!("   already installed: {}", home.display());
    } else {
        let missing = tools::missing_for_agents();
        if !missing.is_empty() {
            return Err(InstallError::MissingTools(missing));
        }
        remove_unfinished(&all);
        let stage = all.join(format!(".unfinished-{}", std::process::id()));
        build(&sources, &stage, &agents)?;
        at(&home, fs::rename(&stage, &home))?;
        println!("   installed: {}", home.display());
    }
    let bin = home.join("bin");
    for agent in agents {
        let version = probe(&bin.join(agent.command), &all)?;
        println!("   {} --version: {version}", agent.command);
        // Some print their name, before or behind the number.
        if !version.split_whitespace().any(|word| word == agent.version) {
            let path = bin.join(agent.command);
            return Err(format!("{} is {version}, not {}", path.display(), agent.version).into());
        }
    }
    Ok(bin)
}

/// This machine in npm's words.
fn platform() -> String {
    let cpu = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    format!("{os}-{cpu}")
}

/// The name of the folder: a hash of what decides its content. Not against an attacker; npm checks the integrity.
fn identity(sources: &Path) -> Result<String, Failure> {
    let mut hash = Fnv::default();
    for name in ["package.json", "package-lock.json"] {
        let path = sources.join(name);
        hash.add(&at(&path, fs::read(&path))?);
    }
    hash.add(platform().as_bytes());
    Ok(format!("{:016x}", hash.0))
}

/// FNV-1a, 64 bits, as published by Fowler, Noll and Vo.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What an interrupted installation left. The lock is held, so nobody works in it.
fn remove_unfinished(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".unfinished-") {
            println!("   removing {}, left by an interrupted installation", entry.path().display());
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}

/// Makes the whole folder at `stage`: npm's part, then the links.
fn build(sources: &Path, stage: &Path, agents: &[&Agent]) -> Result<(), Failure> {
    let bin = stage.join("bin");
    at(&bin, fs::create_dir_all(&bin))?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        let to = stage.join(name);
        at(&to, fs::copy(sources.join(name), &to))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(stage).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    workspace::run(npm.stdin(Stdio::null()))?;
    for agent in agents {
        let inside = Path::new("node_modules").join(agent.package).join(agent.binary);
        let there = stage.join(&inside);
        if !there.is_file() {
            return Err(format!("npm ended well, but {} is not there", there.display()));
        }
        let link = bin.join(agent.command);
        at(&link, std::os::unix::fs::symlink(Path::new("..").join(&inside), &link))?;
    }
    Ok(())
}

/// What `BINARY --version` prints, in an empty home of its own below `all`.
fn probe(binary: &Path, all: &Path) -> Result<String, Failure> {
    let home = all.join(format!(".unfinished-probe-{}", std::process::id()));
    // Some make nothing in a home that is below the folder for temporary files.
    let temporary = home.join("tmp");
    at(&temporary, fs::create_dir_all(&temporary))?;
    let result = probe_in(binary, &home, &temporary);
    drop(fs::remove_dir_all(&home));
    result.map_err(|failure| format!("{} --version: {failure}", binary.display()))
}

fn probe_in(binary: &Path, home: &Path, temporary: &Path) -> Result<String, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let variables: [(&str, &OsStr); 4] = [
        ("HOME", home.as_os_str()),
        ("TMPDIR", temporary.as_os_str()),
        ("PATH", &path),
        ("TERM", OsStr::new("dumb")),
    ];
    // Into a file, not a pipe: nothing to drain while waiting.
    let printed = home.join("version");
    let out = at(&printed, File::create(&printed))?;
    let mut command = Command::new(binary);
    command.arg("--version").env_clear().envs(variables).current_dir(home).stdin(Stdio::null()).stdout(out);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) if status.success() => break,
            Some(status) => return Err(status.to_string()),
            None if start.elapsed() > PROBE_LIMIT => {
                drop(child.kill());
                drop(child.wait());
                return Err(format!("no answer in {} s", PROBE_LIMIT.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Ok(at(&printed, fs::read_to_string(&printed))?.trim().to_owned())
}

/// Adds the path to an I/O error.
fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{AGENTS, Fnv, workspace};

    #[test]
    fn the_table_and_the_npm_files_agree() {
        let read = |name: &str| {
            std::fs::read_to_string(workspace::root().join("xtask/agents").join(name))
                .expect("a file of this package")
        };
        let (package, lock) = (read("package.json"), read("package-lock.json"));
        for agent in AGENTS {
            let name = format!("\"{}\": ", agent.package);
            let line = package.lines().find(|line| line.contains(&name)).expect("a line for each agent");
            let line = line.trim().trim_end_matches(',');
            assert!(line.contains(agent.version) && lock.contains(line), "{line}");
            let fits = agent.platform.is_none_or(|platform| agent.package.ends_with(platform));
            assert!(fits, "{} is a platform package", agent.package);
        }
        assert!(!lock.contains("\"resolved\""), "the lock file names no download address");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = Fnv::default();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }
}
