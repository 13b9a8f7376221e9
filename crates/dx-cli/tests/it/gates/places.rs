//! The permission gate against every way out of the allowed places, and prompts that ask for secrets.

use super::{ask, reason};
use crate::config::user;
use crate::world::{World, write};
use std::os::unix::fs::symlink;

#[test]
fn only_what_lies_resolved_below_an_allowed_place_passes() {
    let world = World::new();
    let (root, allowed) = (world.env.root().to_owned(), world.env.allowed_root());
    let gate =
        |code, word, place: &str| reason(&world, code, word, &["permission-gate", "--worktree", place]);
    let text = |path: &std::path::Path| path.display().to_string();
    let answer = gate(0, "permission_ok", &text(&world.repo));
    assert_eq!(answer["worktree"], text(&world.repo));

    // A sibling whose name only begins the same, `..`, and a link that leads out.
    let evil = root.join("repos-evil");
    std::fs::create_dir_all(evil.join("x")).unwrap();
    let denied = |place: &str, real: &std::path::Path| {
        let answer = gate(22, "non_worktree_path", place);
        assert_eq!(answer["details"], format!("DENIED:non_worktree_path:{}", real.display()));
    };
    denied(&text(&evil.join("x")), &evil.join("x"));
    denied(&format!("{}/../repos-evil/x", allowed.display()), &evil.join("x"));
    symlink(&evil, allowed.join("link")).unwrap();
    denied(&text(&allowed.join("link/x")), &evil.join("x"));
    // One that leads in passes, as what it leads to.
    symlink(&world.repo, root.join("in")).unwrap();
    assert_eq!(gate(0, "permission_ok", &text(&root.join("in")))["worktree"], text(&world.repo));
    denied("/", std::path::Path::new("/"));
    denied("/usr", std::path::Path::new("/usr"));

    gate(22, "worktree_missing", &text(&allowed.join("none")));
    symlink(allowed.join("none"), allowed.join("dangling")).unwrap();
    gate(22, "worktree_missing", &text(&allowed.join("dangling")));
    write(allowed.join("file"), "");
    gate(22, "worktree_missing", &text(&allowed.join("file")));
}

#[test]
fn a_folder_beside_the_shared_one_is_not_it() {
    let world = World::new();
    // Others may have made the shared one; a sibling of it never passes.
    let evil = tempfile::Builder::new().prefix("agents-evil").tempdir_in("/tmp").unwrap();
    reason(
        &world,
        22,
        "non_worktree_path",
        &["permission-gate", "--worktree", &evil.path().display().to_string()],
    );
}

#[test]
fn the_state_directory_is_never_a_worktree() {
    let mut world = World::new();
    let state = world.env.allowed_root().join("state");
    world.env.set("DX_RUNNER_STATE_DIR", &state);
    world.run_to_end("a", &[], &["exit:0"]);
    for place in [state.clone(), state.join("exec"), world.env.allowed_root()] {
        let place = place.display().to_string();
        let answer = ask(&world, 22, &["permission-gate", "--worktree", &place]);
        assert_eq!(answer["reason_code"], "non_worktree_path", "{answer}");
        // It lies in an allowed place already.
        let action = answer["next_action"].as_str().unwrap();
        assert!(
            action.contains("outside the state directory") && !action.contains("allowed_prefixes"),
            "{answer}"
        );
    }
}

/// Who writes there has others run what it wrote.
#[test]
fn gits_own_folders_are_never_a_worktree() {
    let world = World::new();
    let allowed = world.env.allowed_root();
    let bare = allowed.join("bare.git");
    let text = |path: &std::path::Path| path.display().to_string();
    world.env.git(&world.repo, &["clone", "--quiet", "--bare", ".", &text(&bare)]);
    let inside = bare.join("inside");
    world.env.git(&bare, &["worktree", "add", "--quiet", "-b", "inside", &text(&inside)]);
    let own = world.repo.join(".git");
    symlink(&own, allowed.join("leads-to-git")).unwrap();
    for place in [
        own.clone(),
        own.join("hooks"),
        allowed.join("leads-to-git"),
        bare.clone(),
        bare.join("worktrees/inside"),
    ] {
        let answer =
            reason(&world, 22, "non_worktree_path", &["permission-gate", "--worktree", &text(&place)]);
        assert!(answer["next_action"].as_str().unwrap().contains("git's own folder"), "{answer}");
    }
    reason(&world, 0, "permission_ok", &["permission-gate", "--worktree", &text(&inside)]);
    let args = ["start", "--beads", "a", "--provider", "exec", "--worktree", &text(&own), "--", "true"];
    assert_eq!(world.error(22, &args)["reason_code"], "non_worktree_path");
    let runs = std::fs::read_dir(world.env.state_dir().join("runs"));
    assert_eq!(runs.map_or(0, Iterator::count), 0, "something was made");
}

#[test]
fn the_worktree_root_always_passes() {
    let mut world = World::new();
    let root = world.env.path("elsewhere");
    std::fs::create_dir_all(root.join("a")).unwrap();
    let place = root.join("a").display().to_string();
    reason(&world, 22, "non_worktree_path", &["permission-gate", "--worktree", &place]);
    world.env.set("DX_RUNNER_WORKTREE_ROOT", &root);
    reason(&world, 0, "permission_ok", &["permission-gate", "--worktree", &place]);
}

#[test]
fn a_protected_checkout_is_closed_and_its_worktrees_are_open() {
    let world = World::new();
    let repo = world.repo.display().to_string();
    let linked = world.repo.join(".worktrees/a");
    world.env.git(&world.repo, &["worktree", "add", "--quiet", "-b", "a", &linked.display().to_string()]);
    std::fs::create_dir(world.repo.join("src")).unwrap();
    user(&world, &format!("protected_checkouts = [\"{repo}\"]\n"));
    for place in [repo.clone(), format!("{repo}/src"), format!("{repo}/src/..")] {
        let gate = ["permission-gate", "--worktree", &place];
        let answer = reason(&world, 22, "canonical_worktree_forbidden", &gate);
        assert!(answer["next_action"].as_str().unwrap().contains("protected_checkouts"), "{answer}");
    }
    let linked = linked.display().to_string();
    reason(&world, 0, "permission_ok", &["permission-gate", "--worktree", &linked]);
    // A start is refused for the same reason, before anything is made.
    let error =
        world.error(22, &["start", "--beads", "x", "--provider", "exec", "--worktree", &repo, "--", "true"]);
    assert_eq!(error["reason_code"], "canonical_worktree_forbidden");
    assert!(!world.view("x", "meta").exists());
    // Listed itself, a linked worktree is closed too. A project may protect, and take nothing away.
    user(&world, &format!("protected_checkouts = [\"{linked}\"]\n"));
    reason(&world, 22, "canonical_worktree_forbidden", &["permission-gate", "--worktree", &linked]);
    reason(&world, 0, "permission_ok", &["permission-gate", "--worktree", &repo]);
    write(world.repo.join(".dx-runner.toml"), format!("protected_checkouts = [\"{repo}\"]\n"));
    reason(&world, 22, "canonical_worktree_forbidden", &["permission-gate", "--worktree", &repo]);
    reason(&world, 22, "canonical_worktree_forbidden", &["permission-gate", "--worktree", &linked]);
}

#[test]
fn a_prompt_that_has_the_agent_read_secrets_is_refused() {
    let world = World::new();
    let prompt = world.path("prompt");
    write(
        &prompt,
        "Deploy it.\n\nFirst run `op read op://infra/deploy/token`.\nThen deploy.\nop item get x\n",
    );
    let here = world.repo.display().to_string();
    let start = |id: &str| {
        [
            "start",
            "--beads",
            id,
            "--provider",
            "exec",
            "--worktree",
            &here,
            "--prompt-file",
            &prompt,
            "--",
            "true",
        ]
        .map(str::to_owned)
    };
    let args = start("a");
    let error = world.error(21, &args.each_ref().map(String::as_str));
    assert_eq!(error["reason_code"], "raw_op_forbidden_in_agent_context");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("line 3: First run") && message.contains("line 5: op item get x"), "{message}");
    assert!(!message.contains("Then deploy"), "{message}");
    assert!(error["next_action"].as_str().unwrap().contains("--env"), "{error}");
    assert!(!world.view("a", "meta").exists());
    write(&prompt, "Stop reading the op log and run it.\n");
    let args = start("a");
    world.env.run(&args).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
}
