//! Secrets that an agent prints: gone from its log within a moment, from everything else before it is written, whoever of
//! ours dies in between. Offsets and sizes stay.

mod deaths;
mod leaks;

use crate::world::{PATIENCE, World, files_with, read};
use dx_testkit::{Output, wait_until};
use std::process::Command;

/// No shape of a token, so that only one who knows the value can mask it.
const VALUE: &str = "zqx/hush \"quoted\" 8151";
/// A part of it that is the same in every form.
const CORE: &str = "quoted";
/// The needle in a shape of a token.
const TOKEN: &str = "ghp_zqxTokenNeedle4402abcdef0123456789";
const TOKEN_CORE: &str = "zqxTokenNeedle4402";

impl World {
    /// A start that passes `HUSH` by name.
    #[track_caller]
    fn start_with_secret(&self, id: &str, more: &[&str], actions: &[&str]) -> Output {
        let mut command = self.env.product();
        let more = [&["--env", "HUSH"][..], more].concat();
        command.args(self.start_args(id, &more, actions)).env("HUSH", VALUE);
        self.env.run_command(command).assert_code(0)
    }

    /// The product with the value in its environment.
    fn knowing(&self, args: &[&str]) -> Command {
        let mut command = self.env.product();
        command.args(args).env("HUSH", VALUE);
        command
    }

    /// Waits until the log is `text`.
    #[track_caller]
    fn until_log(&self, id: &str, text: &str) {
        wait_until(PATIENCE, &format!("the log of {id} is {text:?}"), || read(self.view(id, "log")) == text);
    }

    /// No file below the state directory has a part of a secret, and no command prints one.
    #[track_caller]
    fn assert_silent(&self, id: &str, needles: &[&str]) {
        for needle in needles {
            assert_eq!(
                files_with(&self.env.state_dir(), needle),
                Vec::<std::path::PathBuf>::new(),
                "{needle}"
            );
        }
        let commands: [&[&str]; 10] = [
            &["status", "--json", "--all"],
            &["status", "--all"],
            &["check", "--json", "--explain", "--beads", id],
            &["check", "--beads", id],
            &["wait", "--json", "--beads", id],
            &["events", "--beads", id],
            &["logs", "--beads", id],
            &["logs", "--raw", "--beads", id],
            &["report", "--format", "json", "--beads", id],
            &["start", "--dry-run", "--provider", "exec", "--env", "HUSH", "--json", "--", "true"],
        ];
        for args in commands {
            let output = self.env.run_command(self.knowing(args));
            for needle in needles {
                assert!(!format!("{output}").contains(needle), "{args:?}: {output}");
            }
        }
    }
}

/// As many stars as the text has bytes.
fn stars(text: &str) -> String {
    "*".repeat(text.len())
}

/// No command line that names this world has the needle now, and no environment of a process of ours. Other tests have
/// processes of their own, with the same needle in them.
#[track_caller]
fn assert_not_in_processes(world: &World, needle: &str, but: i32) {
    let root = world.env.root().display().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        if !line.contains(&root) {
            continue;
        }
        assert!(!line.contains(needle), "the command line of {pid}");
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if pid != but && name.starts_with("dx-") {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environ).contains(needle), "the environment of {pid}, {name}");
        }
    }
}
