//! Everything an exec needs, made ready before the fork: program path, arguments and environment as C strings.
//!
//! Called by the spawners in the parent. Must never look at our own environment: the command's is complete.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};

use crate::error::{Error, Result};

/// Where a program without a directory is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A list of C strings with the null-terminated pointer array that exec takes.
pub(crate) struct CStrings {
    /// Owns what the pointers point to; its strings are never touched again.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }

    /// The array for exec; valid as long as `self`.
    pub(crate) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// Arguments for exec. Fails with [`Error::EmptyArgv`] or [`Error::NulByte`].
pub(crate) fn arguments(argv: &[OsString]) -> Result<CStrings> {
    if argv.is_empty() {
        return Err(Error::EmptyArgv);
    }
    argv.iter().map(|text| c_string(text, "an argument")).collect::<Result<_>>().map(CStrings::new)
}

/// Environment for exec. Fails with [`Error::NulByte`].
pub(crate) fn environment(env: &[(OsString, OsString)]) -> Result<CStrings> {
    let entry = |(name, value): &(OsString, OsString)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        c_string(&text, "an environment variable")
    };
    env.iter().map(entry).collect::<Result<_>>().map(CStrings::new)
}

/// Fails with [`Error::NulByte`] that names `what`.
pub(crate) fn c_string(text: &OsStr, what: &'static str) -> Result<CString> {
    CString::new(text.to_owned().into_vec()).map_err(|_| Error::NulByte { what })
}

/// Absolute path of a program: a name with a slash counts from `cwd`, another is looked for in the `PATH` of `env`.
///
/// Fails with [`Error::ProgramNotFound`]: `ENOENT`, or `EACCES` when `PATH` has it only as a file that may not be run.
/// A path with a slash is only checked to exist.
pub(crate) fn resolve(program: &OsStr, env: &[(OsString, OsString)], cwd: &Path) -> Result<PathBuf> {
    let fail =
        |code| Error::ProgramNotFound { program: program.into(), source: io::Error::from_raw_os_error(code) };
    if program.is_empty() {
        return Err(fail(libc::ENOENT));
    }
    let base = std::path::absolute(cwd)
        .map_err(|source| Error::ProgramNotFound { program: program.into(), source })?;
    if program.as_bytes().contains(&b'/') {
        let path = base.join(program);
        return match std::fs::metadata(&path) {
            Ok(_) => Ok(path),
            Err(source) => Err(Error::ProgramNotFound { program: program.into(), source }),
        };
    }
    let search = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    let mut code = libc::ENOENT;
    for folder in std::env::split_paths(search.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        // An empty entry means the working directory, as in a shell.
        let path = base.join(folder).join(program);
        if !std::fs::metadata(&path).is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        if rustix::fs::accessat(CWD, &path, Access::EXEC_OK, AtFlags::EACCESS).is_ok() {
            return Ok(path);
        }
        code = libc::EACCES;
    }
    Err(fail(code))
}
