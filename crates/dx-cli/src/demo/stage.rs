//! The demo's own surroundings: the program starts itself again in a clean environment, in which home, records and
//! worktrees lie in one throw-away folder. No account, key, proxy or setting of the user's gets there.
//!
//! Called by: `commands::demo`, `demo`. Must never: remove a folder that it did not make.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::demo::{agent, failed};
use crate::error::CliError;
use crate::output;
use dx_engine::Engine;

/// The folder to be made; set for the program that plays.
const FOLDER: &str = "DX_RUNNER_DEMO_FOLDER";
/// The real agent's program to be used, when there is one.
const AGENT: &str = "DX_RUNNER_DEMO_AGENT";
/// What jobs get between the request to end and the kill, when the demo ends before them.
const GRACE: Duration = Duration::from_secs(1);
/// A monitor may still write its last lines while its folder goes.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(10);

/// The folder to play in, when this is the program that plays.
pub(crate) fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// The real agent's program that was found for us.
pub(crate) fn agent() -> Option<PathBuf> {
    std::env::var_os(AGENT).map(PathBuf::from)
}

/// Becomes the program that plays; returns only when that fails.
pub(crate) fn enter(agent: Option<&Path>) -> CliError {
    match command(agent) {
        Ok(mut command) => failed("start this program again", command.exec()),
        Err(error) => failed("find a place for the demo", error),
    }
}

fn command(program: Option<&Path>) -> io::Result<Command> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let name = format!("dx-runner-demo-{}-{now:08x}", std::process::id());
    let folder = std::env::temp_dir().canonicalize()?.join(name);
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(std::env::args_os().skip(1))
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| stays(name)))
        .env("HOME", folder.join("home"))
        .env("DX_RUNNER_WORKTREE_ROOT", folder.join("worktrees"))
        .env(FOLDER, &folder);
    if let Some(program) = program {
        command.env(AGENT, program);
    }
    let is_first = |file: &&Path| {
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
        agent::on_path(name).as_deref() == Some(*file)
    };
    if let Some(program) = program.filter(|file| !is_first(file)) {
        // The engine looks for it on PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = program.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(dirs).map_err(io::Error::other)?;
        command.env("PATH", path);
    }
    Ok(command)
}

/// Whether a variable of the user's is still there in the demo.
fn stays(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_uppercase();
    // A job may not start jobs; that must not be forgotten on the way.
    let ours = name.starts_with("DX_RUNNER_") && name != dx_monitor::MARKER;
    let settings =
        ["OPENCODE_", "ANTHROPIC_", "CLAUDE", "XDG_", "GIT_"].iter().any(|prefix| name.starts_with(prefix));
    let access = ["_PROXY", "_KEY", "_TOKEN"].iter().any(|end| name.ends_with(end));
    !ours && !settings && !access
}

/// The throw-away folder with its engine. Dropping it ends the jobs and removes the folder.
pub(crate) struct Stage {
    pub(crate) folder: PathBuf,
    pub(crate) engine: Engine,
    pub(crate) keep: bool,
}

impl Stage {
    /// Makes the folder; one that exists is somebody else's.
    pub(crate) fn make(folder: &Path) -> Result<Self, CliError> {
        DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(|source| failed(format!("make {}", folder.display()), source))?;
        let settings =
            dx_engine::Settings { state_dir: Some(folder.join("state")), config: None, progress: None };
        let stage = Self { folder: folder.to_owned(), engine: Engine::new(settings), keep: false };
        for name in ["home", "worktrees"] {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(|source| failed(format!("make {}", path.display()), source))?;
        }
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for job in self.engine.live_jobs().unwrap_or_default() {
            if let Err(error) = self.engine.stop(&job, Some(GRACE)) {
                output::say(&format!("job {} could not be stopped: {error}", job.beads));
                self.keep = true;
            }
        }
        if self.keep {
            return;
        }
        let begun = Instant::now();
        while let Err(error) = fs::remove_dir_all(&self.folder) {
            if error.kind() != io::ErrorKind::DirectoryNotEmpty || begun.elapsed() > REMOVAL_PATIENCE {
                output::say(&format!("{} could not be removed: {error}", self.folder.display()));
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stays;

    #[test]
    fn nothing_of_an_account_stays() {
        for name in [
            "ANTHROPIC_MODEL",
            "CLAUDECODE",
            "CLAUDE_CONFIG_DIR",
            "OPENAI_API_KEY",
            "https_proxy",
            "OPENCODE_CONFIG",
            "XDG_DATA_HOME",
            "DX_RUNNER_STATE_DIR",
        ] {
            assert!(!stays(name.as_ref()), "{name}");
        }
        for name in ["PATH", "TERM", "LANG", "NO_COLOR", dx_monitor::MARKER] {
            assert!(stays(name.as_ref()), "{name}");
        }
    }
}
