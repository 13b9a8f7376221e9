//! `demo --install`: a pinned OpenCode from the npm registry into the user's data folder.
//!
//! The platform package holds the native binary: no install script is run and no Node is needed afterwards. It is
//! installed beside its final place and then renamed, so the final name is never half there.
//! Called by: `commands::demo`, `demo::agent`. Must never: touch another installation.

use dx_protocol::ReasonCode;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::agent::is_program;
use crate::context::Context;
use crate::demo::{Interrupts, failed};
use crate::error::CliError;

pub(crate) const VERSION: &str = "1.18.33";
const INSTALL_NPM: &str = "install Node.js with npm, or run dx-runner demo without --install";

/// Package and, where it is known, the registry's hash of its content.
fn package() -> Option<(&'static str, Option<&'static str>)> {
    match std::env::consts::ARCH {
        "x86_64" => Some((
            "opencode-linux-x64",
            Some(
                "sha512-q/t/3p2CTxOT9y2kvjesb/LZab2+1eqlhhWA02Be6mjTtmYtNBcBsrI5yDo4Fw7ZSPBW2oyMIGMNRqiKQjiAWw==",
            ),
        )),
        "aarch64" => Some(("opencode-linux-arm64", None)),
        _ => None,
    }
}

/// Where our OpenCode is, or would be.
pub(crate) fn binary() -> Option<PathBuf> {
    Some(place()?.join(inside(package()?.0)))
}

fn inside(package: &str) -> PathBuf {
    Path::new("node_modules").join(package).join("bin/opencode")
}

/// Whether a binary is one that was fetched by us; its home may have been another one.
pub(crate) fn is_ours(binary: &Path) -> bool {
    package().is_some_and(|(package, _)| binary.ends_with(below_data().join(inside(package))))
}

fn below_data() -> PathBuf {
    PathBuf::from(format!("dx-runner/agents/opencode-{VERSION}"))
}

fn place() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join(below_data()))
}

/// Installs what is not there yet; the binary.
pub(crate) fn install(ctx: &Context) -> Result<PathBuf, CliError> {
    let refused =
        |message: String, next: &str| CliError::refused_try(ReasonCode::OpencodeBinaryMissing, message, next);
    let (Some(place), Some((package, hash))) = (place(), package()) else {
        let platform = std::env::consts::ARCH;
        let message =
            format!("no OpenCode is pinned for {platform}, or neither HOME nor XDG_DATA_HOME is set");
        return Err(refused(message, "put opencode on PATH, or run dx-runner demo without --install"));
    };
    let binary = place.join(inside(package));
    if is_program(&binary) {
        ctx.out.note(format!("OpenCode {VERSION} is installed already"));
        return Ok(binary);
    }
    let interrupts = Interrupts::new()?;
    let stage = Unfinished(place.with_file_name(format!(".unfinished-{}", std::process::id())));
    fs::create_dir_all(&stage.0).map_err(|source| failed(format!("make {}", stage.0.display()), source))?;
    ctx.out.note(format!("fetching {package}@{VERSION} from the npm registry (180 MB on disk) …"));
    let log_path = stage.0.join("npm.log");
    let log =
        File::create(&log_path).map_err(|source| failed(format!("make {}", log_path.display()), source))?;
    let npm = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"])
        .arg(&stage.0)
        .arg(format!("{package}@{VERSION}"))
        .current_dir(&stage.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let status = match npm {
        Ok(child) => wait(child, &interrupts)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refused("npm is not on PATH; --install needs it".to_owned(), INSTALL_NPM));
        }
        Err(error) => return Err(failed("start npm", error)),
    };
    let there = stage.0.join(inside(package));
    if !status.success() || !is_program(&there) {
        let told = fs::read_to_string(&log_path).unwrap_or_default();
        let told: Vec<&str> = told.lines().filter(|line| line.contains("npm error")).take(5).collect();
        let message = format!("npm did not install {package}@{VERSION} ({status})\n{}", told.join("\n"));
        return Err(refused(
            message.trim_end().to_owned(),
            "check the network and the npm registry, then try again",
        ));
    }
    if let Some(hash) = hash
        && installed_hash(&stage.0, package).as_deref() != Some(hash)
    {
        let message =
            format!("what the registry sent as {package}@{VERSION} is not the known package; removed");
        return Err(refused(message, "check which registry npm uses: npm config get registry"));
    }
    // A folder without the binary is of no use to anybody; one that came meanwhile is as good as ours.
    if !is_program(&binary) {
        let _unneeded = fs::remove_file(&log_path);
        let _gone = fs::remove_dir_all(&place);
        fs::rename(&stage.0, &place).map_err(|source| failed(format!("make {}", place.display()), source))?;
    }
    ctx.out.note(format!("installed in {}", place.display()));
    Ok(binary)
}

/// A folder that goes, unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

/// The end of npm, or Ctrl-C.
fn wait(mut child: Child, interrupts: &Interrupts) -> Result<ExitStatus, CliError> {
    let pid = rustix::process::Pid::from_child(&child);
    let ended = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|error| failed("wait for npm", error.into()))?;
    if interrupts.wait(ended.as_fd())? {
        let _killed = child.kill();
        let _reaped = child.wait();
        return Err(CliError::refused_try(
            ReasonCode::Interrupted,
            "interrupted; nothing was installed",
            "-",
        ));
    }
    child.wait().map_err(|source| failed("wait for npm", source))
}

/// The hash of what npm unpacked, from its own record.
fn installed_hash(folder: &Path, package: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join("node_modules/.package-lock.json")).ok()?;
    let lock: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(lock["packages"][format!("node_modules/{package}")]["integrity"].as_str()?.to_owned())
}
