//! Calling git so that nothing an agent left in a repository can run. Paths come from the record instead of discovery. No
//! hooks, fsmonitor, external diff, submodule's git, transport, system configuration, optional locks. Of the filters of
//! file content only the user's own stay, those of the global configuration: what the repository's configuration says of
//! filters is listed first, which runs nothing, and then overridden. Machine formats only.
//!
//! Between that list and the call an agent that still runs can define another one. It gains nothing: it runs already, with
//! the same rights.

mod call;
mod failure;
mod index;
#[cfg(test)]
pub(crate) mod real;
mod scratch;
mod staging;
mod unhidden;
mod untouched;

pub(crate) use call::Call;
pub(crate) use failure::{despite_kills, ended, failed, is_unanswered, last_line};
pub(crate) use scratch::{Scratch, copy_index};
pub(crate) use staging::stands_at;
pub(crate) use unhidden::Unhidden;

use crate::environment::find_program;
use crate::error::EngineError;
use dx_protocol::TreeStart;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// Where a repository's parts are, found by reading files and not by asking git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(crate) git_dir: PathBuf,
    pub(crate) common_dir: PathBuf,
    pub(crate) work_tree: PathBuf,
}

impl Repository {
    /// The repository that contains `path`; `None` when there is none.
    pub(crate) fn find(path: &Path) -> Option<Self> {
        path.ancestors().find_map(|dir| {
            let dot_git = dir.join(".git");
            let meta = std::fs::metadata(&dot_git).ok()?;
            let git_dir = if meta.is_dir() { dot_git } else { linked(dir, &dot_git)? };
            let common_dir = read_line(&git_dir.join("commondir"))
                .and_then(|text| git_dir.join(text.trim_end()).canonicalize().ok())
                .unwrap_or_else(|| git_dir.clone());
            git_dir.join("HEAD").exists().then(|| Self { git_dir, common_dir, work_tree: dir.to_owned() })
        })
    }

    /// From a record.
    pub(crate) fn recorded(tree: &TreeStart) -> Self {
        Self {
            git_dir: tree.git_dir.clone().into(),
            common_dir: tree.common_dir.clone().into(),
            work_tree: tree.work_tree.clone().into(),
        }
    }

    /// A git command on exactly this repository.
    pub(crate) fn git(&self, args: &[&str]) -> Result<Vec<u8>, EngineError> {
        run(self.command(args)?, args)
    }

    /// The same, with `input` on its standard input, all of which it must read before it prints.
    pub(crate) fn git_fed(&self, args: &[&str], input: &[u8]) -> Result<Vec<u8>, EngineError> {
        let mut command = self.command(args)?;
        let spawned = command.stdin(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|e| failed(args, e.to_string()))?;
        if let Some(mut pipe) = child.stdin.take() {
            // One that stops reading fails, and says why.
            let _fed = pipe.write_all(input);
        }
        told(args, child.wait_with_output().map_err(|e| failed(args, e.to_string()))?)
    }

    /// The same with another index than the repository's.
    pub(crate) fn git_with_index(&self, index: &Path, args: &[&str]) -> Result<Vec<u8>, EngineError> {
        let mut command = self.command(args)?;
        command.env("GIT_INDEX_FILE", index);
        run(command, args)
    }

    /// A git command that answers by its exit code: 0 is yes, 1 is no.
    pub(crate) fn git_says(&self, args: &[&str]) -> Result<bool, EngineError> {
        let output = output(args, self.command(args)?)?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(ended(args, &output)),
        }
    }

    fn command(&self, args: &[&str]) -> Result<Command, EngineError> {
        let here = || {
            let mut command = base();
            command
                .env("GIT_DIR", &self.git_dir)
                .env("GIT_COMMON_DIR", &self.common_dir)
                .env("GIT_WORK_TREE", &self.work_tree)
                .arg("-C")
                .arg(&self.work_tree);
            command
        };
        let mut command = here();
        if self.may_name_programs().map_err(|e| failed(args, format!("its configuration: {e}")))? {
            command.args(overrides(here())?);
        }
        command.args(args);
        Ok(command)
    }

    /// Whether the repository's configuration can name a program that no option of [`base`] takes away. Cheaper than
    /// to ask git, which is not needed for the configuration of most repositories.
    pub(crate) fn may_name_programs(&self) -> io::Result<bool> {
        const MAX_BYTES: u64 = 1 << 20;
        for path in [self.common_dir.join("config"), self.git_dir.join("config.worktree")] {
            match path.canonicalize().and_then(|path| dx_jobdir::read_bounded(&path, MAX_BYTES)) {
                Ok(text) if text.len() as u64 == MAX_BYTES => return Ok(true),
                Ok(text) => {
                    let has = |word: &str| {
                        text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
                    };
                    if ["filter", "include", "hook", "lfs", "credential", "driver"].into_iter().any(has) {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// A small file that git wrote, or an agent in its place: never a pipe, never followed, never much.
fn read_line(path: &Path) -> Option<String> {
    const MAX_BYTES: u64 = 16 << 10;
    String::from_utf8(dx_jobdir::read_bounded(path, MAX_BYTES).ok()?).ok()
}

/// `gitdir: <path>` of a linked worktree or submodule.
fn linked(dir: &Path, file: &Path) -> Option<PathBuf> {
    let text = read_line(file)?;
    dir.join(text.strip_prefix("gitdir:")?.trim()).canonicalize().ok()
}

/// The commit of HEAD of the repository that a folder lies in; `None` outside of one, and before its first commit.
pub fn head_of(folder: &std::path::Path) -> Option<String> {
    let head = Repository::find(folder)?.git(&["rev-parse", "--verify", "HEAD"]).ok()?;
    Some(line(&head))
}

/// Git without a repository, and without what a configuration could make it run; see also [`overrides`].
pub(crate) fn base() -> Command {
    // By its path, and led to a folder by an option: the standard library can spawn that without a fork, which for a
    // process of our size is dear.
    static GIT: LazyLock<PathBuf> = LazyLock::new(|| find_program("git").unwrap_or_else(|| "git".into()));
    let mut command = Command::new(&*GIT);
    command.env_clear();
    for name in ["HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // Git runs in the worktree, where a relative folder is an agent's.
    if let Some(path) = std::env::var_os("PATH") {
        let absolute = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
        command.env("PATH", std::env::join_paths(absolute).unwrap_or_default());
    }
    command
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        // What an agent put in another object's place (`refs/replace`) is not what it committed.
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        // Nor are parents that it made up (`info/grafts`).
        .env("GIT_GRAFT_FILE", "/dev/null")
        // No object is fetched, and were one, then over no protocol (a list that no configuration can add to).
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("GIT_ALLOW_PROTOCOL", "")
        .env("GIT_SSH_COMMAND", "false")
        .env("GIT_ASKPASS", "false")
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.pager=cat",
            "-c",
            "core.alternateRefsCommand=false",
            "-c",
            "diff.external=",
            "-c",
            "submodule.recurse=false",
            "-c",
            "status.submoduleSummary=false",
            "-c",
            "safe.directory=*",
            // Said of the variable above, in the middle of what a command has to say.
            "-c",
            "advice.graftFileDeprecated=false",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A git command in a user's repository, found by discovery or named by a `--git-dir=` in front. An agent may have written
/// its configuration too: worktrees share it.
pub(crate) fn git_in(dir: &Path, args: &[&str]) -> Result<Vec<u8>, EngineError> {
    let named = args.iter().take_while(|arg| arg.starts_with("--git-dir=")).count();
    let (named, args) = args.split_at(named);
    let here = || {
        let mut command = base();
        command.arg("-C").arg(dir).args(named);
        command
    };
    let mut command = here();
    command.args(overrides(here())?).args(args);
    run(command, args)
}

/// Options that put the user's own filters, or none, in the place of those that a repository's configuration defines,
/// and turn off all hooks that a configuration defines.
pub(crate) fn overrides(mut git: Command) -> Result<Vec<OsString>, EngineError> {
    let args = ["config", "--null", "--show-scope", "--get-regexp", r"^(filter|hook|lfs|credential|merge)\."];
    git.args(args);
    let output = output(&args, git)?;
    // 1: there is none.
    if output.status.code() != Some(1) && !output.status.success() {
        return Err(ended(&args, &output));
    }
    let settings = override_settings(&output.stdout).map_err(|why| failed(&args, why))?;
    Ok(settings.into_iter().flat_map(|setting| ["-c".into(), OsString::from_vec(setting)]).collect())
}

/// What git runs for a merge driver that a repository defines: it merges as if there were none.
const MERGE_AS_TEXT: &str = "git merge-file --quiet %A %O %B";

/// `key=value` of each override, from a list of `scope NUL key [LF value] NUL`.
fn override_settings(list: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    // All that git knows of a filter, and what turns it off.
    const PARTS: [(&str, &str); 4] = [("clean", ""), ("smudge", ""), ("process", ""), ("required", "false")];
    let (mut users, mut theirs) = (BTreeMap::new(), BTreeSet::new());
    let (mut filters, mut hooks, mut lfs_is_theirs) = (BTreeSet::new(), BTreeSet::new(), false);
    let mut drivers = BTreeSet::new();
    let mut fields = list.split(|byte| *byte == 0);
    while let (Some(scope), Some(entry)) = (fields.next(), fields.next()) {
        let mut parts = entry.splitn(2, |byte| *byte == b'\n');
        let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(b"true"));
        let trusted = scope == b"global" || scope == b"system";
        let named = |section: &str| {
            let rest = key.strip_prefix(section.as_bytes())?;
            Some(&rest[..rest.iter().rposition(|byte| *byte == b'.')?])
        };
        if let Some(name) = named("filter.") {
            if trusted {
                users.insert(key, value);
            } else {
                theirs.insert(key);
                filters.insert(name);
            }
        } else if let Some(name) = named("hook.") {
            hooks.insert(name);
        } else if let Some(name) = named("merge.") {
            if !trusted && key.ends_with(b".driver") {
                drivers.insert(name);
            }
        } else if !trusted {
            // git-lfs, which is most users' own filter, runs what these name.
            lfs_is_theirs |= [&b"lfs.extension."[..], b"lfs.customtransfer.", b"credential."]
                .iter()
                .any(|start| key.starts_with(start))
                || key.ends_with(b"standalonetransferagent");
        }
    }
    if lfs_is_theirs {
        filters.insert(b"lfs");
    }
    // An option ends its key at the first `=`.
    if let Some(name) = filters.iter().chain(&hooks).chain(&drivers).find(|name| name.contains(&b'=')) {
        return Err(format!("cannot override what is named {:?}", String::from_utf8_lossy(name)));
    }
    let mut settings = Vec::new();
    for name in filters {
        let key = |part: &str| [b"filter.", name, b".", part.as_bytes()].concat();
        // An empty process takes the place of the user's other commands; it cannot be taken back.
        let process = key("process");
        let stuck = theirs.contains(&process[..]) && !users.contains_key(&process[..]);
        let off = stuck || (lfs_is_theirs && name == b"lfs");
        for (part, nothing) in PARTS {
            let key = key(part);
            let value = users.get(&key[..]).copied().filter(|_| !off).unwrap_or(nothing.as_bytes());
            if off || theirs.contains(&key[..]) {
                settings.push([&key[..], b"=", value].concat());
            }
        }
    }
    // Git's own merge of text takes the place of a repository's driver.
    let driver = |name: &&[u8]| [b"merge.", *name, b".driver=", MERGE_AS_TEXT.as_bytes()].concat();
    settings.extend(drivers.iter().map(driver));
    settings.extend(hooks.iter().map(|name| [b"hook.", *name, b".enabled=false"].concat()));
    Ok(settings)
}

fn run(command: Command, args: &[&str]) -> Result<Vec<u8>, EngineError> {
    told(args, output(args, command)?)
}

/// What it tells; one that was killed and changes nothing is asked again.
fn output(args: &[&str], mut command: Command) -> Result<Output, EngineError> {
    let mut once = || command.output().map_err(|e| failed(args, e.to_string()));
    let output = once()?;
    if is_unanswered(args, &output) { once() } else { Ok(output) }
}

fn told(args: &[&str], output: Output) -> Result<Vec<u8>, EngineError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(ended(args, &output))
}

/// First line of an output.
pub(crate) fn line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(list: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let list: Vec<u8> =
            list.iter().flat_map(|(scope, entry)| format!("{scope}\0{entry}\0").into_bytes()).collect();
        let text = |setting| String::from_utf8(setting).unwrap();
        override_settings(&list).map(|settings| settings.into_iter().map(text).collect())
    }

    #[test]
    fn the_users_filters_stay_and_the_repositorys_go() {
        assert_eq!(settings(&[]).unwrap(), [""; 0]);
        assert_eq!(settings(&[("global", "filter.lfs.clean\ngit-lfs clean")]).unwrap(), [""; 0]);
        let both = [
            ("global", "filter.lfs.process\ngit-lfs filter-process"),
            ("global", "filter.lfs.required\ntrue"),
            ("local", "filter.lfs.clean\nevil"),
            ("local", "filter.lfs.process\nevil"),
            ("worktree", "filter.b.c.required"),
            ("global", "filter.user.clean\nsort"),
            ("local", "filter.user.process\nevil"),
            ("global", "hook.h.event\npost-checkout"),
            ("global", "merge.user.driver\nmine"),
            ("local", "merge.evil.driver\nevil"),
            ("local", "merge.ff\nonly"),
        ];
        let expected = [
            "filter.b.c.required=false",
            "filter.lfs.clean=",
            "filter.lfs.process=git-lfs filter-process",
            "filter.user.clean=",
            "filter.user.smudge=",
            "filter.user.process=",
            "filter.user.required=false",
            "merge.evil.driver=git merge-file --quiet %A %O %B",
            "hook.h.enabled=false",
        ];
        assert_eq!(settings(&both).unwrap(), expected);
    }

    #[test]
    fn git_lfs_does_not_run_what_a_repository_names() {
        let list = [("global", "filter.lfs.clean\ngit-lfs clean"), ("local", "lfs.extension.x.clean\nevil")];
        let expected =
            ["filter.lfs.clean=", "filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false"];
        assert_eq!(settings(&list).unwrap(), expected);
        assert_eq!(settings(&[list[0], ("local", "lfs.repositoryformatversion\n0")]).unwrap(), [""; 0]);
    }

    #[test]
    fn a_name_that_no_option_can_hold_is_an_error() {
        assert!(settings(&[("local", "filter.a=b.clean\nevil")]).is_err());
    }
}
