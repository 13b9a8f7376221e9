//! Baseline, integrity and feature key: where commits stand, and what they carry.

use super::{ask, commit, reason};
use crate::world::{World, write};
use std::os::unix::ffi::OsStrExt;

#[test]
fn the_baseline_must_be_an_ancestor() {
    let world = World::new();
    let here = world.repo.display().to_string();
    let first = world.env.git(&world.repo, &["rev-parse", "HEAD"]).trim().to_owned();
    let gate = |commit: &str| {
        ["baseline-gate", "--worktree", &here, "--required-baseline", commit].map(str::to_owned)
    };
    let asked = |code, word, commit: &str| {
        let args = gate(commit);
        reason(&world, code, word, &args.each_ref().map(String::as_str))
    };
    let answer = asked(0, "baseline_ok", &first[..12]);
    assert_eq!((&answer["runtime"], &answer["required"]), (&first.clone().into(), &first.clone().into()));
    assert_eq!(answer["worktree"], here);
    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "side"]);
    let aside = commit(&world, "aside");
    world.env.git(&world.repo, &["checkout", "--quiet", "main"]);
    let answer = asked(1, "baseline_not_met", &aside);
    assert_eq!((&answer["runtime"], &answer["required"]), (&first.into(), &aside.clone().into()));
    asked(1, "required_baseline_missing", "");
    asked(1, "required_commit_missing", "0123456789012345678901234567890123456789");
    let option = format!("--required-baseline={}", "--all");
    reason(&world, 1, "required_commit_missing", &["baseline-gate", "--worktree", &here, &option]);
    // A merge brings it in; parents that somebody made up do not.
    std::fs::create_dir_all(world.repo.join(".git/info")).unwrap();
    let head = world.env.git(&world.repo, &["rev-parse", "HEAD"]).trim().to_owned();
    write(world.repo.join(".git/info/grafts"), format!("{head} {aside}\n"));
    world.env.git(&world.repo, &["replace", "--graft", &head, &aside]);
    asked(1, "baseline_not_met", &aside);
    world.env.git(&world.repo, &["replace", "-d", &head]);
    std::fs::remove_file(world.repo.join(".git/info/grafts")).unwrap();
    world.env.git(&world.repo, &["merge", "--quiet", "--no-ff", "-m", "m", "side"]);
    asked(0, "baseline_ok", &aside);

    let outside = world.path("nowhere");
    let gate = ["baseline-gate", "--worktree", &outside, "--required-baseline", "HEAD"];
    reason(&world, 1, "worktree_missing", &gate);
    std::fs::create_dir(&outside).unwrap();
    reason(&world, 1, "not_a_git_repo", &gate);
}

#[test]
fn a_reported_commit_must_be_on_the_branch() {
    let world = World::new();
    let here = world.repo.display().to_string();
    let gate = |code, word, commit: &str, more: &[&str]| {
        let args = ["integrity-gate", "--worktree", &here, "--reported-commit", commit];
        reason(&world, code, word, &[&args, more].concat())
    };
    let first = world.env.git(&world.repo, &["rev-parse", "HEAD"]).trim().to_owned();
    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "side"]);
    let second = commit(&world, "second");
    let answer = gate(0, "integrity_ok", &second[..10], &[]);
    assert_eq!((&answer["branch"], &answer["reported"]), (&"HEAD".into(), &second.clone().into()));
    gate(0, "integrity_ok", &first, &["--branch", "side"]);
    let answer = gate(1, "reported_not_ancestor", &second, &["--branch", "main"]);
    assert_eq!((&answer["branch"], &answer["head"]), (&"main".into(), &first.into()));
    gate(1, "reported_commit_missing", "", &[]);
    gate(1, "reported_commit_not_found", "deadbeef", &[]);
    gate(1, "branch_missing", &second, &["--branch", "nope"]);
    // A linked worktree, and a HEAD that is on no branch.
    let linked = world.env.allowed_root().join("linked").display().to_string();
    world.env.git(&world.repo, &["worktree", "add", "--quiet", "--detach", &linked, "main"]);
    let args = ["integrity-gate", "--worktree", &linked, "--reported-commit", &second];
    reason(&world, 1, "reported_not_ancestor", &args);
    reason(&world, 0, "integrity_ok", &[&args[..], &["--branch", "side"]].concat());
    let missing = world.path("nowhere");
    reason(
        &world,
        1,
        "worktree_missing",
        &["integrity-gate", "--worktree", &missing, "--reported-commit", "HEAD"],
    );
}

#[test]
fn every_commit_carries_the_key() {
    let world = World::new();
    let here = world.repo.display().to_string();
    let gate = |code, word, key: &str, more: &[&str]| {
        let args = ["feature-key-gate", "--worktree", &here, "--feature-key", key];
        reason(&world, code, word, &[&args, more].concat())
    };
    gate(1, "feature_key_invalid_format", "BD-1", &[]);
    gate(1, "feature_key_invalid_format", "bd-a..b", &[]);
    // On main itself there is nothing to look at; main stands in where there is no master.
    let answer = gate(1, "no_commits_in_range", "bd-1", &[]);
    assert_eq!((&answer["base"], &answer["checked_commits"]), (&"main".into(), &0.into()));
    gate(1, "base_branch_missing", "bd-1", &["--base-branch", "master"]);
    gate(1, "branch_missing", "bd-1", &["--branch", "nope"]);

    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "work"]);
    commit(&world, "One\n\nBody.\n\nFeature-Key: bd-1.2\nSigned-off-by: A <a@example.invalid>\n");
    world.env.git(&world.repo, &["mv", "a.txt", "b.txt"]);
    commit(&world, "Renamed\n\nFeature-Key: bd-1.2\n");
    std::fs::write(world.repo.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    commit(&world, "Not UTF-8\n\nFeature-Key: bd-1.2\n");
    let answer = gate(0, "feature_key_ok", "bd-1.2", &[]);
    assert_eq!((&answer["checked_commits"], &answer["branch"]), (&3.into(), &"HEAD".into()));
    gate(1, "feature_key_missing_in_commits", "bd-1", &[]);

    // A message that only speaks of the trailer.
    let mention = commit(&world, "Mentions it\n\nFeature-Key: bd-1.2\n\nThat line above is the trailer.\n");
    let answer = gate(1, "feature_key_missing_in_commits", "bd-1.2", &[]);
    assert_eq!(answer["commits_without_key"], serde_json::json!([mention]));
    assert_eq!(answer["checked_commits"], 4);
    // Nor does a configuration of the repository make one of it.
    for (key, value) in
        [("trailer.separators", ":="), ("trailer.x.key", "Feature-Key"), ("log.showSignature", "true")]
    {
        world.env.git(&world.repo, &["config", key, value]);
    }
    gate(1, "feature_key_missing_in_commits", "bd-1.2", &[]);
    world.env.git(
        &world.repo,
        &["commit", "--quiet", "--allow-empty", "--amend", "--no-edit", "--trailer", "Feature-Key: bd-1.2"],
    );
    gate(0, "feature_key_ok", "bd-1.2", &["--branch", "work", "--base-branch", "main"]);

    // A merge is a commit too, and brings its other side's with it.
    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "other", "main"]);
    write(world.repo.join("other"), "x");
    commit(&world, "Other\n\nFeature-Key: bd-1.2\n");
    world.env.git(&world.repo, &["checkout", "--quiet", "work"]);
    world.env.git(&world.repo, &["merge", "--quiet", "--no-ff", "-m", "Merge without it", "other"]);
    let answer = gate(1, "feature_key_missing_in_commits", "bd-1.2", &[]);
    assert_eq!(answer["checked_commits"], 6);
    world.env.git(
        &world.repo,
        &["commit", "--quiet", "--allow-empty", "--amend", "--no-edit", "--trailer", "Feature-Key: bd-1.2"],
    );
    gate(0, "feature_key_ok", "bd-1.2", &[]);

    // A cut in the history hides no commit: the branch would have nothing in common with its base.
    let tip = world.env.git(&world.repo, &["rev-parse", "work"]);
    write(world.repo.join(".git/shallow"), &tip);
    gate(1, "base_branch_missing", "bd-1.2", &[]);
}

#[test]
fn a_submodule_is_a_repository_of_its_own() {
    let world = World::new();
    let inner = world.env.git_repo("inner", &[("i.txt", "1\n")]);
    let url = inner.display().to_string();
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "sub"];
    world.env.git(&world.repo, &add);
    world.env.git(&world.repo, &["checkout", "--quiet", "-b", "work"]);
    commit(&world, "Add it\n\nFeature-Key: bd-7\n");
    let here = world.repo.display().to_string();
    let sub = world.repo.join("sub").display().to_string();
    let args = |place| ["feature-key-gate", "--worktree", place, "--feature-key", "bd-7"];
    reason(&world, 0, "feature_key_ok", &args(&here));
    // Inside of it its own commits count.
    let answer = ask(&world, 1, &args(&sub));
    assert_eq!(
        (&answer["reason_code"], &answer["worktree"]),
        (&"no_commits_in_range".into(), &sub.clone().into())
    );
    let head = world.env.git(&inner, &["rev-parse", "HEAD"]);
    let gate = ["integrity-gate", "--worktree", &sub, "--reported-commit", head.trim()];
    reason(&world, 0, "integrity_ok", &gate);
    reason(
        &world,
        1,
        "reported_commit_not_found",
        &["integrity-gate", "--worktree", &here, "--reported-commit", head.trim()],
    );
}
