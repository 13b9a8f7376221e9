//! A repository, a wave file in it, and the processes behind a wave: what the tests of waves have in common.
//!
//! For: `wave` and the soak tests. Must never: look into the product; commands, files and `/proc` are what it knows.

use dx_testkit::{Output, TestEnv, wait_until};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct World {
    pub(crate) env: TestEnv,
    pub(crate) repo: PathBuf,
}

/// An item of provider exec: a shell script, and more lines.
pub(crate) fn item(id: &str, needs: &[&str], script: &str, more: &str) -> String {
    let script = script.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!("[[item]]\nid = \"{id}\"\nneeds = {needs:?}\n");
    let _fits = writeln!(text, "command = [\"sh\", \"-ec\", \"{script}\"]\n{more}");
    text
}

impl World {
    pub(crate) fn new() -> Self {
        let env = TestEnv::new().dx_runner(env!("CARGO_BIN_EXE_dx-runner")).deadline(PATIENCE);
        let repo = env.git_repo("demo", &[("README.md", "# Demo\n")]);
        Self { env, repo }
    }

    /// Nothing is confined, reviews neither, without a word about it in the file.
    pub(crate) fn sandbox_off(&self) {
        let config = self.env.path("xdg/config/dx-runner/config.toml");
        std::fs::create_dir_all(config.parent().unwrap()).unwrap();
        std::fs::write(&config, "sandbox = \"off\"\n").unwrap();
    }

    /// Writes the wave file; `head` are lines of `[wave]`.
    pub(crate) fn file(&self, head: &str, items: &[String]) -> String {
        let path = self.env.path("wave.toml");
        let repo = self.repo.display();
        let text = format!(
            "[wave]\nname = \"w\"\nprovider = \"exec\"\nrepo = \"{repo}\"\n{head}\n{}",
            items.concat()
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs a wave to its end: exit code and document.
    #[track_caller]
    pub(crate) fn run(&self, head: &str, items: &[String]) -> (i32, Value) {
        let file = self.file(head, items);
        let output = self.env.run(&["wave", "run", &file, "--json"]);
        (output.code, parse(&output))
    }

    /// A command about waves with `--json`: exit code and document, of the error when it failed.
    pub(crate) fn ask(&self, args: &[&str]) -> (i32, Value) {
        let output = self.env.run(&[&["wave"], args, &["--json"]].concat());
        let text = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
        (output.code, serde_json::from_str(text).unwrap_or(Value::Null))
    }

    /// Waits until an item of wave `w-1` is so.
    #[track_caller]
    pub(crate) fn until(&self, item: &str, state: &str) -> Value {
        let mut found = Value::Null;
        wait_until(PATIENCE, &format!("{item} is {state}"), || {
            found = self.ask(&["status", "w-1"]).1;
            row(&found, item)["state"] == state
        });
        found
    }

    /// What a commit has in a file.
    pub(crate) fn show(&self, commit: &str, path: &str) -> String {
        self.env.git(&self.repo, &["show", &format!("{commit}:{path}")])
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.env.path(name).display().to_string()
    }
}

#[track_caller]
fn parse(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// One item of a wave's document.
pub(crate) fn row<'v>(wave: &'v Value, id: &str) -> &'v Value {
    let items = wave["items"].as_array();
    items.and_then(|items| items.iter().find(|item| item["id"] == id)).unwrap_or(&Value::Null)
}

/// States by item, in the order of the file.
pub(crate) fn states(wave: &Value) -> Vec<String> {
    let items = wave["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["state"].as_str().unwrap_or("?").to_owned()).collect()
}

/// The coordinator of a wave, when one lives.
pub(crate) fn coordinator(state_dir: &Path, wave: &str) -> Option<i32> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let state_dir = state_dir.to_str()?;
    let is_one = |pid: i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&str> = line.split('\0').collect();
        words.get(1) == Some(&"__wave") && words.get(2) == Some(&wave) && words.get(3) == Some(&state_dir)
    };
    // A child that has not begun its program yet looks like it.
    let parent = |pid: i32| -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    pids.into_iter().find(|pid| is_one(*pid) && !parent(*pid).is_some_and(is_one))
}
