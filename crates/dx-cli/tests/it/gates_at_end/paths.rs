//! What a gate about paths sees: also what does not show as a difference at the end. Must never pass what it cannot see.

use super::{assert_end, gate};
use crate::world::{World, write};

/// Who commits.
const WHO: &str = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.invalid \
    GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.invalid;";

#[test]
fn what_a_commit_added_and_another_removed_is_in_the_history() {
    let world = World::new();
    let scope = ["--scope", "src"];
    let there_and_back = format!(
        "{WHO} echo K=1 > id.pem; git add -f id.pem; git commit -qm a; git rm -q id.pem; git commit -qm b"
    );
    let check = world.ended("reverted", &scope, &there_and_back);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "forbidden: id.pem");

    let aside = format!(
        "{WHO} git switch -qc side; echo K=1 > x.key; git add -f x.key; git commit -qm s; git switch -q -; \
         git commit -q --allow-empty -m m; git merge -q -s ours side -m merged"
    );
    let check = world.ended("aside", &scope, &aside);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "forbidden: x.key");

    // A merge adds nothing to what its sides touched, and what it adds itself counts.
    let merge = format!(
        "{WHO} mkdir -p src; git switch -qc other; echo 1 > src/o; git add .; git commit -qm o; git switch -q main; \
         echo 1 > src/m; git add .; git commit -qm m; git merge -q other -m merged"
    );
    let check = world.ended("merged", &["--scope", "src", "--mutation-budget", "2"], &merge);
    assert_end(&check, "pass", "none", "exited_ok", "process_exit_with_rc", "0");
    let evil = format!(
        "{WHO} git switch -qc more; echo 2 > src/o; git commit -qam o; git switch -q main; echo 2 > src/m; \
         git commit -qam m; git merge -q --no-commit more; echo K > c.key; git add c.key; git commit -qm evil; \
         git rm -q c.key; git commit -qm gone"
    );
    let check = world.ended("evil", &scope, &evil);
    assert_eq!(gate(&check, "scope")["details"], "forbidden: c.key");

    // The command by itself sees the same.
    let here = world.repo.display().to_string();
    let output = world.env.run(&["scope-gate", "--worktree", &here, "--scope", "src"]).assert_code(29);
    assert!(output.stdout.contains("forbidden: c.key, since the start of job evil"), "{output}");
}

#[test]
fn a_repository_inside_counts_with_its_files_and_cannot_pass() {
    let world = World::new();
    let scope = ["--scope", "src/**"];
    let nested = "mkdir -p src/sub; cd src/sub; git init -q; echo s > .env; echo k > x.pem; echo 1 > a";
    let check = world.ended("untracked", &scope, nested);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "forbidden: src/sub/.env, src/sub/.git, src/sub/x.pem");
    let check = world.ended("before", &["--scope", "src", "--mutation-budget", "1"], "echo 1 > src/b");
    assert_end(&check, "pass", "none", "exited_ok", "process_exit_with_rc", "0");

    let base = world.env.git(&world.repo, &["rev-parse", "HEAD"]);
    let linked =
        format!("{WHO} mkdir -p src/two; cd src/two; git init -q; echo 1 > a; git add a; git commit -qm a");
    for (id, then) in [
        ("budget", ""),
        ("staged", "; cd ../..; git add src/two"),
        ("committed", "; cd ../..; git add src/two; git commit -qm l"),
        ("without", "; cd ../..; git add src/two; git commit -qm l; rm -rf src/two"),
    ] {
        let check = world.ended(id, &["--mutation-budget", "9"], &format!("{linked}{then}"));
        assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
        assert_eq!(gate(&check, "scope")["details"], "forbidden: src/two/.git", "{id}");
        world.env.git(&world.repo, &["reset", "--quiet", "--hard", base.trim()]);
        world.env.git(&world.repo, &["clean", "--quiet", "-ffdx"]);
    }
}

#[test]
fn forbidden_files_are_seen_although_git_ignores_them() {
    let world = World::new();
    write(world.repo.join(".gitignore"), ".env*\n*.pem\nnode_modules\nsecrets\nout\n");
    world.env.git(&world.repo, &["add", "."]);
    world.env.git(&world.repo, &["commit", "--quiet", "--message=ignore"]);
    for file in [".env.mine", "b.pem"] {
        write(world.repo.join(file), "the user's");
    }
    let made = "mkdir -p out secrets node_modules/p; echo 1 > out/log; echo 1 > node_modules/p/test.pem";
    let check = world.ended("allowed", &["--scope", "src"], made);
    assert_end(&check, "pass", "none", "exited_ok", "exit_zero_no_mutations", "0");
    let bad =
        "echo K > .env; echo K > secrets/a; echo K > out/c.pem; echo more >> b.pem; touch -d 2001-01-01 .env";
    let check = world.ended("ignored", &["--scope", "src"], bad);
    assert_end(&check, "fail", "none", "exited_err", "scope_violation", "0");
    assert_eq!(gate(&check, "scope")["details"], "forbidden: .env, b.pem, out/c.pem, secrets/a");

    let alone = ["--read-only", "--sandbox", "off"];
    let check = world.ended("looks", &alone, "echo built > out/log");
    assert_end(&check, "pass", "none", "exited_ok", "exit_zero_no_mutations", "0");
    let check = world.ended("writes", &alone, "echo K > .env");
    assert_end(&check, "fail", "none", "exited_err", "read_only_violation", "0");
    assert_eq!(gate(&check, "read_only")["details"], "changed: .env");
}
