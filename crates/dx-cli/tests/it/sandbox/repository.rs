//! Git inside the sandbox: work can be committed, and neither hooks nor configuration can be planted.

use super::{contents, linked, sh, world};
use crate::world::{World, read, write};
use std::fmt::Write as _;
use std::path::Path;

/// The record's list of what strict does not keep from the agent.
fn limits(world: &World, id: &str) -> Vec<String> {
    let check = world.check(id);
    assert_eq!(check["sandbox"]["mode"], "strict", "{check:#}");
    serde_json::from_value(check["sandbox"]["limits"].clone()).unwrap()
}

#[test]
fn commit_amend_and_rebase_in_a_linked_worktree() {
    let world = world();
    let worktree = linked(&world, "one");
    write(world.repo.join("other.txt"), "main moves on\n");
    world.env.git(&world.repo, &["add", "--all"]);
    world.env.git(&world.repo, &["commit", "--quiet", "--message=other"]);
    // Enough loose objects for git to tidy up on its own.
    world.env.git(&world.repo, &["config", "gc.auto", "1"]);
    let script = "set -e; echo work > work.txt; git add --all; git commit -qm work; echo more >> work.txt; \
                  git commit -qam more; git commit -q --amend -m 'work, amended'; git rebase -q main; \
                  git stash list; echo x > s; git add s; git stash -q; git stash pop -q; git rm -q --cached s; rm s; \
                  git checkout -q -b side; git tag t; git branch -q -d -f other 2>/dev/null || true; \
                  git reset -q --soft HEAD~1; git commit -qm squashed; git status --short; git log --format=%s";
    let (code, log) = sh(&world, "bd-1", &worktree, &[], script);
    assert_eq!(code, "0", "{log}");
    assert!(log.ends_with("squashed\nwork\nother\nstart\n"), "{log}");
    assert_eq!(limits(&world, "bd-1"), Vec::<String>::new());
    // All of it is the repository's, and whole.
    world.env.git(&world.repo, &["fsck", "--strict"]);
    assert_eq!(world.env.git(&world.repo, &["show", "side:work.txt"]), "work\nmore\n");
    assert_eq!(world.env.git(&world.repo, &["log", "--format=%s", "-1", "prepare-one"]), "work, amended\n");
}

#[test]
fn a_first_commit_and_logs_that_are_not_there_yet() {
    let world = world();
    let worktree = linked(&world, "one");
    std::fs::remove_dir_all(world.repo.join(".git/logs")).unwrap();
    let (code, log) = sh(&world, "bd-1", &worktree, &[], "echo x > x && git add x && git commit -qm x");
    assert_eq!(code, "0", "{log}");
    assert!(world.repo.join(".git/logs/refs/heads/prepare-one").is_file());
}

#[test]
fn hooks_and_configuration_cannot_be_planted() {
    let world = world();
    let worktree = linked(&world, "one");
    let git = world.repo.join(".git");
    write(git.join("hooks/pre-push"), "#!/bin/sh\n");
    let before = (contents(&git.join("hooks")), read(git.join("config")));
    let ways = [
        "echo x > $git/hooks/post-commit",
        "echo x >> $git/hooks/pre-push",
        "chmod +x $git/hooks/pre-push && mv $git/hooks/pre-push $git/hooks/post-commit",
        "ln -s /bin/sh $git/hooks/post-checkout",
        "mv $git/hooks $git/old",
        "mkdir mine && mv mine $git/hooks/mine",
        "git config core.hooksPath /tmp",
        "echo x >> $git/config",
        "cp $git/config c && echo x >> c && mv c $git/config",
        "truncate -s 0 $git/config",
        "ln -f c $git/config",
        "echo x > $git/info/attributes",
        "echo x > $git/commondir",
        "echo ref > $git/HEAD",
        "rm $git/index",
        "mv $git gone",
        "git worktree add -q $TMPDIR/w",
        "echo x > $git/worktrees/new",
    ];
    let mut script = format!("git={}\nexec 2>/dev/null\n", git.display());
    for way in ways {
        let _fits = writeln!(script, "if {way}; then echo 'went: {way}'; fi");
    }
    let (code, log) = sh(&world, "bd-1", &worktree, &[], &script);
    assert_eq!((code.as_str(), log.as_str()), ("0", ""));
    assert_eq!((contents(&git.join("hooks")), read(git.join("config"))), before);
}

#[test]
fn in_a_main_checkout_work_can_be_committed_and_the_record_tells_the_limit() {
    let world = world();
    let script = "set -e; echo x > x; git add x; git commit -qm x; git commit -q --amend -m y; git rebase -q HEAD; git gc -q; \
                  git pack-refs --all; git log --format=%s -1";
    let (code, log) = sh(&world, "bd-1", &world.repo, &[], script);
    assert_eq!((code.as_str(), log.as_str()), ("0", "y\n"));
    assert_eq!(limits(&world, "bd-1"), ["repository_open"]);
    let text = world.env.run(&["check", "--beads", "bd-1", "--explain"]).stdout;
    assert!(text.contains("but repository_open"), "{text}");
}

/// What an agent leaves in its worktree does not choose what the next one may write.
#[test]
fn a_worktree_that_names_another_repository_gets_nothing_of_it() {
    let world = world();
    let other = world.env.git_repo("other", &[("b.txt", "two\n")]);
    // A user's own: into one of ours that leads elsewhere no job is started.
    let worktree = world.env.allowed_root().join("linked");
    world.env.git(&world.repo, &["worktree", "add", "--quiet", worktree.to_str().unwrap()]);
    let plain = world.env.allowed_root().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let fake = plain.join("fake");
    let home = world.env.home();
    std::fs::create_dir_all(fake.join("worktrees/own")).unwrap();
    std::fs::create_dir(fake.join("refs")).unwrap();
    std::os::unix::fs::symlink(&home, fake.join("objects")).unwrap();
    write(fake.join("HEAD"), "ref: refs/heads/main\n");
    write(fake.join("worktrees/own/HEAD"), "ref: refs/heads/main\n");
    let named =
        |place: &Path, git_dir: &Path| write(place.join(".git"), format!("gitdir: {}\n", git_dir.display()));
    let own = read(worktree.join(".git"));
    let own = Path::new(own.strip_prefix("gitdir: ").unwrap().trim_end());
    let tries = format!(
        "exec 2>/dev/null; for place in {0}/hooks {0} {0}/refs {0}/objects {1} {2}/hooks; do \
         if echo x > $place/planted; then echo went $place; fi; done; echo end",
        other.join(".git").display(),
        home.display(),
        world.repo.join(".git").display()
    );
    let check = |id: &str, place: &Path, limit: &[&str]| {
        let (_, log) = sh(&world, id, place, &[], &tries);
        assert_eq!(log, "end\n", "{id}");
        assert_eq!(limits(&world, id), limit, "{id}");
    };
    // A repository, or a worktree of one, that knows nothing of this one.
    named(&worktree, &other.join(".git"));
    check("other", &worktree, &["repository_read_only"]);
    named(&plain, own);
    check("stolen", &plain, &["repository_read_only"]);
    // Its own administrative folder that says it belongs elsewhere.
    named(&worktree, own);
    let commondir = read(own.join("commondir"));
    write(own.join("commondir"), format!("{}\n", other.join(".git").display()));
    check("moved", &worktree, &["repository_read_only"]);
    write(own.join("commondir"), commondir);
    // A repository made up inside, whose folders lead outside.
    named(&plain, &fake.join("worktrees/own"));
    write(fake.join("worktrees/own/commondir"), "../..\n");
    write(fake.join("worktrees/own/gitdir"), format!("{}\n", plain.join(".git").display()));
    check("made-up", &plain, &["repository_open"]);
    // And beside it, in a place that another job could write.
    let beside = world.env.allowed_root().join("beside");
    std::fs::rename(&fake, &beside).unwrap();
    named(&plain, &beside.join("worktrees/own"));
    check("beside", &plain, &[]);
    assert!(!home.join("planted").exists());
}
