//! What others do while a wave is at work: somebody cancels it during a set-up, clears up, or moves its branch.
//!
//! For: `wave`. Must never: look into the product.

use super::world::{PATIENCE, World, item, row, states};
use dx_testkit::wait_until;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_cancel_during_a_set_up_begins_nothing() {
    let world = World::new();
    world.sandbox_off();
    let (began, gate) = (world.path("began"), world.path("gate"));
    let setup = format!("echo > {began}; while [ ! -e {gate} ]; do sleep 0.02; done");
    std::fs::write(world.repo.join(".dx-runner.toml"), format!("[worktree]\nsetup = [{setup:?}]\n")).unwrap();
    let file = world.file("", &[item("a", &[], "true", "")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    wait_until(PATIENCE, "the set-up runs", || std::fs::exists(&began).unwrap());
    let wave = world.env.state_dir().join("waves/w-1");
    std::fs::write(wave.join("cancel"), "").unwrap();
    wait_until(PATIENCE, "the coordinator knows", || {
        std::fs::read_to_string(wave.join("journal")).unwrap().contains("\"cancelling\"")
    });
    std::fs::write(&gate, "").unwrap();
    let a = world.until("a", "cancelled");
    assert!(row(&a, "a")["history"].as_array().is_none_or(Vec::is_empty), "{a:#}");
    let jobs = world.env.run(&["status", "--all", "--json"]).assert_code(0).stdout;
    let jobs: Value = serde_json::from_str(&jobs).unwrap();
    assert_eq!(jobs["jobs"], json!([]), "{jobs}");
}

#[test]
fn gc_leaves_what_a_wave_still_needs() {
    let world = World::new();
    world.sandbox_off();
    let gate = world.path("gate");
    let review =
        format!("while [ ! -e {gate} ]; do sleep 0.02; done; echo '{{\\\"verdict\\\":\\\"APPROVED\\\"}}'");
    let more = format!(
        "prompt = \"x\"\nreview = {{ provider = \"exec\", command = [\"sh\", \"-ec\", \"{review}\"] }}"
    );
    let commit = "echo x > a.txt; git add .; git commit -qm a";
    let file = world.file("merge_into = \"all\"", &[item("a", &[], commit, &more)]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("a", "reviewing");
    let gc = || {
        let text = world.env.run(&["gc", "--older-than", "0", "--json"]).assert_code(0).stdout;
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let early = gc();
    assert_eq!(early["removed"], json!([]), "{early}");
    let kept = early["kept"].as_array().unwrap();
    let why = kept.iter().find(|row| row["beads"] == "a").map(|row| row["why"].as_str().unwrap());
    assert_eq!(why, Some("wave w-1 is not over; dx-runner wave status w-1"), "{early}");
    std::fs::write(&gate, "").unwrap();
    wait_until(PATIENCE, "the wave is over", || world.ask(&["status", "w-1"]).1["state"] == "done");
    crate::gc::settle(&world.env);
    let late = gc();
    let gone: Vec<&str> =
        late["removed"].as_array().unwrap().iter().filter_map(|row| row["beads"].as_str()).collect();
    assert!(gone.contains(&"a"), "{late}");
}

/// Somebody's work comes onto the branch between the look at it and its move. Everything is merged with that, and what does
/// not fit with it is told with the branch, not with an item that has nothing to do with it.
#[test]
fn a_branch_that_moves_during_the_merge_is_merged_again() {
    let world = World::new();
    let git = |args: &[&str]| world.env.git(&world.repo, args);
    git(&["checkout", "-q", "-b", "theirs"]);
    std::fs::write(world.repo.join("f.txt"), "theirs\n").unwrap();
    git(&["add", "f.txt"]);
    git(&["commit", "-q", "-m", "theirs"]);
    git(&["checkout", "-q", "-"]);
    let moved = world.path("moved");
    let script = format!(
        "#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\ncase \" $* \" in *' update-ref --create-reflog '*' refs/heads/all '*)\n\
         [ -e {moved} ] || {{ : > {moved}; git -C {repo} branch -f all theirs; }};; esac\nexec git \"$@\"\n",
        repo = world.repo.display(),
    );
    let wrapper = world.env.bin_dir().join("git");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let items = [item("x", &[], "echo x > x.txt", ""), item("y", &[], "echo y > f.txt", "")];
    let (code, wave) = world.run("merge_into = \"all\"", &items);
    assert_eq!((code, states(&wave)), (31, vec!["done".to_owned(); 2]), "{wave:#}");
    assert!(std::fs::exists(&moved).unwrap(), "nobody moved it");
    assert_eq!(wave["merged"]["conflicts"].as_array().map(Vec::len), Some(1), "{wave:#}");
    assert_eq!(wave["merged"]["conflicts"][0]["items"], json!(["all", "y"]), "{wave:#}");
    assert_eq!((world.show("all", "x.txt"), world.show("all", "f.txt")), ("x\n".into(), "theirs\n".into()));
    let text = world.env.run(&["wave", "status", "w-1"]).stdout;
    assert!(text.contains("all and y do not fit together: f.txt"), "{text}");
}
