//! Whole waves of scripted agents: order, what dependants start from, checks, reviews, gates, merges, ends.

use super::world::{World, item, row, states};
use crate::document;
use serde_json::json;

#[test]
fn a_diamond_runs_in_order_and_is_merged() {
    let world = World::new();
    let log = world.path("log");
    let note = |id: &str, rest: &str| format!("echo {id} >> {log}; {rest}");
    let items = [
        item("top", &[], &note("top", "echo top > top.txt"), ""),
        // One that commits, one that leaves its work as it is.
        item(
            "left",
            &["top"],
            &note("left", "cat top.txt; echo left > left.txt; git add .; git commit -qm left"),
            "require_commit = true\nscope = [\"left.txt\"]",
        ),
        item(
            "right",
            &["top"],
            &note("right", "cat top.txt; echo right > right.txt"),
            "check = \"grep -q right right.txt\"",
        ),
        item("end", &["left", "right"], &note("end", "cat left.txt right.txt > end.txt"), ""),
    ];
    let sandbox = "merge_into = \"all\"\n[defaults]\nsandbox = \"off\"";
    let (code, wave) = world.run(sandbox, &items);
    assert_eq!(code, 0, "{wave:#}");
    document(&world.env, "wave", &wave.to_string());
    assert_eq!(
        (wave["state"].as_str(), states(&wave)),
        (Some("done"), vec!["done".to_owned(); 4]),
        "{wave:#}"
    );
    let order: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    let at = |id: &str| order.iter().position(|line| line == id).unwrap();
    assert_eq!(order.len(), 4, "{order:?}");
    assert!(at("top") == 0 && at("end") == 3, "{order:?}");
    // The branch of the last starts from the merge of what it needs.
    let end = row(&wave, "end");
    let base = end["base"].as_str().unwrap();
    assert_eq!(
        (world.show(base, "left.txt"), world.show(base, "right.txt")),
        ("left\n".into(), "right\n".into())
    );
    assert_eq!(world.show("all", "end.txt"), "left\nright\n");
    assert_eq!(world.show("all", "top.txt"), "top\n");
    let merged = &wave["merged"];
    assert_eq!((&merged["branch"], &merged["conflicts"]), (&"all".into(), &json!([])), "{merged}");
    for item in ["top", "left", "right", "end"] {
        let gates = row(&wave, item)["gates"].as_array().unwrap();
        assert!(!gates.is_empty() && gates.iter().all(|gate| gate["passed"] == true), "{wave:#}");
    }
    // The main checkout is as it was.
    assert_eq!(world.env.git(&world.repo, &["status", "--porcelain"]), "");
    assert!(!world.repo.join("end.txt").exists());
    let (_, waves) = world.ask(&["list"]);
    document(&world.env, "waves", &waves.to_string());
    assert_eq!((&waves["waves"][0]["wave_id"], &waves["waves"][0]["state"]), (&"w-1".into(), &"done".into()));
    let report = world.env.run(&["wave", "report", "w-1"]).assert_code(0).stdout;
    assert!(report.contains("attempt 1 by exec: exit code 0"), "{report}");
    // Prompts are kept no longer than they are needed.
    let left: Vec<_> =
        std::fs::read_dir(world.env.state_dir().join("waves/w-1")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    // A wave whose journal is damaged is not left out of the list.
    let read = std::fs::read_to_string(world.env.state_dir().join("waves/w-1/journal")).unwrap();
    std::fs::write(world.env.state_dir().join("waves/w-1/journal"), "nothing\n").unwrap();
    let (code, waves) = world.ask(&["list"]);
    document(&world.env, "waves", &waves.to_string());
    assert_eq!((code, &waves["waves"], &waves["damaged"][0]["wave_id"]), (0, &json!([]), &"w-1".into()));
    let why = waves["damaged"][0]["why"].as_str().unwrap();
    assert!(why.contains("is damaged: its first record"), "{why}");
    let text = world.env.run(&["wave", "list"]).assert_code(0).stdout;
    let words = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert!(text.lines().any(|line| words(line) == ["w-1", "damaged"]) && text.contains(why), "{text}");
    // Nor does one of a newer version keep the others from it.
    let newer = world.env.state_dir().join("waves/w-2");
    std::fs::create_dir(&newer).unwrap();
    std::fs::write(newer.join("journal"), read.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    let (code, waves) = world.ask(&["list"]);
    document(&world.env, "waves", &waves.to_string());
    let [first, second] = [&waves["damaged"][0], &waves["damaged"][1]];
    assert_eq!(
        (code, &first["newer"], &second["newer"]),
        (0, &serde_json::Value::Null, &true.into()),
        "{waves:#}"
    );
    let text = world.env.run(&["wave", "list"]).assert_code(0).stdout;
    assert!(
        text.lines().any(|line| words(line) == ["w-2", "newer"]) && text.contains("newer version"),
        "{text}"
    );
}

#[test]
fn a_failing_check_leads_to_a_revision_with_its_findings() {
    let world = World::new();
    let script = "cat > prompt.txt; if grep -q 'attempt 2' prompt.txt; then echo good > out.txt; fi";
    let check = "prompt = \"make out.txt\"\ncheck = \"test -f out.txt || { printf 'NO \\\\000\\\\033[2JOUT YET'; exit 3; }\"\nscope = [\"*.txt\"]";
    let (code, wave) = world.run("", &[item("a", &[], script, check)]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
    let a = row(&wave, "a");
    assert_eq!(a["attempts"], 2, "{wave:#}");
    assert_eq!(
        (&a["history"][0]["verdict"], &a["history"][0]["reason_code"]),
        (&"revise".into(), &"check_failed".into())
    );
    let commit = a["commit"].as_str().unwrap();
    let prompt = world.show(commit, "prompt.txt");
    assert!(prompt.starts_with("make out.txt\n\nThis is attempt 2."), "{prompt}");
    // Without what no prompt can hold, and no terminal should get.
    assert!(prompt.contains("NO \u{fffd}OUT YET"), "{prompt}");
    // Everything that both attempts did.
    assert_eq!(world.show(commit, "out.txt"), "good\n");
}

#[test]
fn a_review_returns_findings_and_then_approves() {
    let world = World::new();
    let script = "cat > prompt.txt; if grep -q 'say fixed' prompt.txt; then echo fixed > work.txt; else echo first > work.txt; fi";
    let review = r#"cat >/dev/null; if grep -q fixed work.txt; then echo '{"verdict":"APPROVED"}'; else echo '{"verdict":"REVISION_REQUIRED","findings":["say fixed"]}'; fi"#;
    let review = review.replace('"', "\\\"");
    let more = format!(
        "prompt = \"work\"\nreview = {{ provider = \"exec\", command = [\"sh\", \"-ec\", \"{review}\"] }}"
    );
    let (code, wave) = world.run("", &[item("a", &[], script, &more)]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
    let a = row(&wave, "a");
    assert_eq!(a["reason_code"], "review_approved");
    let reviews: Vec<&str> =
        a["history"].as_array().unwrap().iter().map(|attempt| attempt["review"].as_str().unwrap()).collect();
    assert_eq!(reviews, ["REVISION_REQUIRED", "APPROVED"], "{wave:#}");
    let commit = a["commit"].as_str().unwrap();
    assert_eq!(world.show(commit, "work.txt"), "fixed\n");
}

#[test]
fn reviews_that_say_nothing_or_stop_the_item_block_it() {
    let world = World::new();
    let review = |answer: &str| {
        let answer = answer.replace('"', "\\\\\\\"");
        format!(
            "prompt = \"x\"\nreview = {{ provider = \"exec\", command = [\"sh\", \"-ec\", \"cat >/dev/null; echo \\\"{answer}\\\"\"] }}"
        )
    };
    let items = [
        item("mute", &[], "echo x > a.txt", &review("looks good to me")),
        item(
            "stop",
            &[],
            "echo x > b.txt",
            &review("{\"verdict\":\"BLOCKED\",\"findings\":[\"ask legal\"]}"),
        ),
        item("after", &["stop"], "true", ""),
    ];
    let (code, wave) = world.run("", &items);
    assert_eq!(
        (code, states(&wave)),
        (1, ["blocked", "blocked", "skipped"].map(str::to_owned).to_vec()),
        "{wave:#}"
    );
    assert_eq!(row(&wave, "mute")["reason_code"], "review_unreadable");
    let stop = row(&wave, "stop");
    assert_eq!((&stop["reason_code"], &stop["message"]), (&"review_blocked".into(), &"ask legal".into()));
    // The agent's log says nothing of it.
    assert_eq!(wave["next_action"], "dx-runner wave report w-1");
    let report = world.env.run(&["wave", "report", "w-1"]).assert_code(0).stdout;
    assert!(report.contains("finding: ask legal"), "{report}");
}

#[test]
fn a_review_that_moves_the_branch_of_the_work_does_not_count() {
    let world = World::new();
    let review = "cat >/dev/null; new=$(git commit-tree -p HEAD -m mine HEAD^{tree}) && git update-ref refs/heads/a $new || true; echo '{\\\"verdict\\\":\\\"APPROVED\\\"}'";
    let more = |sandbox: &str| {
        format!(
            "prompt = \"x\"\n{sandbox}\nreview = {{ provider = \"exec\", command = [\"sh\", \"-c\", \"{review}\"] }}"
        )
    };
    // Nothing but the comparison at the end holds it off.
    let world_off = World::new();
    world_off.sandbox_off();
    let (code, wave) = world_off.run("", &[item("a", &[], "echo x > a.txt", &more("sandbox = \"off\""))]);
    let a = row(&wave, "a");
    assert_eq!(
        (code, &a["state"], &a["reason_code"]),
        (1, &"blocked".into(), &"review_unreadable".into()),
        "{wave:#}"
    );
    assert!(a["message"].as_str().unwrap().contains("branch a is at "), "{wave:#}");
    // In the sandbox it cannot move it at all.
    let (code, wave) = world.run("", &[item("a", &[], "echo x > a.txt", &more(""))]);
    let a = row(&wave, "a");
    assert_eq!((code, &a["state"]), (0, &"done".into()), "{wave:#}");
    assert_eq!(world.env.git(&world.repo, &["rev-parse", "a"]).trim(), a["base"].as_str().unwrap());
}

#[test]
fn a_review_that_changes_its_worktree_does_not_count() {
    let world = World::new();
    let review = "cat >/dev/null; echo mess > mess.txt; echo '{\\\"verdict\\\":\\\"APPROVED\\\"}'";
    let more = format!(
        "prompt = \"x\"\nsandbox = \"off\"\nreview = {{ provider = \"exec\", command = [\"sh\", \"-c\", \"{review}\"] }}"
    );
    let world_off = World::new();
    world_off.sandbox_off();
    let (code, wave) = world_off.run("", &[item("a", &[], "echo x > a.txt", &more)]);
    let a = row(&wave, "a");
    assert_eq!((code, &a["state"]), (1, &"blocked".into()), "{wave:#}");
    assert!(a["message"].as_str().unwrap().contains("read_only_violation"), "{wave:#}");
    // In the sandbox the change is refused, and what it says counts.
    let (code, wave) = world.run("", &[item("a", &[], "echo x > a.txt", &more)]);
    assert_eq!((code, states(&wave)), (0, vec!["done".to_owned()]), "{wave:#}");
}

#[test]
fn what_is_no_verdict_and_must_be_seen_is_told() {
    let world = World::new();
    let nested = "mkdir inner; git -C inner init -q; echo x > inner/f; git branch strange";
    let (code, wave) = world.run("[defaults]\nsandbox = \"off\"", &[item("a", &[], nested, "")]);
    assert_eq!(code, 0, "{wave:#}");
    let notes = row(&wave, "a")["notes"].clone();
    assert_eq!(
        notes,
        json!([
            "foreign_ref_changed: refs/heads/strange",
            "1 repositories of their own stay in the worktree: inner/"
        ]),
        "{wave:#}"
    );
    for command in ["status", "report"] {
        let text = world.env.run(&["wave", command, "w-1"]).assert_code(0).stdout;
        assert!(text.contains("refs/heads/strange"), "{text}");
    }
}

#[test]
fn failures_end_their_branch_of_the_graph_and_nothing_else() {
    let world = World::new();
    let items = [
        item("bad", &[], "exit 7", "max_attempts = 2"),
        item("child", &["bad"], "true", ""),
        item("wide", &[], "echo x > b.txt", "scope = [\"a.txt\"]\nmax_attempts = 1"),
        item("lazy", &[], "true", "require_commit = true\nmax_attempts = 1"),
        item("good", &[], "echo x > c.txt", ""),
    ];
    let (code, wave) = world.run("", &items);
    assert_eq!(code, 31, "{wave:#}");
    assert_eq!(states(&wave), ["failed", "skipped", "failed", "failed", "done"], "{wave:#}");
    let reason = |id: &str| row(&wave, id)["reason_code"].as_str().unwrap().to_owned();
    assert_eq!(
        ["bad", "child", "wide", "lazy"].map(reason),
        ["process_exit_with_rc", "need_not_done", "scope_violation", "no_commit_artifact"]
    );
    assert_eq!(row(&wave, "bad")["attempts"], 2);
    assert_eq!(wave["state"], "partial");
    let (code, again) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, &again["error"]["reason_code"]), (32, &"wave_ended".into()), "{again}");
    // The ids are taken now, and each is told with what to do.
    let (code, taken) = world.ask(&["run", &world.path("wave.toml")]);
    assert_eq!((code, &taken["error"]["reason_code"]), (32, &"wave_item_taken".into()), "{taken}");
    assert!(taken["error"]["message"].as_str().unwrap().contains("dx-runner worktree remove bad"), "{taken}");
}

#[test]
fn conflicts_are_told_for_the_right_pair() {
    let world = World::new();
    let items = [
        item("a", &[], "echo a > same.txt", ""),
        item("b", &[], "echo b > other.txt", ""),
        item("c", &[], "echo c > same.txt", ""),
        item("both", &["a", "c"], "true", ""),
    ];
    let (code, wave) = world.run("merge_into = \"all\"", &items);
    assert_eq!(
        (code, states(&wave)),
        (31, ["done", "done", "done", "blocked"].map(str::to_owned).to_vec()),
        "{wave:#}"
    );
    let both = row(&wave, "both");
    assert_eq!(both["reason_code"], "merge_conflict");
    assert!(
        both["message"].as_str().unwrap().starts_with("the work of a and c does not fit together: same.txt")
    );
    let conflicts = &wave["merged"]["conflicts"];
    assert_eq!(conflicts.as_array().unwrap().len(), 1, "{wave:#}");
    assert_eq!(conflicts[0]["items"], json!(["a", "c"]));
    assert!(conflicts[0]["paths"][0].as_str().unwrap().starts_with("same.txt: "), "{conflicts}");
    // What fits is there.
    assert_eq!((world.show("all", "same.txt"), world.show("all", "other.txt")), ("a\n".into(), "b\n".into()));
}

#[test]
fn a_wave_is_watched_cancelled_and_has_one_coordinator() {
    let world = World::new();
    let items =
        [item("long", &[], "trap '' TERM; sleep 600 & wait", ""), item("later", &["long"], "true", "")];
    let file = world.file("", &items);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("long", "running");
    let (code, second) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, &second["error"]["reason_code"]), (32, &"wave_running".into()), "{second}");
    let (code, wave) = world.ask(&["cancel", "w-1"]);
    assert_eq!((code, states(&wave)), (0, vec!["cancelled".to_owned(); 2]), "{wave:#}");
    assert_eq!(wave["state"], "failed");
    let status = world.env.run(&["status", "--live", "--json"]).assert_code(0).stdout;
    assert!(status.contains("\"jobs\":[]"), "{status}");
    let (code, none) = world.ask(&["status", "w-7"]);
    assert_eq!((code, &none["error"]["reason_code"]), (1, &"wave_not_found".into()), "{none}");
    assert_eq!(none["error"]["next_action"], "did you mean w-1?");
}

#[test]
fn no_more_than_allowed_are_at_work_and_a_full_provider_is_waited_for() {
    let mut world = World::new();
    world.env.set("DX_RUNNER_MAX_PARALLEL_EXEC", "1");
    let log = world.path("log");
    let script = format!("echo + >> {log}; sleep 0.05; echo - >> {log}");
    let items: Vec<String> = (0..4).map(|n| item(&format!("i{n}"), &[], &script, "")).collect();
    let (code, wave) = world.run("max_parallel = 3\n[defaults]\nsandbox = \"off\"", &items);
    assert_eq!(code, 0, "{wave:#}");
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(told, "+\n-\n".repeat(4));
}

/// The same look as at the end of a job: also at what one commit adds and the next takes away, and at what git ignores.
#[test]
fn the_scope_of_an_item_sees_what_its_diff_does_not() {
    let world = World::new();
    let hidden = "echo a > in.txt; git add .; git commit -qm one; echo x > out.sh; git add .; git commit -qm two; \
                  git rm -q out.sh; git commit -qm three";
    let ignored = "echo a > other.txt; mkdir -p $(git rev-parse --git-common-dir)/info; echo .env.local >> $(git rev-parse --git-common-dir)/info/exclude; \
                   echo KEY=1 > .env.local";
    let scope = |path: &str| format!("scope = [\"{path}\"]\nmax_attempts = 1");
    let items =
        [item("hidden", &[], hidden, &scope("in.txt")), item("ignored", &[], ignored, &scope("other.txt"))];
    let (code, wave) = world.run("[defaults]\nsandbox = \"off\"", &items);
    assert_eq!((code, states(&wave)), (1, vec!["failed".to_owned(); 2]), "{wave:#}");
    for (id, path) in [("hidden", "out.sh"), ("ignored", ".env.local")] {
        let gates = row(&wave, id)["gates"].as_array().unwrap();
        let gate = gates.iter().find(|gate| gate["name"] == "scope").unwrap();
        assert_eq!(gate["reason_code"], "scope_violation", "{gate}");
        assert!(gate["details"].as_str().unwrap().contains(path), "{gate}");
    }
}

#[test]
fn a_merge_that_was_in_the_way_of_something_is_made_again() {
    let world = World::new();
    world.env.git(&world.repo, &["checkout", "-q", "-b", "all"]);
    std::fs::write(world.repo.join("README.md"), "mine\n").unwrap();
    let (code, wave) = world.run("merge_into = \"all\"", &[item("a", &[], "echo a > README.md", "")]);
    assert_eq!(
        (code, states(&wave), &wave["state"]),
        (31, vec!["done".to_owned()], &"partial".into()),
        "{wave:#}"
    );
    assert!(wave["merged"]["commit"].is_null(), "{wave:#}");
    assert!(wave["next_action"].as_str().unwrap().ends_with("dx-runner wave resume w-1"), "{wave:#}");
    // Nothing has changed: the same again.
    assert_eq!(world.ask(&["resume", "w-1"]).0, 31);
    world.env.git(&world.repo, &["checkout", "-q", "--", "README.md"]);
    let (code, wave) = world.ask(&["resume", "w-1"]);
    assert_eq!(
        (code, &wave["state"], &wave["items"][0]["attempts"]),
        (0, &"done".into(), &json!(1)),
        "{wave:#}"
    );
    assert_eq!(world.show("all", "README.md"), "a\n");
    assert_eq!(world.ask(&["resume", "w-1"]).0, 32);
}

#[test]
fn stop_ends_a_wave_and_a_resume_of_a_cancelled_one_tells_the_same() {
    let world = World::new();
    let file = world.file("", &[item("long", &[], "sleep 600", "")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("long", "running");
    world.env.run(&["stop", "--wave", "w-1", "--all"]).assert_code(64);
    let output = world.env.run(&["stop", "--wave", "w-1", "--json"]).assert_code(0);
    let wave: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((states(&wave), &wave["cancelled"]), (vec!["cancelled".to_owned()], &json!(true)), "{wave:#}");
    // A coordinator that is killed before it takes the request: whoever resumes ends it.
    world.env.run(&["worktree", "remove", "long"]);
    let world = World::new();
    let file = world.file("", &[item("long", &[], "sleep 600", "")]);
    world.env.run(&["wave", "run", &file, "--detach"]).assert_code(0);
    world.until("long", "running");
    let pid = super::world::coordinator(&world.env.state_dir(), "w-1").unwrap();
    dx_testkit::send_signal(pid, 9);
    dx_testkit::wait_until(super::world::PATIENCE, "it is told as interrupted", || {
        world.ask(&["status", "w-1"]).1["state"] == "interrupted"
    });
    std::fs::write(world.env.state_dir().join("waves/w-1/cancel"), "").unwrap();
    let (code, wave) = world.ask(&["resume", "w-1"]);
    assert_eq!((code, states(&wave)), (0, vec!["cancelled".to_owned()]), "{wave:#}");
}
