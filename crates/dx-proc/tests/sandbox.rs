//! The sandbox, tried from inside by a shell: what is refused, what works, and that only the child is in it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use common::{Guard, PidGuard, alone, env, eventually, words};
use dx_proc::sandbox::{Abi, Domain, Rules};
use dx_proc::{AgentCommand, Error, ExitStatus, fork_held, wait};

/// A folder to write in, one beside it with a file, one that is hidden; none is reached by a link.
struct World {
    _root: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
    secret: PathBuf,
    file: PathBuf,
    rules: Rules,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap();
        let [inside, outside, secret] = ["in", "out", "secret"].map(|name| path.join(name));
        for folder in [&inside, &outside, &secret] {
            fs::create_dir(folder).unwrap();
        }
        let file = outside.join("file");
        fs::write(&file, "whole").unwrap();
        fs::write(secret.join("key"), "SECRET").unwrap();
        let rules = Rules {
            trees: vec![inside.clone()],
            devices: vec!["/dev/null".into()],
            appended: Vec::new(),
            hidden: Vec::new(),
        };
        Self { _root: root, inside, outside, secret, file, rules }
    }

    /// Runs a script in the sandbox, in the writable folder; exit code and all it printed.
    fn sh(&self, script: &str) -> (i32, String) {
        run(script, &self.inside, Some(Domain::new(&self.rules).unwrap()))
    }

    /// Each command fails in the sandbox, works without, and has changed nothing outside until then.
    fn refused(&self, commands: &[&str]) {
        let places = format!("out={} file={}\n", self.outside.display(), self.file.display());
        for command in commands {
            let before = listing(&self.outside);
            let (code, printed) = self.sh(&format!("{places}{command}"));
            assert_ne!(code, 0, "{command}: {printed}");
            assert_eq!(listing(&self.outside), before, "{command}: {printed}");
            let (code, printed) = run(&format!("{places}{command}"), &self.inside, None);
            assert_eq!(code, 0, "without the sandbox {command} works: {printed}");
            let _there = fs::create_dir(&self.outside);
            for entry in fs::read_dir(&self.outside).unwrap().flatten() {
                let _kind = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
            fs::write(&self.file, "whole").unwrap();
        }
    }
}

/// Names, kinds and contents below a folder.
fn listing(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        found.push((entry.path(), format!("{kind:?} {text}")));
    }
    found.sort();
    found
}

fn run(script: &str, cwd: &Path, sandbox: Option<Domain>) -> (i32, String) {
    let mut out = tempfile::tempfile().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let copy = || OwnedFd::from(out.try_clone().unwrap());
    let held = fork_held(AgentCommand {
        argv: words(&["sh", "-c", script]),
        env: env(),
        cwd: cwd.into(),
        umask: None,
        stdin: null,
        stdout: copy(),
        stderr: copy(),
        terminal: false,
        sandbox,
    })
    .unwrap();
    let pid = held.pid();
    let _guard = PidGuard(pid);
    assert_eq!(held.release().unwrap().confirm().unwrap(), Ok(()));
    let status = exit_of(pid);
    let mut text = String::new();
    out.rewind().unwrap();
    out.read_to_string(&mut text).unwrap();
    let ExitStatus::Exited(code) = status else { panic!("{status:?}: {text}") };
    (code, text)
}

fn exit_of(pid: i32) -> ExitStatus {
    let mut status = None;
    eventually("the script ends", || {
        status = wait::peek_exit(pid).unwrap();
        status.is_some()
    });
    wait::reap(pid).unwrap();
    status.unwrap()
}

/// Puts this very process into a domain.
#[allow(unsafe_code)]
fn enter(domain: &Domain) {
    // SAFETY: plain integers; the descriptor is open.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_landlock_restrict_self, domain.as_fd().as_raw_fd(), 0_u32)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn nothing_outside_can_be_written() {
    let world = World::new();
    world.refused(&[
        "echo x > $out/new",
        "echo x > $file",
        "echo x >> $file",
        "truncate -s 0 $file",
        "mkdir $out/new",
        "rm $file",
        "mv $file $out/renamed",
        "mkfifo $out/pipe",
        "ln -s /etc/passwd $out/link",
        "setsid -w sh -c \"echo x > $out/new\"",
        "(sh -c \"sh -c 'echo x > $out/new'\")",
        "cp /etc/passwd $out/copy",
    ]);
}

#[test]
fn no_name_leads_outside() {
    let world = World::new();
    world.refused(&[
        // Through a link made inside, or found there.
        "ln -sfn $out link && echo x > link/new",
        "ln -sfn $file alias && echo x > alias",
        // The file gets no second, writable name.
        "rm -f hard && ln $file hard && echo x > hard",
        // Nothing comes in or goes out by renaming.
        "mv -n $file in && test ! -e $file",
        "touch mine && mv mine $out/mine && test -e $out/mine",
        "rm -rf dir && mkdir dir && mv dir $out/dir",
        "cd .. && mv out away && mkdir out",
        "echo x > ../out/new",
        "cd / && echo x > \"${out#/}/new\"",
        "echo x > /proc/self/cwd/../out/new",
        "echo x > /proc/self/root$out/new",
    ]);
}

#[test]
fn everything_inside_works() {
    let world = World::new();
    let script = "set -e; mkdir -p a/b; echo one > a/x; echo two >> a/x; truncate -s 3 a/x; mv a/x a/b/x; ln a/b/x hard; \
                  ln -s a/b soft; test \"$(cat soft/x)\" = one; mkfifo pipe; rm -r a hard soft pipe; \
                  mkdir d e; touch d/f; mv d/f e/f; mv e d/e; echo x > /dev/null; \
                  setsid -w sh -c 'echo child > child'; cat child; cat /etc/passwd > copy; test -s copy";
    assert_eq!(world.sh(script), (0, "child\n".to_owned()));
}

#[test]
fn only_the_child_and_what_it_starts_is_confined() {
    let world = World::new();
    assert_eq!(world.sh("true").0, 0);
    fs::write(&world.file, "still ours").unwrap();
    let (_, printed) = world.sh("grep NoNewPrivs /proc/self/status");
    assert_eq!(printed, "NoNewPrivs:\t1\n");
    let (_, printed) = run("grep NoNewPrivs /proc/self/status", &world.inside, None);
    assert_eq!(printed, "NoNewPrivs:\t0\n");
}

#[test]
fn a_process_outside_cannot_be_signalled() {
    let world = World::new();
    if !Abi::of_kernel().unwrap().has_scopes() {
        println!("left out: this kernel has no scopes for signals");
        return;
    }
    let mut victim = Guard::sh("exec sleep 1000");
    let pid = victim.pid();
    let (code, printed) = world.sh(&format!("kill -TERM {pid} || kill -KILL {pid} || kill -0 {pid}"));
    assert_ne!(code, 0, "{printed}");
    assert!(victim.0.try_wait().unwrap().is_none(), "it was ended");
    // The parent, which is this test, neither; a process of its own, yes.
    assert_ne!(world.sh("kill -0 $PPID").0, 0);
    assert_eq!(world.sh("sleep 1000 & kill -KILL $!; wait $!; test $? = 137").0, 0);
    // Nor does the kernel give what a tracer would get. (Root reads the environment all the same, with CAP_PERFMON.)
    for way in ["root/etc/passwd", "cwd/Cargo.toml", "mem"] {
        assert_ne!(world.sh(&format!("head -c 1 /proc/{pid}/{way}")).0, 0, "{way}");
        assert!(way == "mem" || run(&format!("cat /proc/{pid}/{way}"), &world.inside, None).0 == 0, "{way}");
    }
}

#[test]
fn an_appended_file_keeps_its_beginning() {
    let mut world = World::new();
    world.rules.appended.push(world.file.clone());
    let file = world.file.display();
    assert_eq!(world.sh(&format!("echo more >> {file}")).0, 0);
    assert_ne!(world.sh(&format!("rm {file}")).0, 0);
    if Abi::of_kernel().unwrap().has_truncate() {
        assert_ne!(world.sh(&format!("echo x > {file}")).0, 0);
        assert_ne!(world.sh(&format!("truncate -s 0 {file}")).0, 0);
    }
    assert_eq!(fs::read_to_string(&world.file).unwrap(), "wholemore\n");
}

#[test]
fn the_hidden_is_hidden_and_nothing_else() {
    let mut world = World::new();
    let key = world.secret.join("key");
    fs::create_dir(world.secret.join("deep")).unwrap();
    fs::write(world.secret.join("deep/key"), "SECRET").unwrap();
    fs::write(world.outside.join("token"), "SECRET").unwrap();
    std::os::unix::fs::symlink(&world.secret, world.outside.join("alias")).unwrap();
    world.rules.hidden = vec![world.secret.clone(), world.outside.join("token"), "/no/such/place".into()];
    let (secret, out, file) = (world.secret.display(), world.outside.display(), world.file.display());
    for path in [
        format!("{}", key.display()),
        format!("{secret}/deep/key"),
        format!("{out}/token"),
        format!("{out}/alias/key"),
        format!("{out}/../secret/key"),
        format!("/proc/self/root{secret}/key"),
    ] {
        let (code, printed) = world.sh(&format!("cat {path}; ln -s {path} link; cat link; cp {path} ."));
        assert!(code != 0 && !printed.contains("SECRET"), "{path}: {printed}");
        let (_, printed) = run(&format!("cat {path}"), &world.inside, None);
        assert_eq!(printed, "SECRET", "{path}");
        let _there = fs::remove_file(world.inside.join("link"));
    }
    assert_eq!(world.sh(&format!("cat {file}")), (0, "whole".to_owned()));
    assert_eq!(world.sh("cat /etc/passwd > passwd && ls / > list && echo x > own && cat own").0, 0);
    assert_eq!(world.sh(&format!("ls {secret}")), (0, "deep\nkey\n".to_owned()), "names stay visible");
    // The limit: what comes later, beside something hidden, was never allowed.
    let domain = Domain::new(&world.rules).unwrap();
    let late = world.outside.join("late");
    fs::write(&late, "late").unwrap();
    assert_ne!(run(&format!("cat {}", late.display()), &world.inside, Some(domain)).0, 0);
    assert_eq!(world.sh(&format!("cat {}", late.display())), (0, "late".to_owned()));
}

#[test]
fn a_link_in_the_place_of_a_writable_folder_grants_nothing() {
    let world = World::new();
    fs::remove_dir(&world.inside).unwrap();
    std::os::unix::fs::symlink(&world.outside, &world.inside).unwrap();
    let domain = Domain::new(&world.rules).unwrap();
    let script = format!("echo x > {}/new", world.outside.display());
    assert_ne!(run(&script, Path::new("/"), Some(domain)).0, 0);
    assert!(!world.outside.join("new").exists());
    // What is not there is no error: it could not be written either.
    let gone = Rules { trees: vec!["/no/such/place".into()], ..Rules::default() };
    assert_eq!(run("true", Path::new("/"), Some(Domain::new(&gone).unwrap())).0, 0);
}

#[test]
fn a_rule_that_cannot_be_made_is_an_error() {
    let rules = Rules { trees: vec!["a\0b".into()], ..Rules::default() };
    assert!(matches!(Domain::new(&rules), Err(Error::MakeDomain { .. })));
}

/// The kernel takes sixteen domains in one another; the child of a process in all of them cannot enter one more.
#[test]
fn an_agent_that_cannot_be_confined_does_not_run() {
    alone("an_agent_that_cannot_be_confined_does_not_run", || {
        let mut world = World::new();
        world.rules.trees = vec!["/".into()];
        let marker = world.inside.join("ran");
        let mut refused = None;
        for _ in 0..20 {
            let command = AgentCommand {
                argv: words(&["sh", "-c", "echo > ran"]),
                env: env(),
                cwd: world.inside.clone(),
                umask: None,
                stdin: File::open("/dev/null").unwrap().into(),
                stdout: File::open("/dev/null").unwrap().into(),
                stderr: File::open("/dev/null").unwrap().into(),
                terminal: false,
                sandbox: Some(Domain::new(&world.rules).unwrap()),
            };
            let held = fork_held(command).unwrap();
            let pid = held.pid();
            let released = held.release().unwrap().confirm().unwrap();
            if released.is_err() {
                refused = Some((pid, released));
                break;
            }
            exit_of(pid);
            assert!(marker.exists());
            fs::remove_file(&marker).unwrap();
            enter(&Domain::new(&world.rules).unwrap());
        }
        let (pid, released) = refused.expect("the kernel takes any number");
        assert_eq!(released, Err(libc::E2BIG));
        assert_eq!(exit_of(pid), ExitStatus::Exited(127));
        assert!(!marker.exists(), "it ran without its sandbox");
    });
}
