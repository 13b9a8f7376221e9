//! Where things are: caches, credentials, what the caller adds, and what is only looked at.

use super::{sh, world};
use crate::world::{World, read, write};
use serde_json::Value;
use std::path::PathBuf;

fn make(world: &World, relative: &str, content: &str) -> PathBuf {
    let path = world.env.home().join(relative);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&path, content);
    path
}

fn list(world: &World, id: &str, key: &str) -> Vec<String> {
    serde_json::from_value(world.check(id)["sandbox"][key].clone()).unwrap()
}

#[test]
fn credentials_are_hidden_and_everything_else_is_there() {
    let mut world = world();
    let hidden =
        [".ssh/id_ed25519", ".netrc", ".aws/credentials", ".docker/config.json", ".cargo/credentials.toml"];
    let shown = [
        ".gitconfig",
        ".docker/daemon.json",
        ".cargo/config.toml",
        "projects/notes",
        ".config/tool/settings",
    ];
    for name in hidden.iter().chain(&shown) {
        make(&world, name, "");
    }
    // A store that lies elsewhere is hidden where it lies.
    let elsewhere = world.env.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    write(elsewhere.join("key"), "");
    std::os::unix::fs::symlink(&elsewhere, world.env.home().join(".gnupg")).unwrap();
    let script = format!(
        "cd; for file in {} .gnupg/key {}/key {}; do if cat $file 2>/dev/null; then echo read $file; fi; done; ls .ssh",
        hidden.join(" "),
        elsewhere.display(),
        shown.join(" ")
    );
    let read_all = |log: &str| {
        log.lines().filter_map(|line| line.strip_prefix("read ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (code, log) = sh(&world, "bd-1", &world.repo, &[], &script);
    assert_eq!((code.as_str(), read_all(&log)), ("0", shown.map(str::to_owned).to_vec()), "{log}");
    assert!(log.ends_with("id_ed25519\n"), "names stay visible: {log}");
    let told = list(&world, "bd-1", "hidden");
    let home = world.env.home().display().to_string();
    for place in [format!("{home}/.ssh"), format!("{home}/.netrc"), elsewhere.display().to_string()] {
        assert!(told.contains(&place), "{place}: {told:?}");
    }
    // The list can be another one, and none.
    world.env.set("DX_RUNNER_SANDBOX_HIDE", format!("{home}/projects"));
    let (_, log) = sh(&world, "bd-2", &world.repo, &[], &script);
    assert!(!read_all(&log).contains(&"projects/notes".to_owned()) && log.contains("read .netrc"), "{log}");
    world.env.set("DX_RUNNER_SANDBOX_HIDE", "");
    let (_, log) = sh(&world, "bd-3", &world.repo, &[], &script);
    assert_eq!(read_all(&log).len(), hidden.len() + 2 + shown.len(), "{log}");
    assert_eq!(list(&world, "bd-3", "hidden"), Vec::<String>::new());
    world.env.set("DX_RUNNER_SANDBOX_HIDE", "relative");
    let error = world.error(
        64,
        &["start", "--provider", "exec", "--worktree", world.repo.to_str().unwrap(), "--", "true"],
    );
    assert_eq!(error["reason_code"], "invalid_argument", "{error}");
}

#[test]
fn the_caller_may_add_places_and_a_restart_has_them_still() {
    let mut world = world();
    let (more, file) = (world.env.path("more"), world.env.path("one-file"));
    std::fs::create_dir(&more).unwrap();
    write(&file, "");
    world.env.set("DX_RUNNER_SANDBOX_WRITE", format!("{}, {}", more.display(), file.display()));
    let script = format!("echo x >> {0}/new && echo x >> {1} && ! rm {1}", more.display(), file.display());
    let (code, log) = sh(&world, "bd-1", &world.repo, &[], &script);
    assert_eq!(code, "0", "{log}");
    world.env.set("DX_RUNNER_SANDBOX_WRITE", "");
    world.env.run(&["restart", "--beads", "bd-1"]).assert_code(0);
    world.env.run(&["wait", "--beads", "bd-1"]).assert_code(0);
    assert_eq!(read(more.join("new")), "x\nx\n");
}

#[test]
fn caches_are_made_for_projects_whose_programs_are_there_and_can_be_others() {
    let mut world = world();
    world.env.link_program("go", "/bin/true");
    let cache = world.env.path("xdg/cache/go-build");
    let (code, log) = sh(&world, "bd-0", &world.repo, &[], "true");
    assert_eq!((code.as_str(), cache.exists()), ("0", false), "nothing here needs it: {log}");
    write(world.repo.join("go.mod"), "module demo\n");
    let (code, log) = sh(&world, "bd-1", &world.repo, &[], &format!("echo x > {}/x", cache.display()));
    assert_eq!(code, "0", "{log}");
    // Programs and settings beside a cache are not writable.
    make(&world, ".cargo/bin/tool", "whole");
    make(&world, ".cargo/registry/x", "");
    let script =
        "echo x > ~/.cargo/registry/x || exit 1; echo x > ~/.cargo/bin/tool || echo x > ~/.cargo/config.toml";
    let (code, _) = sh(&world, "bd-2", &world.repo, &[], script);
    assert_ne!(code, "0");
    assert_eq!(read(world.env.home().join(".cargo/bin/tool")), "whole");
    assert_eq!(read(world.env.home().join(".cargo/registry/x")), "x\n");
    let own = world.env.path("own-cache");
    std::fs::create_dir(&own).unwrap();
    world.env.set("DX_RUNNER_SANDBOX_CACHES", own.display().to_string());
    let script = format!("echo x > {}/x && ! echo x > {}/y", own.display(), cache.display());
    assert_eq!(sh(&world, "bd-3", &world.repo, &[], &script).0, "0");
}

#[test]
fn a_dry_run_shows_it_and_makes_nothing() {
    let world = world();
    world.env.link_program("go", "/bin/true");
    let worktree = world.repo.display().to_string();
    let start = ["start", "--dry-run", "--provider", "exec", "--worktree", &worktree];
    let output = world.env.run(&[&start[..], &["--json", "--", "true"]].concat()).assert_code(0);
    let document: Value = crate::document(&world.env, "dry-run", &output.stdout);
    assert_eq!(document["sandbox"]["mode"], "strict");
    assert!(
        document["sandbox"]["writable"].as_array().unwrap().contains(&worktree.clone().into()),
        "{document:#}"
    );
    let text = world.env.run(&[&start[..], &["--", "true"]].concat()).assert_code(0).stdout;
    assert!(
        text.contains("  sandbox: strict, Landlock ABI ")
            && text.contains(&format!("    writable: {worktree}\n")),
        "{text}"
    );
    assert!(!world.env.path("xdg/cache/go-build").exists());
    let text =
        world.env.run(&[&start[..], &["--sandbox", "off", "--", "true"]].concat()).assert_code(0).stdout;
    assert!(text.contains("  sandbox: off(asked)\n"), "{text}");
}
