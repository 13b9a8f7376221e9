//! What an agent leaves in a repository does not run when the product asks git about it, and the answer is still right.

use crate::environment;
use crate::world::{PATIENCE, read, write};
use dx_testkit::{TestEnv, wait_until};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Everything that git can be told to run, as an agent would leave it behind. `$1` is a program that writes its arguments
/// to a file.
const HOSTILE: &str = r#"
set -eu
evil=$1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.invalid GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.invalid
git init -q sub
echo one > sub/s.txt
git -C sub add s.txt
git -C sub commit -q -m sub
git -c advice.addEmbeddedRepo=false add sub
git commit -q -m sub

# From here on no git call of the agent's.
for config in .git/config sub/.git/config; do
cat >> $config <<END
[filter "x"]
	clean = $evil clean
	smudge = $evil smudge
	required
[FILTER "P.q"]
	process = $evil process
[diff "x"]
	command = $evil diff-command
	textconv = $evil textconv
[diff]
	external = $evil external
	submodule = diff
[core]
	fsmonitor = $evil fsmonitor
	pager = $evil pager
	hooksPath = $PWD/.git/hooks
	sshCommand = $evil ssh
	alternateRefsCommand = $evil alternate
[hook "h"]
	command = $evil hook
	event = post-index-change
	event = post-checkout
	event = reference-transaction
[submodule]
	recurse = true
[status]
	submoduleSummary = true
[include]
	path = more
END
printf '[filter "i"]\n\tclean = %s included\n\tsmudge = %s included\n' "$evil" "$evil" > $(dirname $config)/more
done
for hook in post-index-change post-checkout reference-transaction pre-auto-gc; do
    printf '#!/bin/sh\nexec %s hook\n' "$evil" > .git/hooks/$hook
    chmod +x .git/hooks/$hook
done
printf '*.txt filter=x diff=x\n*.dat filter=P.q\n*.inc filter=i\n' | tee .gitattributes .git/info/attributes > sub/.gitattributes
# Of the same size, so that git must read them.
echo two | tee a.txt b.dat c.inc > sub/s.txt
"#;

fn repository(env: &TestEnv) -> PathBuf {
    env.git_repo("demo", &[("a.txt", "one\n"), ("b.dat", "one\n"), ("c.inc", "one\n"), ("same", "one\n")])
}

/// A program, and the file in which its calls are found.
fn trap(env: &TestEnv) -> (String, PathBuf) {
    let (program, ran) = (env.path("evil"), env.path("ran"));
    // What a filter reads it must write; a program of another kind has nobody to read from.
    let script =
        "#!/bin/sh\necho ${PWD##*/} \"$@\" >> RAN\ncase $1 in clean | smudge | included) cat ;; esac\n";
    write(&program, script.replace("RAN", &ran.display().to_string()));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (program.display().to_string(), ran)
}

/// Runs a job of `sh -c` to its end, whatever that is, and returns its `check` document.
#[track_caller]
fn job(env: &TestEnv, repository: &Path, id: &str, script: &[&str]) -> Value {
    let worktree = repository.display().to_string();
    let head = ["start", "--beads", id, "--provider", "exec", "--worktree", &worktree, "--wait"];
    env.run(&[&head[..], &["--", "sh", "-c"], script].concat()).assert_code(0);
    serde_json::from_str(&env.run(&["check", "--beads", id, "--json"]).assert_code(0).stdout).unwrap()
}

fn changed(check: &Value) -> Vec<&str> {
    let files = check["outcome"]["work"]["files_changed"].as_array().unwrap();
    files.iter().map(|file| file.as_str().unwrap()).collect()
}

#[test]
fn nothing_that_an_agent_configured_runs() {
    let env = environment();
    let repository = repository(&env);
    let (evil, ran) = trap(&env);
    let assert_quiet = |when: &str| assert!(!ran.exists(), "{when}: {}", read(&ran));
    let check = job(&env, &repository, "hostile", &[HOSTILE, "sh", &evil]);
    assert_quiet("after the end");
    assert_eq!(changed(&check), [".gitattributes", "a.txt", "b.dat", "c.inc", "sub"], "{check}");
    assert_eq!(check["outcome"]["work"]["known"], true);
    assert_eq!(check["outcome"]["work"]["mutations"], 5);

    let next = job(&env, &repository, "next", &["echo two > same"]);
    assert_quiet("after another job in the worktree");
    assert_eq!(changed(&next), ["same"], "{next}");

    let repo = repository.display().to_string();
    let start =
        ["start", "--beads", "auto", "--provider", "exec", "--worktree", "auto", "--repo", &repo, "--wait"];
    env.run(&[&start[..], &["--", "cat", "a.txt"]].concat()).assert_code(0);
    assert_quiet("after a new worktree");
    assert_eq!(env.run(&["logs", "--beads", "auto"]).assert_code(0).stdout, "one\n");

    // The traps were armed: git that is not called by us runs them.
    let calls: [&[&str]; 5] = [
        &["status"],
        &["diff-files", "--", "sub"],
        &["hash-object", "--path=a.txt", "a.txt"],
        &["hash-object", "--path=b.dat", "b.dat"],
        &["hash-object", "--path=c.inc", "c.inc"],
    ];
    for args in calls {
        let mut git = env.command("git");
        git.current_dir(&repository).args(args);
        let _whatever = env.try_run(git, b"");
    }
    let calls = read(&ran);
    for call in
        ["demo clean", "demo process", "demo included", "demo fsmonitor", "sub clean", "sub fsmonitor"]
    {
        assert!(calls.contains(call), "{call} is not in {calls}");
    }
}

#[test]
fn a_filter_that_no_option_can_turn_off_leaves_git_uncalled() {
    let env = environment();
    let repository = repository(&env);
    let (evil, ran) = trap(&env);
    let script = "printf '[filter \"a=b\"]\\n\\tclean = %s clean\\n' \"$1\" >> .git/config
        echo '* filter=a=b' > .gitattributes; echo two > a.txt";
    let check = job(&env, &repository, "hostile", &[script, "sh", &evil]);
    assert_eq!(check["outcome"]["work"]["known"], false, "{check}");
    let worktree = repository.display().to_string();
    let args = ["start", "--beads", "next", "--provider", "exec", "--worktree", &worktree, "--", "true"];
    let refused = env.run(&args);
    assert!(refused.code != 0 && refused.stderr.contains("a=b"), "{refused}");
    assert!(!ran.exists(), "{}", read(&ran));
}

/// A repository whose objects are missing and said to be at a remote, which has a program of its own.
#[test]
fn missing_objects_are_not_fetched() {
    let env = environment();
    let repository = repository(&env);
    let (evil, ran) = trap(&env);
    let script = r#"
        cat >> .git/config <<END
[core]
	repositoryformatversion = 1
[extensions]
	partialClone = origin
[protocol "file"]
	allow = always
[remote "origin"]
	url = $PWD
	uploadpack = $1 uploadpack
	promisor = true
	partialclonefilter = blob:none
END
        rm -rf .git/objects/??; rm .git/index; echo two > a.txt"#;
    let check = job(&env, &repository, "hostile", &[script, "sh", &evil]);
    assert_eq!(check["outcome"]["work"]["known"], false, "{check}");
    assert!(!ran.exists(), "{}", read(&ran));
    let mut git = env.command("git");
    git.arg("-C").arg(&repository).args(["status", "--porcelain"]);
    let _whatever = env.try_run(git, b"");
    assert!(read(&ran).contains("uploadpack"));
}

#[test]
fn the_users_own_filter_stays() {
    let mut env = environment();
    env.set("GIT_CONFIG_GLOBAL", env.home().join(".gitconfig"));
    let (evil, ran) = trap(&env);
    write(
        env.home().join(".gitconfig"),
        "[filter \"u\"]\n\tclean = tr a-z A-Z\n\tsmudge = tr A-Z a-z\n\trequired\n",
    );
    let repository = repository(&env);
    write(repository.join(".gitattributes"), "*.u filter=u\n");
    write(repository.join("file.u"), "text\n");
    let own = ["-c", "filter.u.clean=tr a-z A-Z"];
    env.git(&repository, &[&own[..], &["add", "--all"]].concat());
    env.git(&repository, &[&own[..], &["commit", "--quiet", "--message=filtered"]].concat());
    assert_eq!(env.git(&repository, &["cat-file", "-p", "HEAD:file.u"]), "TEXT\n");
    // What is only touched has not changed, and the repository's word on the user's filter is not taken.
    let script =
        "printf '[filter \"u\"]\\n\\tclean = %s clean\\n' \"$1\" >> .git/config; touch -d 2001-01-01 file.u";
    let check = job(&env, &repository, "touch", &[script, "sh", &evil]);
    assert_eq!(check["outcome"]["work"]["known"], true, "{check}");
    assert_eq!(changed(&check), [""; 0], "{check}");
    assert!(!ran.exists(), "{}", read(&ran));
}

#[test]
fn observations_carry_a_stamp_of_every_edit_and_outcomes_none() {
    let env = environment();
    let repository = repository(&env);
    let ended = job(&env, &repository, "bd-1", &["echo two > a.txt"]);
    assert_eq!(ended["outcome"]["work"]["mutations"], 1);
    assert!(ended["outcome"]["work"].get("stamp").is_none(), "{ended}");
    let observe = || {
        let output = env.run(&["__observe".to_owned(), uuid(&env), env.state_dir().display().to_string()]);
        let fact: Value = serde_json::from_str(&output.assert_code(0).stdout).unwrap();
        (fact["mutations"].as_u64(), fact["stamp"].as_str().unwrap().to_owned())
    };
    let before = observe();
    assert_eq!((before.0, before.1.len()), (Some(1), 16));
    assert_eq!(observe(), before);
    write(repository.join("a.txt"), "six\n");
    let after = observe();
    assert_eq!(after.0, Some(1));
    assert_ne!(after.1, before.1);
}

#[test]
fn a_git_that_hangs_does_not_hold_back_what_the_agent_said() {
    let env = environment();
    let repository = repository(&env);
    job(&env, &repository, "bd-1", &["echo two > a.txt"]);
    // As it was before the settler: what stands in the journal is not done again.
    let journal = env.state_dir().join("runs").join(uuid(&env)).join("journal");
    let unsettled = |line: &&str| !line.contains("\"settled\"") && !line.contains("\"ended\"");
    let lines: Vec<String> =
        read(&journal).lines().filter(unsettled).map(|line| format!("{line}\n")).collect();
    write(&journal, lines.concat());
    let program = env.bin_dir().join("git");
    write(&program, "#!/bin/sh\nexec sleep 1000\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = env.product();
    command.arg("__settle").arg(uuid(&env)).arg(env.state_dir());
    let mut settler = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(settler.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("\"provider\""), "{line}");
    wait_until(PATIENCE, "git hangs", || {
        let children = read(format!("/proc/{0}/task/{0}/children", settler.id()));
        !children.trim().is_empty()
    });
    assert!(settler.try_wait().unwrap().is_none());
    settler.kill().unwrap();
    settler.wait().unwrap();
}

/// Of the one run there is.
fn uuid(env: &TestEnv) -> String {
    let runs = std::fs::read_dir(env.state_dir().join("runs")).unwrap();
    let names: Vec<String> = runs.map(|run| run.unwrap().file_name().into_string().unwrap()).collect();
    let [name] = &names[..] else { panic!("{names:?}") };
    name.clone()
}
