//! Where things are, and how commands are run.
//!
//! For: every chore.
//! Called by: the other modules.
//! Must never: depend on the current directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The cargo that runs this program, in the root of the repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(root());
    command
}

/// Runs to the end with the terminal's output; the error names the command and how it ended.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    println!("   $ {}", shown(command));
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

/// Runs to the end and returns stdout; stderr is in the error.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", shown(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}\n{}", shown(command), output.status, errors.trim_end()))
}

/// A command as one would type it: the program's name and its arguments.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// The folder for what tests download: `DX_RUNNER_TEST_CACHE`, else `dx-runner-test` in the user's cache folder.
pub(crate) fn cache_dir() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("DX_RUNNER_TEST_CACHE")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|cache| cache.join("dx-runner-test")))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache/dx-runner-test")))
        .ok_or_else(|| "no cache folder: set DX_RUNNER_TEST_CACHE to an absolute path".to_owned())
}

/// The repository's files, relative to the root: tracked ones and new ones that are not ignored.
pub(crate) fn files() -> Result<Vec<PathBuf>, Failure> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = output(&mut git)?;
    let mut files: Vec<PathBuf> =
        listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    // Deleted but still in the index: not there to be checked.
    files.retain(|file| root().join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
