//! The throw-away repository, the three tasks, and what the scripted model does about each.
//!
//! Called by: `demo`. Must never: look at a repository or a configuration of the user's.

use dx_protocol::ReasonCode;
use dx_scripted_model::{Scenario, Step};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::CliError;

/// One job of the demo.
pub(crate) struct Task {
    /// The job's id, and its branch.
    pub(crate) id: &'static str,
    /// What the agent is asked to do.
    pub(crate) prompt: &'static str,
    /// A file to read first, as a careful agent does.
    read: &'static str,
    /// What it then writes.
    writes: &'static [(&'static str, &'static str)],
    answer: &'static str,
}

/// What is in the repository at the start.
const FILES: [(&str, &str); 3] = [("README.md", README), ("CHANGELOG.md", CHANGELOG), ("tempo.py", TEMPO)];
const README: &str = "# tempo\n\nTurns seconds into words: `90` becomes `1m 30s`.\n";
const CHANGELOG: &str = "# Changelog\n\n## 0.1.0\n\n- First version.\n";
const TEMPO: &str = "\"\"\"Seconds as people say them.\"\"\"\n\n\ndef words(seconds):\n    minutes = seconds // 60\n    \
                     return f\"{minutes}m {seconds}s\"\n";

/// The three jobs.
pub(crate) const TASKS: [Task; 3] = [
    Task {
        id: "add-usage",
        prompt: "Add a usage section to README.md.",
        read: "README.md",
        writes: &[(
            "README.md",
            "# tempo\n\nTurns seconds into words: `90` becomes `1m 30s`.\n\n## Usage\n\n    \
             >>> from tempo import words\n    >>> words(90)\n    '1m 30s'\n",
        )],
        answer: "The README now shows how to call words().",
    },
    Task {
        id: "fix-seconds",
        prompt: "words(90) gives '1m 90s'. Fix it in tempo.py and add a test.",
        read: "tempo.py",
        writes: &[
            (
                "tempo.py",
                "\"\"\"Seconds as people say them.\"\"\"\n\n\ndef words(seconds):\n    \
                 minutes, rest = divmod(seconds, 60)\n    return f\"{minutes}m {rest}s\"\n",
            ),
            (
                "test_tempo.py",
                "from tempo import words\n\n\ndef test_seconds_stay_below_sixty():\n    \
                 assert words(90) == \"1m 30s\"\n",
            ),
        ],
        answer: "Seconds are counted within the minute now, and a test says so.",
    },
    Task {
        id: "changelog",
        prompt: "Add an entry for version 0.2.0 to CHANGELOG.md.",
        read: "CHANGELOG.md",
        writes: &[(
            "CHANGELOG.md",
            "# Changelog\n\n## 0.2.0\n\n- Fixed: seconds stay below sixty.\n- Added: a usage section in the README.\n\n\
             ## 0.1.0\n\n- First version.\n",
        )],
        answer: "The changelog has an entry for 0.2.0.",
    },
];

/// What the model does for each prompt. The pauses are there for people: a model takes its time.
pub(crate) fn scenarios() -> Vec<(String, Scenario)> {
    TASKS.iter().map(|task| (task.prompt.to_owned(), scenario(task))).collect()
}

fn scenario(task: &Task) -> Scenario {
    let pause = || Step::Sleep(Duration::from_millis(1_600));
    let mut scenario = Scenario::step(pause()).then(Step::Read(task.read.to_owned()));
    for (path, content) in task.writes {
        scenario = scenario.then(pause()).then_write(*path, *content);
    }
    scenario.then(Step::Slow { pause: Duration::from_millis(120), text: Some(task.answer.to_owned()) })
}

/// Makes the repository with one commit; `home` stands for a home without any configuration.
pub(crate) fn make_repository(path: &Path, home: &Path) -> Result<PathBuf, CliError> {
    let made = fs::create_dir(path)
        .and_then(|()| FILES.iter().try_for_each(|(name, content)| fs::write(path.join(name), content)));
    made.map_err(|source| super::failed(format!("write {}", path.display()), source))?;
    git(path, home, &["init", "--quiet"])?;
    git(path, home, &["symbolic-ref", "HEAD", "refs/heads/main"])?;
    git(path, home, &["config", "user.name", "dx-runner demo"])?;
    git(path, home, &["config", "user.email", "demo@example.invalid"])?;
    git(path, home, &["add", "--all"])?;
    git(path, home, &["commit", "--quiet", "--no-gpg-sign", "--message", "First version"])?;
    Ok(path.to_owned())
}

fn git(path: &Path, home: &Path, args: &[&str]) -> Result<(), CliError> {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .arg("-C")
        .arg(path)
        .args(args)
        .stdin(Stdio::null());
    let refused = |why: String, next: &str| {
        CliError::refused_try(ReasonCode::GitFailed, format!("`git {}`: {why}", args.join(" ")), next)
    };
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(refused(text, "dx-runner doctor"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused("git is not on PATH".to_owned(), "install git; every job works in a git worktree"))
        }
        Err(error) => Err(refused(error.to_string(), "dx-runner doctor")),
    }
}
