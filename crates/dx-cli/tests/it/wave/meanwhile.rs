//! What others do while a wave is at work: somebody cancels it during a set-up, clears up, or moves its branch.
//!
//! For: `wave`. Must never: look into the product.

use super::world::{PATIENCE, World, coordinator, item, row, states};
use dx_testkit::{is_running, read_pid, send_signal, wait_for_file, wait_until};
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

/// What the set-up began goes with it, also what has cleared its environment; and it makes no difference who began it.
#[test]
fn a_cancel_ends_a_set_up_with_all_it_began_and_takes_its_worktree_away() {
    for case in ["it lives", "it was killed", "it dies over the cancel", "it is stopped"] {
        let world = World::new();
        world.sandbox_off();
        let (began, stray) = (world.path("began"), world.path("stray"));
        let setup = format!("env -i setsid sleep 120 & echo $! > {stray}; echo $$ > {began}; sleep 120");
        let project = format!("[worktree]\nsetup = [{setup:?}]\n");
        std::fs::write(world.repo.join(".dx-runner.toml"), project).unwrap();
        let file = world.file("", &[item("a", &[], "true", "")]);
        world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
        wait_until(PATIENCE, "the set-up runs", || {
            std::fs::read_to_string(&began).is_ok_and(|text| text.ends_with('\n'))
        });
        let pids = [read_pid(&began), read_pid(&stray)];
        let of_wave = coordinator(&world.env.state_dir(), "w-1").unwrap();
        if case == "it was killed" {
            send_signal(of_wave, 9);
            wait_until(PATIENCE, "it is gone", || !is_running(of_wave));
            assert!(pids.iter().all(|pid| is_running(*pid)), "the set-up went with it");
        }
        let (code, told) = std::thread::scope(|scope| {
            if ["it dies over the cancel", "it is stopped"].contains(&case) {
                send_signal(of_wave, 19);
            }
            let cancel = scope.spawn(|| world.ask(&["cancel", "w-1"]));
            if case == "it dies over the cancel" {
                wait_for_file(PATIENCE, world.env.state_dir().join("waves/w-1/cancel"));
                send_signal(of_wave, 9);
            }
            cancel.join().unwrap()
        });
        assert_eq!(code, 0, "{case}: {told:#}");
        let a = world.until("a", "cancelled");
        assert!(row(&a, "a")["history"].as_array().is_none_or(Vec::is_empty), "{a:#}");
        assert!(pids.iter().all(|pid| !is_running(*pid)), "{case}: {pids:?}");
        let json = |args: &[&str]| -> Value {
            serde_json::from_str(&world.env.run(args).assert_code(0).stdout).unwrap()
        };
        assert_eq!(json(&["status", "--all", "--json"])["jobs"], json!([]));
        assert_eq!(json(&["worktree", "list", "--json"])["worktrees"], json!([]));
        assert_eq!(world.env.git(&world.repo, &["branch", "--list", "a"]), "");
        assert!(!std::fs::exists(world.env.path("xdg/data/dx-runner/worktrees/a")).unwrap());
    }
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
    git_is(&world, &script);
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

/// Puts a script in git's place.
fn git_is(world: &World, script: &str) {
    let wrapper = world.env.bin_dir().join("git");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
}

/// One git of each step is killed, by somebody or for want of memory: the step is done again.
#[test]
fn a_git_that_is_killed_costs_no_item() {
    /// All that a wave calls after it has begun.
    const WORDS: [&str; 18] = [
        "reset",
        "read-tree",
        "write-tree",
        "commit-tree",
        "merge-tree",
        "merge-base",
        "update-ref",
        "update-index",
        "status",
        "for-each-ref",
        "symbolic-ref",
        "diff",
        "diff-index",
        "ls-files",
        "rev-list",
        // The branch that gets everything is checked out.
        "symbolic-ref --quiet HEAD",
        "update-ref -m",
        "read-tree -m -u",
    ];
    for word in WORDS {
        let world = World::new();
        if word.contains(' ') {
            world.env.git(&world.repo, &["checkout", "-q", "-b", "all"]);
        }
        let killed = world.path("killed");
        git_is(
            &world,
            &format!(
                "#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\ncase \" $* \" in *' {word} '*)\n\
                 [ -e {killed} ] || {{ : > {killed}; kill -9 $$; }};; esac\nexec git \"$@\"\n"
            ),
        );
        let commit = |name: &str| format!("echo x > {name}.txt");
        let items = [
            item(
                "x",
                &[],
                &format!("{}; git add x.txt; git commit -qm x", commit("x")),
                "require_commit = true",
            ),
            item("y", &["x"], &commit("y"), ""),
            item("z", &[], &commit("z"), "scope = [\"z.txt\"]"),
        ];
        let (code, wave) = world.run("merge_into = \"all\"", &items);
        assert!(std::fs::exists(&killed).unwrap(), "no git {word} was called");
        assert_eq!((code, states(&wave)), (0, vec!["done".to_owned(); 3]), "{word}: {wave:#}");
        assert!(wave["merged"]["commit"].is_string(), "{word}: {wave:#}");
    }
}

/// A wave each, with one item, all of which end at the same moment.
fn three_waves(world: &World, gate: &str) -> Vec<(i32, Value)> {
    let head = "merge_into = \"all\"\n[defaults]\nsandbox = \"off\"";
    let files: Vec<String> = ["m0", "m1", "m2"]
        .iter()
        .map(|id| {
            let script =
                format!("echo > {gate}.{id}; until test -e {gate}; do sleep 0.02; done; echo x > {id}.txt");
            let path = world.path(&format!("{id}.toml"));
            std::fs::rename(world.file(head, &[item(id, &[], &script, "")]), &path).unwrap();
            path
        })
        .collect();
    std::thread::scope(|scope| {
        let runs: Vec<_> = files.iter().map(|file| scope.spawn(move || world.ask(&["run", file]))).collect();
        wait_until(PATIENCE, "all are at work", || {
            ["m0", "m1", "m2"].iter().all(|id| std::fs::exists(format!("{gate}.{id}")).unwrap())
        });
        std::fs::write(gate, "").unwrap();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

/// Each has its turn, also when another git has the branch for a moment, and where its files are checked out.
#[test]
fn waves_that_end_at_once_all_get_onto_their_branch() {
    for is_checked_out in [false, true] {
        let world = World::new();
        let (once, gate) = (world.path("once"), world.path("gate"));
        let repo = world.repo.display();
        if is_checked_out {
            world.env.git(&world.repo, &["checkout", "-q", "-b", "all"]);
        }
        // The first to move it finds the lock of a git that has something else to do first.
        let lock = format!("{repo}/.git/refs/heads/all.lock");
        let script = format!(
            "#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\ncase \" $* \" in *' update-ref --create-reflog '*' refs/heads/all '*)\n\
             if mkdir {once} 2>&-; then : > {lock}; (sleep 0.5; rm {lock}) > {once}/out 2>&1 & fi;; esac\nexec git \"$@\"\n"
        );
        git_is(&world, &script);
        for (code, wave) in three_waves(&world, &gate) {
            assert_eq!((code, &wave["state"]), (0, &"done".into()), "{wave:#}");
        }
        assert_eq!(std::fs::exists(&once).unwrap(), !is_checked_out);
        for id in ["m0", "m1", "m2"] {
            assert_eq!(world.show("all", &format!("{id}.txt")), "x\n");
        }
        assert_eq!(world.env.git(&world.repo, &["status", "--porcelain"]), "");
    }
}

/// By whatever path its repository is named, and in another one, too: a job's id is one in the whole state directory.
#[test]
fn an_item_that_another_wave_has_is_refused_before_anything_starts() {
    let mut world = World::new();
    let gate = world.path("gate");
    let wait = format!("until test -e {gate}; do sleep 0.02; done");
    let file = world.file("[defaults]\nsandbox = \"off\"", &[item("a", &[], &wait, "")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("a", "running");
    let (sub, linked, link) = (world.repo.join("sub"), world.env.path("linked"), world.env.path("link"));
    std::fs::create_dir(&sub).unwrap();
    world.env.git(&world.repo, &["worktree", "add", "-q", linked.to_str().unwrap()]);
    std::os::unix::fs::symlink(&world.repo, &link).unwrap();
    let other = world.env.git_repo("other", &[("README.md", "# Other\n")]);
    for repo in [&sub, &linked, &link, &other] {
        world.repo.clone_from(repo);
        let file = world.file("", &[item("a", &[], "true", "")]);
        let (code, error) = world.ask(&["run", &file]);
        assert_eq!((code, &error["error"]["reason_code"]), (32, &"wave_item_taken".into()), "{error:#}");
        let of = if *repo == other { " of the repository " } else { " has it" };
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("a: wave w-1{of}")), "{message}");
    }
    std::fs::write(&gate, "").unwrap();
    world.until("a", "done");
    let (code, wave) = world.run("[defaults]\nsandbox = \"off\"", &[item("a", &[], "true", "")]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
}

#[test]
fn a_worktree_that_somebody_deleted_is_told_as_that() {
    let world = World::new();
    let gate = world.path("gate");
    let wait = format!("until test -e {gate}; do sleep 0.02; done");
    let file = world.file("[defaults]\nsandbox = \"off\"", &[item("a", &[], &wait, "")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    wait_until(PATIENCE, "its start is recorded", || {
        row(&world.ask(&["status", "w-1"]).1, "a")["history"][0]["run_uuid"].is_string()
    });
    let wave = world.ask(&["status", "w-1"]).1;
    send_signal(coordinator(&world.env.state_dir(), "w-1").unwrap(), 9);
    wait_until(PATIENCE, "it is gone", || coordinator(&world.env.state_dir(), "w-1").is_none());
    std::fs::write(&gate, "").unwrap();
    world.env.run(&["wait", "--beads", "a"]);
    std::fs::remove_dir_all(row(&wave, "a")["worktree"].as_str().unwrap()).unwrap();
    let (code, wave) = world.ask(&["resume", "w-1"]);
    let a = row(&wave, "a");
    assert_eq!(
        (code, &a["state"], &a["reason_code"]),
        (1, &"blocked".into(), &"worktree_missing".into()),
        "{wave:#}"
    );
}

#[test]
fn a_wave_that_was_cut_off_before_its_first_record_is_none() {
    let world = World::new();
    let dir = world.env.state_dir().join("waves/w-1");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).unwrap();
    std::fs::write(dir.join("journal"), "").unwrap();
    let list = world.ask(&["list"]).1;
    assert_eq!((&list["waves"], &list["damaged"]), (&json!([]), &Value::Null), "{list:#}");
    for command in ["status", "resume", "cancel", "report"] {
        let (_, error) = world.ask(&[command, "w-1"]);
        assert_eq!(error["error"]["reason_code"], "wave_not_found", "{command}: {error:#}");
        let next = error["error"]["next_action"].as_str().unwrap();
        assert!(!next.contains("w-1"), "{command}: {next}");
    }
}
