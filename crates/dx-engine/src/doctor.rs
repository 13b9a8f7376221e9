//! `doctor` and `providers`: what this machine has, each line with what to do next. Starts no agent.

use crate::error::{told, unwritable};
use crate::providers::{Provider, checks};
use crate::settings::{Layers, Looked, group_may_write};
use crate::settle::Programs;
use crate::{Engine, EngineError, sandbox};
use dx_core::settings::Layer;
use dx_jobdir::StateDir;
use dx_protocol::{DoctorDocument, DoctorRow, Level, ProvidersDocument};
use std::path::Path;

const TMPFS_MAGIC: i64 = 0x0102_1994;
const NFS_MAGIC: i64 = 0x6969;
/// Below this much free space a job's record may not fit.
const NO_DISK_BYTES: u64 = 1 << 20;
/// Below this much free space a job's log may not fit.
const LOW_DISK_BYTES: u64 = 1 << 30;

impl Engine {
    pub fn providers(&self) -> Result<ProvidersDocument, EngineError> {
        let layers = self.layers_here(None)?;
        let providers = layers.providers.rows(&layers);
        Ok(ProvidersDocument { schema: "dx-runner/providers/1".to_owned(), providers })
    }

    pub fn doctor(&self) -> DoctorDocument {
        let mut checks = vec![self.state_dir_row()];
        checks.extend(self.disk_rows());
        checks.push(programs_row());
        checks.push(git_row());
        checks.push(kernel_row());
        checks.push(sandbox_row());
        let layers = self.layers_here(None);
        checks.extend(configuration_rows(&layers));
        let layers = layers.unwrap_or_default();
        checks.push(worktrees_row(&layers));
        checks.extend(provider_rows(&layers));
        DoctorDocument { schema: "dx-runner/doctor/1".to_owned(), checks }
    }

    fn state_dir_row(&self) -> DoctorRow {
        let root = match self.state_root() {
            Ok(root) => root,
            Err(error) => {
                return row(
                    "state directory",
                    Level::Error,
                    &error.to_string(),
                    "set HOME or DX_RUNNER_STATE_DIR",
                );
            }
        };
        match StateDir::open_existing(&root) {
            Ok(there) => {
                // What is not there yet is made in the nearest folder that is.
                let place = root.ancestors().find(|p| p.exists()).unwrap_or(&root);
                let writable = rustix::fs::access(place, rustix::fs::Access::WRITE_OK);
                match writable.map_err(std::io::Error::from) {
                    Ok(()) => {
                        let later = if there.is_some() { "" } else { " (made at the first start)" };
                        row("state directory", Level::Ok, &format!("{}{later}", root.display()), "-")
                    }
                    Err(error) => row(
                        "state directory",
                        Level::Error,
                        &format!("{} cannot be written: {error}", place.display()),
                        &unwritable(error.kind()),
                    ),
                }
            }
            Err(error) => {
                let error = EngineError::from(error);
                row("state directory", Level::Error, &told(&error), &error.next_action())
            }
        }
    }

    fn disk_rows(&self) -> Vec<DoctorRow> {
        let Ok(root) = self.state_root() else { return Vec::new() };
        let Some(place) = root.ancestors().find(|p| p.exists()) else { return Vec::new() };
        let mut rows = Vec::new();
        if let Ok(fs) = rustix::fs::statfs(place) {
            let free = fs.f_bavail.saturating_mul(u64::try_from(fs.f_bsize).unwrap_or(0));
            rows.push(disk_row(free));
            let kind = fs.f_type;
            if kind == TMPFS_MAGIC {
                rows.push(row(
                    "durability",
                    Level::Warn,
                    "the state directory is on tmpfs: records end with the boot",
                    "DX_RUNNER_STATE_DIR to a disk",
                ));
            } else if kind == NFS_MAGIC {
                rows.push(row(
                    "durability",
                    Level::Warn,
                    "the state directory is on NFS: locks and claims are only as good as the server's",
                    "DX_RUNNER_STATE_DIR to a local disk",
                ));
            }
        }
        if place.starts_with("/tmp") || place.starts_with("/var/tmp") {
            rows.push(row(
                "cleaners",
                Level::Warn,
                "the state directory is below a folder that systems clean",
                "DX_RUNNER_STATE_DIR elsewhere",
            ));
        }
        rows
    }
}

fn row(name: &str, level: Level, found: &str, next_action: &str) -> DoctorRow {
    DoctorRow { name: name.to_owned(), level, found: found.to_owned(), next_action: next_action.to_owned() }
}

fn disk_row(free: u64) -> DoctorRow {
    let text = format!("{} MiB free", free >> 20);
    match free {
        ..NO_DISK_BYTES => row("disk", Level::Error, &text, "free some space: starts are refused"),
        NO_DISK_BYTES..LOW_DISK_BYTES => row("disk", Level::Warn, &text, "free some space: logs need it"),
        _ => row("disk", Level::Ok, &text, "-"),
    }
}

fn programs_row() -> DoctorRow {
    match Programs::find() {
        Ok(programs) if programs.monitor != programs.runner => {
            let path = programs.monitor.display().to_string();
            if programs.monitor_is_ours() {
                row("monitor", Level::Ok, &path, "-")
            } else {
                let found = format!("{path} is of another version than dx-runner: starts would fail");
                row("monitor", Level::Error, &found, "install dx-runner and dx-monitor together")
            }
        }
        Ok(_) => row(
            "monitor",
            Level::Warn,
            "dx-monitor is not beside dx-runner: each job costs more memory",
            "install both programs together",
        ),
        Err(error) => row("monitor", Level::Error, &error.to_string(), "reinstall"),
    }
}

fn git_row() -> DoctorRow {
    match crate::git::git_in(Path::new("/"), &["--version"]) {
        Ok(version) => row("git", Level::Ok, &crate::git::line(&version), "-"),
        Err(error) => row("git", Level::Error, &error.to_string(), "install git"),
    }
}

/// The third witness needs `PIDFD_GET_INFO` with exit codes, which came with Linux 6.15.
fn kernel_row() -> DoctorRow {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split(['.', '-']).filter_map(|p| p.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= (6, 15) {
        row("kernel", Level::Ok, &release, "-")
    } else {
        row(
            "kernel",
            Level::Warn,
            &format!(
                "{release}: without exit codes behind pidfds, an exit is unseen when both monitor and launcher were replaced"
            ),
            "Linux 6.15 or newer",
        )
    }
}

fn sandbox_row() -> DoctorRow {
    match sandbox::of_kernel() {
        Ok((abi, missing)) if missing.is_empty() => {
            row("sandbox", Level::Ok, &format!("Landlock ABI {abi}"), "-")
        }
        Ok((abi, missing)) => row(
            "sandbox",
            Level::Warn,
            &format!("Landlock ABI {abi}, which leaves some things: {}", missing.join(", ")),
            "Linux 6.12 or newer",
        ),
        Err(why) => row(
            "sandbox",
            Level::Warn,
            &format!("none: {why}; agents have all rights of their user"),
            "a kernel with Landlock (CONFIG_SECURITY_LANDLOCK, `landlock` in the list lsm=)",
        ),
    }
}

/// Each file that is in use, or what is wrong with one.
fn configuration_rows(layers: &Result<Layers, EngineError>) -> Vec<DoctorRow> {
    let name = "configuration";
    let layers = match layers {
        Ok(layers) => layers,
        Err(error) => return vec![row(name, Level::Error, &error.to_string(), &error.next_action())],
    };
    let files: Vec<_> = layers.looked.iter().filter(|looked| looked.found).collect();
    if files.is_empty() {
        return vec![row(name, Level::Ok, "no file, the defaults hold", "-")];
    }
    let one = |looked: &&Looked| {
        let found = format!("{} ({})", looked.name, looked.layer);
        if looked.layer == Layer::User && group_may_write(Path::new(&looked.name)) {
            let next = format!("chmod g-w {}", looked.name);
            return row(name, Level::Warn, &format!("{found}: its group can write it"), &next);
        }
        row(name, Level::Ok, &found, "-")
    };
    files.iter().map(one).collect()
}

fn worktrees_row(layers: &Layers) -> DoctorRow {
    match layers.places().map_err(EngineError::from).and_then(|p| p.worktree_root().map(Path::to_owned)) {
        Ok(root) => row("worktrees", Level::Ok, &root.display().to_string(), "-"),
        Err(error) => {
            row("worktrees", Level::Error, &error.to_string(), "set HOME or DX_RUNNER_WORKTREE_ROOT")
        }
    }
}

fn provider_rows(layers: &Layers) -> Vec<DoctorRow> {
    layers.providers.iter().map(provider_row).collect()
}

/// The program, its version, and where credentials can be seen.
fn provider_row(provider: &Provider) -> DoctorRow {
    let name = format!("provider {}", provider.name);
    let Some(program) = &provider.program else {
        return row(&name, Level::Ok, "any command", "-");
    };
    let Some(binary) = provider.found() else {
        let found = if program.starts_with('/') {
            format!("{program} is not there")
        } else {
            "not found on PATH".to_owned()
        };
        return row(&name, Level::Warn, &found, &format!("install `{program}`, or put it on PATH"));
    };
    let version = checks::version_row(provider, &checks::version_now(provider, &binary));
    let env = provider.environment();
    let place = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let credentials = checks::credentials_named(provider, &env, &place);
    let mut found = binary.display().to_string();
    if let Some(version) = &version {
        found = format!("{found} ({})", version.found);
    }
    if let Some(credentials) = &credentials {
        found = format!("{found}; credentials: {}", credentials.found);
    }
    // A provider that cannot be used is no fault of the machine.
    let to_do: Vec<String> = [version, credentials]
        .into_iter()
        .flatten()
        .filter(|row| row.level != Level::Ok)
        .map(|row| row.next_action)
        .collect();
    if to_do.is_empty() {
        return row(&name, Level::Ok, &found, "-");
    }
    row(&name, Level::Warn, &found, &to_do.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_on_which_no_start_finds_room_is_an_error() {
        let levels = [0, NO_DISK_BYTES - 1, NO_DISK_BYTES, LOW_DISK_BYTES - 1, LOW_DISK_BYTES];
        let levels = levels.map(|free| disk_row(free).level);
        assert_eq!(levels, [Level::Error, Level::Error, Level::Warn, Level::Warn, Level::Ok]);
    }
}
