//! The gates as commands: every reason code on a real repository, by exit code and by document.

mod beads;
mod commits;
mod evidence;
mod hooks;
mod places;
mod scope;

use crate::document;
use crate::world::World;
use serde_json::Value;

/// Asks a gate; the document, held against its schema. The text says the same.
#[track_caller]
pub(crate) fn ask(world: &World, code: i32, args: &[&str]) -> Value {
    let output = world.env.run(&[args, &["--json"]].concat()).assert_code(code);
    assert_eq!(output.stderr, "", "an answer is no error");
    let answer = document(&world.env, "gate", &output.stdout);
    assert_eq!(answer["schema"], "dx-runner/gate/1");
    assert_eq!(answer["passed"], code == 0, "{answer}");
    assert_eq!(format!("{}-gate", answer["gate"].as_str().unwrap()), args[0]);
    let text = world.env.run(args).assert_code(code).stdout;
    assert!(text.contains(&format!("({})", answer["reason_code"].as_str().unwrap())), "{text}");
    answer
}

/// Asks, and compares the reason.
#[track_caller]
fn reason(world: &World, code: i32, reason: &str, args: &[&str]) -> Value {
    let answer = ask(world, code, args);
    assert_eq!(answer["reason_code"], reason, "{answer}");
    answer
}

/// Commits everything with this message, and gives the id.
#[track_caller]
fn commit(world: &World, message: &str) -> String {
    world.env.git(&world.repo, &["add", "-A"]);
    world.env.git(&world.repo, &["commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", message]);
    world.env.git(&world.repo, &["rev-parse", "HEAD"]).trim().to_owned()
}
