//! Real git repositories for tests.
//!
//! For: worktrees an agent may change.
//! Called by: `TestEnv::git_repo`, `TestEnv::git`.
//! Must never: read a user's or a system's git configuration, or depend on the clock (commit ids are stable).

use std::path::Path;
use std::process::Command;

/// The author of every commit, and the time of every commit the kit makes itself.
const AUTHOR: (&str, &str) = ("Test Author", "author@example.invalid");
const DATE: &str = "2030-01-02T03:04:05+00:00";

/// Keeps foreign configuration out of a git call, wherever it is made from.
pub(crate) fn isolate(command: &mut Command) -> &mut Command {
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
}

/// Makes `folder`, with `files` (path, content) in one commit on branch `main`.
///
/// Author and committer are in the repository's own configuration too, so that an agent can commit.
#[track_caller]
pub(crate) fn create(git: &dyn Fn() -> Command, folder: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, content));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    std::fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let run = |args: &[&str]| call(git(), folder, args);
    run(&["init", "--quiet", "--initial-branch=main"]);
    run(&["config", "user.name", AUTHOR.0]);
    run(&["config", "user.email", AUTHOR.1]);
    run(&["config", "commit.gpgsign", "false"]);
    run(&["add", "--all"]);
    run(&["commit", "--quiet", "--allow-empty", "--message=start"]);
}

/// One git call in `folder`; returns its stdout, panics with its stderr when it fails.
#[track_caller]
pub(crate) fn call(mut git: Command, folder: &Path, args: &[&str]) -> String {
    isolate(&mut git).env("GIT_AUTHOR_DATE", DATE).env("GIT_COMMITTER_DATE", DATE);
    let output = git.arg("-C").arg(folder).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run git: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "git {args:?} in {} ended with {}:\n{errors}",
        folder.display(),
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
