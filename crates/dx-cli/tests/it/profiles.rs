//! Profiles: where they come from, what they do to a start, that they are recorded and kept, and what they may not do.

use crate::config::{here, project, user};
use crate::document;
use crate::world::{World, error_of, write};
use serde_json::Value;
use std::path::PathBuf;

fn user_profile(world: &World, name: &str, text: &str) {
    let folder = world.env.path("xdg/config/dx-runner/profiles");
    std::fs::create_dir_all(&folder).unwrap();
    write(folder.join(format!("{name}.toml")), text);
}

fn project_profile(world: &World, name: &str, text: &str) -> PathBuf {
    let folder = world.repo.join(".dx-runner/profiles");
    std::fs::create_dir_all(&folder).unwrap();
    write(folder.join(format!("{name}.toml")), text);
    folder
}

fn listed(world: &World) -> Vec<Value> {
    let output = here(world, &["profiles", "--json"]).assert_code(0);
    document(&world.env, "profiles", &output.stdout)["profiles"].as_array().unwrap().clone()
}

/// Starts in the repository, with what the options and the profile say.
fn start(world: &World, id: &str, more: &[&str]) -> dx_testkit::Output {
    let worktree = world.repo.display().to_string();
    let head = ["start", "--json", "--beads", id, "--worktree", &worktree];
    here(world, &[&head[..], more, &["--", "true"]].concat())
}

#[test]
fn those_of_the_program_are_there_and_are_shown() {
    let world = World::new();
    let rows = listed(&world);
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cc-glm-fallback", "dev", "gemini-burst", "opencode-prod", "review"]);
    assert!(rows.iter().all(|row| row["source"] == "built-in" && row["problem"] == "-"), "{rows:?}");
    let shown = here(&world, &["profiles", "show", "dev"]).assert_code(0).stdout;
    assert!(shown.contains("max_runtime = \"30m\""), "{shown}");
    let error = world.error(64, &["profiles", "show", "nope"]);
    assert_eq!(error["reason_code"], "profile_not_found");
    assert!(error["next_action"].as_str().unwrap().contains("review"), "{error}");
}

#[test]
fn a_profile_is_applied_recorded_and_kept_by_restart() {
    let world = World::new();
    user_profile(
        &world,
        "mine",
        "description = \"Mine\"\nprovider = \"exec\"\nmodel = \"m1\"\nmax_runtime = \"40m\"\nenv = [\"MODE=fast\"]\n",
    );
    start(&world, "a", &["--profile", "mine"]).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let meta = world.pairs("a", "meta");
    assert_eq!((meta["profile"].as_str(), meta["max_runtime_sec"].as_str()), ("mine", "2400"));
    assert_eq!(meta["selected_model"], "m1");
    assert!(world.pairs("a", "contract")["env_names"].contains("MODE"));
    // The record holds what the profile said then, and needs it no more.
    std::fs::remove_dir_all(world.env.path("xdg/config/dx-runner")).unwrap();
    here(&world, &["restart", "--beads", "a"]).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let meta = world.pairs("a", "meta");
    assert_eq!((meta["profile"].as_str(), meta["retries"].as_str()), ("mine", "1"));
    assert_eq!((meta["max_runtime_sec"].as_str(), meta["selected_model"].as_str()), ("2400", "m1"));
    assert!(world.pairs("a", "contract")["env_names"].contains("MODE"));
    // A start without one says so.
    start(&world, "b", &["--provider", "exec"]).assert_code(0);
    world.env.run(&["wait", "--beads", "b"]).assert_code(0);
    assert_eq!(world.pairs("b", "meta")["profile"], "-");
}

#[test]
fn options_count_more_but_loosen_nothing() {
    let world = World::new();
    user_profile(
        &world,
        "short",
        "provider = \"exec\"\nmax_runtime = \"20m\"\nmodel = \"m1\"\nstall = \"5m\"\n",
    );
    start(
        &world,
        "a",
        &["--profile", "short", "--max-runtime", "10m", "--model", "m2", "--stall-minutes", "50"],
    )
    .assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let meta = world.pairs("a", "meta");
    assert_eq!((meta["max_runtime_sec"].as_str(), meta["stall_sec"].as_str()), ("600", "3000"));
    assert_eq!(meta["selected_model"], "m2");
    let refused = start(&world, "b", &["--profile", "short", "--max-runtime", "1h"]).assert_code(22);
    let error = error_of(&world.env, &refused);
    assert_eq!(error["reason_code"], "setting_not_allowed");
    assert!(error["message"].as_str().unwrap().contains("profiles/short.toml:2:1"), "{error}");
    user(&world, "[allow]\nmax_runtime = \"2h\"\n");
    start(&world, "c", &["--profile", "short", "--max-runtime", "1h"]).assert_code(0);
    world.env.run(&["wait", "--beads", "c"]).assert_code(0);
    assert_eq!(world.pairs("c", "meta")["max_runtime_sec"], "3600");
}

#[test]
fn a_projects_profile_tightens_only_and_takes_no_ones_place() {
    let world = World::new();
    user_profile(&world, "mine", "stall = \"31m\"\n");
    let long = "provider = \"exec\"\nmax_runtime = \"9h\"\nstall = \"32m\"\nallow_model_override = true\n";
    let folder = project_profile(&world, "team", long);
    project_profile(&world, "mine", "stall = \"99m\"\n");
    project_profile(&world, "dev", "stall = \"99m\"\n");
    let sources: Vec<(String, String)> = listed(&world)
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["source"].as_str().unwrap().to_owned()))
        .collect();
    for (name, source) in [("team", "project"), ("mine", "user"), ("dev", "built-in")] {
        assert!(sources.contains(&(name.to_owned(), source.to_owned())), "{sources:?}");
    }
    start(&world, "a", &["--profile", "team"]).assert_code(0);
    world.env.run(&["wait", "--beads", "a"]).assert_code(0);
    let meta = world.pairs("a", "meta");
    assert_eq!((meta["max_runtime_sec"].as_str(), meta["stall_sec"].as_str()), ("7200", "1920"));
    let told = here(&world, &["config", "explain", "allow_model_override", "--profile", "team", "--json"]);
    let told = document(&world.env, "config-explain", &told.assert_code(0).stdout);
    assert_eq!((&told["value"], &told["layers"][1]["effect"]), (&false.into(), &"refused".into()));
    // The project's own file holds against the user's profile.
    project(&world, "max_runtime = \"15m\"\n");
    start(&world, "b", &["--profile", "dev", "--provider", "exec"]).assert_code(0);
    world.env.run(&["wait", "--beads", "b"]).assert_code(0);
    assert_eq!(world.pairs("b", "meta")["max_runtime_sec"], "900");
    // A folder that is a link leads out of the project.
    let elsewhere = world.env.path("elsewhere");
    std::fs::rename(&folder, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &folder).unwrap();
    let error = error_of(&world.env, &start(&world, "c", &["--profile", "team"]).assert_code(22));
    assert_eq!(error["reason_code"], "config_unsafe");
}

#[test]
fn what_cannot_be_used_is_told_when_it_is_used() {
    let world = World::new();
    user_profile(&world, "broken", "max_runtme = \"1h\"\n");
    let rows = listed(&world);
    let broken = rows.iter().find(|row| row["name"] == "broken").unwrap();
    assert!(broken["problem"].as_str().unwrap().contains("broken.toml:1:1: unknown key"), "{broken}");
    let error = error_of(&world.env, &start(&world, "a", &["--profile", "broken"]).assert_code(64));
    assert_eq!(error["reason_code"], "config_unknown_key");
    // Its provider is not there: known by name, refused when a job wants it.
    user_profile(&world, "later", "provider = \"not-there-yet\"\n");
    let prompt = world.path("p");
    write(&prompt, "hello");
    let later = ["--json", "start", "--profile", "later", "--prompt-file", &prompt];
    let error = error_of(&world.env, &here(&world, &later).assert_code(20));
    assert_eq!(error["reason_code"], "provider_not_found");
    let error = error_of(&world.env, &start(&world, "a", &["--profile", "../x"]).assert_code(64));
    assert_eq!(error["reason_code"], "profile_not_found");
}
