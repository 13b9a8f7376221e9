//! The demo agent against the scripted model: what it writes, and what it refuses to.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use dx_scripted_model::demo_agent::{AgentError, run};
use dx_scripted_model::{Scenario, ScriptedModel};

/// An empty directory that goes away with the value.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("dx-demo-agent-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn play(scenario: &Scenario, worktree: &Path) -> (Result<(), AgentError>, String) {
    let model = ScriptedModel::start(Scenario::text("not this one")).unwrap();
    let mut out = Vec::new();
    let prompt = "Working directory: /elsewhere\nplease";
    let result = run(&model.base_url_for(scenario), "m1", prompt, worktree, &mut out);
    (result, String::from_utf8(out).unwrap())
}

#[test]
fn writes_and_reads_below_the_worktree() {
    let dir = Dir::new();
    let scenario: Scenario =
        "write:src/a.txt:one\\, two,write:src/a.txt:three,read:src/a.txt,text:DONE \u{1b}\\[31m"
            .parse()
            .unwrap();
    let (result, out) = play(&scenario, &dir.0);
    result.unwrap();
    assert_eq!(std::fs::read_to_string(dir.0.join("src/a.txt")).unwrap(), "three");
    assert_eq!(
        out,
        "demo agent: asking m1\nwrote src/a.txt (8 bytes)\nwrote src/a.txt (5 bytes)\nread src/a.txt (5 bytes)\nmodel: DONE [31m\n"
    );
    assert_eq!(std::fs::read_dir(dir.0.join("src")).unwrap().count(), 1, "no leftovers");
}

#[test]
fn refuses_every_way_out() {
    let dir = Dir::new();
    let outside = Dir::new();
    std::fs::write(outside.0.join("target"), "kept").unwrap();
    std::os::unix::fs::symlink(&outside.0, dir.0.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.0.join("target"), dir.0.join("file-link")).unwrap();
    let absolute = outside.0.join("abs").display().to_string();
    for path in ["../x", "a/../../x", "link/x", "file-link", ".git/config", "sub/.GIT/x", "", ".", &absolute]
    {
        let (result, out) = play(&Scenario::write(path, "bad").then_text("DONE"), &dir.0);
        result.unwrap();
        assert!(out.contains("refused: "), "{path}: {out}");
    }
    let (result, out) = play(&"read:file-link,read:../x,bash:touch x,text:DONE".parse().unwrap(), &dir.0);
    result.unwrap();
    assert_eq!(out.matches("refused: ").count(), 2, "{out}");
    assert!(out.contains("SCRIPTED-NO-SUITABLE-TOOL among write read"), "{out}");
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(outside.0.join("target")).unwrap(), "kept");
}

#[test]
fn faults_are_errors() {
    let dir = Dir::new();
    let (result, _) = play(&Scenario::status(401), &dir.0);
    assert!(matches!(result, Err(AgentError::Refused { status: 401, .. })), "{result:?}");
    let (result, _) = play(&"garbage".parse().unwrap(), &dir.0);
    assert!(matches!(result, Err(AgentError::Answer(_))), "{result:?}");
    let (result, _) = play(&"drop".parse().unwrap(), &dir.0);
    assert!(matches!(result, Err(AgentError::Connection(_))), "{result:?}");
}
