//! A wave from issues of the program that stands in for `bd` in reality, while others write to the same store.
//!
//! Called by: the soak suite `beads`, which builds that program first.

use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(3);
/// Who writes comments at the same time, and how many each.
const WRITERS: usize = 4;
const COMMENTS: usize = 50;

/// Runs it with this program.
pub(crate) fn run(env: &TestEnv, program: &Path) {
    env.link_program("bd", program);
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let ask = |args: &[&str]| {
        let mut command = env.command("bd");
        command.args(args).current_dir(&repo);
        env.run_command(command)
    };
    let bd = |args: &[&str]| ask(args).assert_code(0).stdout;
    bd(&["init", "--prefix", "bd"]);
    let create = |args: &[&str]| -> String {
        let made: Value = serde_json::from_str(&bd(&[&["create"], args, &["--json"]].concat())).unwrap();
        made["id"].as_str().unwrap().to_owned()
    };
    let first = create(&["First", "-d", "Make the first file."]);
    let left = create(&["Left"]);
    let bad = create(&["Bad"]);
    let end = create(&["End"]);
    let after = create(&["After"]);
    let epic = create(&["All", "-t", "epic"]);
    let elsewhere = create(&["Elsewhere"]);
    bd(&["update", &elsewhere, "--status", "in_progress"]);
    let waits = create(&["Waits"]);
    for (issue, need) in
        [(&left, &first), (&end, &left), (&end, &first), (&after, &bad), (&waits, &elsewhere)]
    {
        bd(&["dep", "add", issue, need]);
    }

    let script = format!("cat > $DX_RUNNER_BEADS_ID.md; test $DX_RUNNER_BEADS_ID != {bad}");
    let file = env.path("wave.toml");
    let text = format!(
        "[wave]\nname = \"w\"\nrepo = \"{}\"\nprovider = \"exec\"\nmax_attempts = 1\nmerge_into = \"all\"\n[defaults]\nsandbox = \"off\"\ncommand = [\"sh\", \"-ec\", \"{script}\"]\n",
        repo.display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let plan = env.run(&["wave", "plan", &file, "--from-beads", "--json"]).assert_code(0).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let ids = |list: &Value, id: fn(&Value) -> &Value| -> BTreeSet<String> {
        list.as_array().unwrap().iter().map(|row| id(row).as_str().unwrap().to_owned()).collect()
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<String>>();
    let layers: Vec<BTreeSet<String>> =
        plan["layers"].as_array().unwrap().iter().map(|layer| ids(layer, |id| id)).collect();
    assert_eq!(layers, [set(&[&first, &bad]), set(&[&left, &after]), set(&[&end])], "{plan:#}");
    assert_eq!(ids(&plan["left_out"], |left| &left["id"]), set(&[&epic, &waits]), "{plan:#}");

    // Of so many at once some fail, each with another message of the store; so it may be with the wave's own calls.
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..COMMENTS {
                    let output = ask(&["comments", "add", &elsewhere, "again", "--json"]);
                    failed.fetch_add(u32::from(output.code != 0), Ordering::Relaxed);
                }
            });
        }
        let output = env.run(&["wave", "run", &file, "--from-beads", "--write-back", "--json"]);
        let wave: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!(output.code, 31, "{wave:#}");
        let shown = |id: &str| ask(&["show", id, "--json"]).stdout;
        let status = |id: &str| {
            let shown: Value = serde_json::from_str(&shown(id)).unwrap_or_default();
            shown[0]["status"].as_str().unwrap_or_default().to_owned()
        };
        for (id, word) in [
            (&first, "closed"),
            (&left, "closed"),
            (&end, "closed"),
            (&bad, "blocked"),
            (&after, "open"),
            (&epic, "open"),
            (&waits, "open"),
        ] {
            wait_until(PATIENCE, &format!("{id} is {word}"), || status(id) == *word);
        }
        wait_until(PATIENCE, "the reason stands in a comment", || shown(&bad).contains("wave w-1: failed"));
        let wave = env.run(&["wave", "status", "w-1", "--json"]).assert_code(0).stdout;
        assert!(!wave.contains("write_back_failure"), "{wave}");
    });
    let prompt = env.git(&repo, &["show", &format!("all:{first}.md")]);
    assert_eq!(prompt, format!("{first}: First\n\nMake the first file.\n"));
    println!(
        "a wave of 5 issues beside {} writes of others, of which {} failed",
        WRITERS * COMMENTS,
        failed.load(Ordering::Relaxed)
    );
}
