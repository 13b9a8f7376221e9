//! What the file of a repository that somebody else wrote can do to its user: its set-up is confined like an agent, and its
//! copies come from the checkout alone.

use super::{branches, create, path_of, refused};
use crate::environment;
use crate::world::{PATIENCE, read, spawn, write};
use dx_testkit::{TestEnv, wait_until};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What a stranger's set-up would do: read a key, write into the home, into git's hooks and to other worktrees.
const HOSTILE: &str = r"cat ~/.ssh/id_rsa > fromsetup; echo owned > ~/.bashrc; echo x > $(git rev-parse --git-common-dir)/hooks/post-commit; echo x > ../beside; echo $A_TOKEN > token; true";

/// A user with a key and a variable with a secret, and a clone whose file has this set-up.
fn attacked(setup: &str) -> (TestEnv, PathBuf) {
    let mut env = environment();
    env.set("DX_RUNNER_SANDBOX_WRITE", "");
    env.set("A_TOKEN", "of-the-user");
    std::fs::create_dir_all(env.home().join(".ssh")).unwrap();
    write(env.home().join(".ssh/id_rsa"), "the key\n");
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    // It cannot ask for less.
    write(repo.join(".dx-runner.toml"), format!("sandbox = \"off\"\n[worktree]\nsetup = [{setup:?}]\n"));
    std::fs::create_dir_all(repo.join(".git/hooks")).unwrap();
    (env, repo)
}

#[track_caller]
fn start(env: &TestEnv, id: &str, repo: &Path, more: &[&str]) {
    let head = ["start", "--id", id, "--provider", "exec", "--worktree", "auto", "--wait", "--repo"];
    env.run(&[&head[..], &[repo.to_str().unwrap()], more, &["--", "true"]].concat()).assert_code(0);
}

fn worktree(env: &TestEnv, id: &str) -> PathBuf {
    env.path("xdg/data/dx-runner/worktrees").join(id).join("demo")
}

#[test]
fn a_set_up_has_no_more_rights_than_an_agent() {
    let (env, repo) = attacked(HOSTILE);
    start(&env, "bd-1", &repo, &[]);
    create(&env, "bd-2", &repo, &[]);
    for id in ["bd-1", "bd-2"] {
        let path = worktree(&env, id);
        assert_eq!(read(path.join("fromsetup")), "", "{id}");
        assert_eq!(read(path.join("token")), "\n", "{id}");
        assert!(!env.home().join(".bashrc").exists() && !path.with_file_name("beside").exists(), "{id}");
        assert!(!repo.join(".git/hooks/post-commit").exists(), "{id}");
        let log = read(path.with_file_name("demo.setup.log"));
        assert!(log.contains("Permission denied"), "{log}");
    }
}

#[test]
fn a_set_up_is_not_confined_when_its_user_says_so() {
    let (env, repo) = attacked(HOSTILE);
    start(&env, "bd-1", &repo, &["--sandbox", "off"]);
    assert_eq!(read(worktree(&env, "bd-1").join("fromsetup")), "the key\n");
    assert_eq!(read(env.home().join(".bashrc")), "owned\n");
    let config = env.path("xdg/config/dx-runner/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    write(config, "sandbox = \"off\"\n");
    create(&env, "bd-2", &repo, &[]);
    assert_eq!(read(worktree(&env, "bd-2").join("fromsetup")), "the key\n");
}

#[test]
fn a_set_up_can_do_its_work() {
    let script = "echo x > $TMPDIR/t && cp $TMPDIR/t made && echo said >> /dev/stderr && git add made && git commit -qm set-up";
    let (env, repo) = attacked(script);
    let made = create(&env, "bd-1", &repo, &[]);
    assert_eq!(read(path_of(&made).join("made")), "x\n");
    assert!(read(made["setup_log"].as_str().unwrap()).contains("said\n"));
    assert_eq!(env.git(path_of(&made), &["log", "-1", "--format=%s"]).trim(), "set-up");
    let mut beside: Vec<_> = std::fs::read_dir(path_of(&made).parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.sort();
    assert_eq!(beside, [".demo.json", "demo", "demo.setup.log"], "its temporary files are gone");
}

#[test]
fn an_interrupt_ends_the_set_up_and_takes_the_worktree_away() {
    let mut env = environment();
    env.set("DX_RUNNER_SANDBOX_WRITE", env.root().to_owned());
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let pid = env.path("pid");
    let text = format!("[worktree]\nsetup = [\"echo $$ > {}; sleep 1000; true\"]\n", pid.display());
    write(repo.join(".dx-runner.toml"), text);
    let mut command = env.product();
    command
        .args(["worktree", "create", "bd-1", "--repo"])
        .arg(&repo)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = spawn(command);
    wait_until(PATIENCE, "the set-up runs", || {
        std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))
    });
    let us = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(us, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(21));
    assert!(!Path::new(&format!("/proc/{}", dx_testkit::read_pid(&pid))).exists());
    assert!(!worktree(&env, "bd-1").exists());
    assert!(read(worktree(&env, "bd-1").with_file_name("demo.setup.log")).contains("it was interrupted"));
    assert_eq!(branches(&env, &repo), "main\n");
    assert_eq!(env.kill_leftovers(), Vec::<String>::new());
}

#[test]
fn no_copy_comes_from_outside_of_the_checkout() {
    use std::os::unix::fs::symlink;
    let (env, repo) = attacked("true");
    let r = repo.to_str().unwrap();
    symlink(env.home().join(".ssh"), repo.join("shared")).unwrap();
    symlink("../../home", repo.join("up")).unwrap();
    symlink(env.home().join(".ssh/id_rsa"), repo.join("key")).unwrap();
    symlink(".git", repo.join("git")).unwrap();
    std::fs::create_dir(repo.join("conf")).unwrap();
    write(repo.join("conf/real.env"), "A=1\n");
    symlink("shared", repo.join("twice")).unwrap();
    symlink("conf", repo.join("alias")).unwrap();
    symlink(repo.join("conf/real.env"), repo.join(".env")).unwrap();
    symlink(env.home().join(".ssh/id_rsa"), repo.join("conf/inner")).unwrap();
    let copy = |path: &str| {
        write(repo.join(".dx-runner.toml"), format!("[worktree]\ncopy = [\".env\", \"{path}\"]\n"));
    };
    for path in ["shared", "up/.ssh", "shared/id_rsa", "key", "twice", "git", "git/config", "conf/inner"] {
        copy(path);
        let error = refused(&env, 21, &["worktree", "create", "bd-1", "--repo", r]);
        assert_eq!(error["reason_code"], "worktree_setup_failed", "{path}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("names {path}, which leads out of")), "{message}");
        assert!(!worktree(&env, "bd-1").exists(), "{path}");
    }
    // What stays inside is copied; below a folder no link is.
    copy("alias");
    let made = create(&env, "bd-1", &repo, &[]);
    assert_eq!(made["copied"], serde_json::json!([".env", "alias/real.env"]));
    assert!(made["remarks"].to_string().contains("alias/inner is a link"), "{made}");
    assert_eq!(read(path_of(&made).join(".env")), "A=1\n");
    assert_eq!(read(path_of(&made).join("alias/real.env")), "A=1\n");
}
