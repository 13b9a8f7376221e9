//! Wave files: every mistake is told with its line and what to do, before anything starts; the graph in all its forms.

use crate::world::write;
use crate::{document, environment};
use dx_testkit::TestEnv;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

fn world(text: &str) -> (TestEnv, PathBuf) {
    let env = environment();
    let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
    let file = repo.join("wave.toml");
    write(&file, text);
    (env, file)
}

/// The lines of the refusal, without the file's name.
#[track_caller]
fn refused(text: &str) -> Vec<String> {
    let (env, file) = world(text);
    for command in ["plan", "run"] {
        let output = env.run(&["wave", command, file.to_str().unwrap()]).assert_code(64);
        assert!(output.stderr.contains("reason: wave_file_invalid"), "{output}");
    }
    let output = env.run(&["wave", "plan", file.to_str().unwrap(), "--json"]).assert_code(64);
    let error = document(&env, "error", &output.stderr)["error"].clone();
    assert!(!env.state_dir().exists(), "a refused wave made records");
    let message = error["message"].as_str().unwrap();
    let name = format!("{}:", file.display());
    message.lines().filter_map(|line| line.strip_prefix(&name)).map(str::to_owned).collect()
}

/// An item of exec with more lines.
fn item(id: &str, more: &str) -> String {
    format!("[[item]]\nid = \"{id}\"\ncommand = [\"true\"]\n{more}\n")
}

#[test]
fn each_mistake_is_refused_with_its_line_and_what_to_do() {
    let head = "[wave]\nprovider = \"exec\"\n";
    let rows = [
        ("", vec!["1:1: there is no item; add an [[item]]"]),
        ("[wav]\n", vec!["1:1: there is no item", "1:2: unknown key `wav`; did you mean `wave`?"]),
        (
            &format!("{head}{}", item("a", "chek = \"x\"")),
            vec!["6:1: unknown key `item.chek`; did you mean `check`?"],
        ),
        (
            &format!("{head}{}{}", item("a", ""), item("a", "")),
            vec!["8:1: the id `a` is there twice, first in line 4; give one of them another id"],
        ),
        (&format!("{head}{}", item("../x", "")), vec!["4:1: `../x` cannot be an id"]),
        (
            &format!("{head}{}{}", item("build", ""), item("b", "needs = [\"biuld\"]")),
            vec!["10:10: there is no item `biuld`; did you mean `build`?"],
        ),
        (
            &format!("{head}{}", item("a", "needs = [\"a\"]")),
            vec!["6:10: `a` needs itself; take it out of `needs`"],
        ),
        (
            &format!(
                "{head}{}{}{}",
                item("a", "needs = [\"c\"]"),
                item("b", "needs = [\"a\"]"),
                item("c", "needs = [\"b\"]")
            ),
            vec![
                "6:10: items need each other in a circle: a needs c needs b needs a; take one of these needs away",
            ],
        ),
        (
            &format!(
                "{head}{}{}",
                item("a", "scope = [\"src\"]"),
                item("b", "scope = [\"docs\", \"src/*.rs\"]")
            ),
            vec![
                "10:1: the scopes of `a` and `b` overlap (`src` and `src/*.rs`), and both may run at once; narrow one of them, or let `b` need `a`",
            ],
        ),
        (
            "[[item]]\nid = \"a\"\nprovider = \"opencode\"\nprompt_file = \"none.md\"\n",
            vec!["4:1: failed to read the prompt"],
        ),
        (
            "[[item]]\nid = \"a\"\nprovider = \"opencode\"\nprompt_file = \"/dev/stdin\"\n",
            vec!["4:1: /dev/stdin is no file; name a file"],
        ),
        (
            "[[item]]\nid = \"a\"\nprovider = \"opencode\"\n",
            vec!["2:1: an item has neither `prompt` nor `prompt_file`"],
        ),
        (
            "[[item]]\nid = \"a\"\nprovider = \"opncode\"\nprompt = \"x\"\n",
            vec!["3:1: there is no provider `opncode`; did you mean opencode?"],
        ),
        ("[[item]]\nid = \"a\"\nprompt = \"x\"\n", vec!["2:1: no provider was named"]),
        ("[[item]]\nid = \"a\"\nprovider = \"exec\"\n", vec!["2:1: provider exec needs a `command`"]),
        (
            &format!("{head}{}", item("a", "review = { provider = \"opencode\" }")),
            vec!["6:1: a review needs a `prompt_file`"],
        ),
        (
            &format!("{head}{}", item("a", "sandbox = \"loose\"")),
            vec!["6:1: `loose` is no sandbox; \"strict\" or \"off\""],
        ),
        (&format!("{head}{}", item("a", "scope = [\"../x\"]")), vec!["6:1: `../x` is no pattern of paths"]),
        (
            &format!("{head}base = \"none\"\nmerge_into = \"a b\"\n{}", item("a", "")),
            vec![
                "3:1: there is no commit `none` in the repository; name a branch",
                "4:1: `a b` cannot be the name of a branch; a name such as",
            ],
        ),
        (&format!("{head}repo = \"/\"\n{}", item("a", "")), vec!["3:1: / is in no git repository"]),
        // Nothing is said of what a file that is no TOML might hold.
        ("[wave]\nrepo = \"..\nprovider = \"exec\"\n", vec!["2:"]),
        (
            &format!("{head}{}{}{}", item("x.lock", ""), item("x.", ""), item("HEAD", "")),
            vec![
                "4:1: `x.lock` cannot be an id, because no branch can have this name; without",
                "8:1: `x.` cannot be an id, because no branch can have this name; without",
                "12:1: `HEAD` cannot be an id, because no branch can have this name; without",
            ],
        ),
        (
            &format!("{head}merge_into = \"a\"\n{}", item("a", "")),
            vec!["3:1: `a` is the branch of an item, and cannot be that of `merge_into`; a name such as"],
        ),
        (
            &format!("{head}merge_into = \"a/all\"\n{}", item("a", "")),
            vec!["3:1: `a/all` cannot be beside `a`, the branch of an item; a name such as"],
        ),
        (
            &format!("{head}fallback = [\"opncode\"]\n{}", item("a", "")),
            vec!["3:1: there is no provider `opncode`; did you mean opencode?"],
        ),
        // A profile that nobody has, also where a provider is named, and for the one who reviews.
        (
            &format!("{head}{}{}", item("a", "profile = \"none\""), item("b", "profile = \"dev\"")),
            vec!["6:1: there is no profile `none`; one of: "],
        ),
        (
            &format!("{head}[defaults]\nprofile = \"none\"\n{}{}", item("a", ""), item("b", "")),
            vec!["4:1: there is no profile `none`; one of: "],
        ),
        (
            "[wave]\nfallback = [\"codex\"]\n[[item]]\nid = \"a\"\nprompt = \"x\"\nprovider = \"opencode\"\nprofile = \"none\"\n",
            vec!["7:1: there is no profile `none`; one of: "],
        ),
        (
            "[[item]]\nid = \"a\"\nprompt = \"x\"\nprovider = \"opencode\"\nprofile = \"none\"\n",
            vec!["5:1: there is no profile `none`; one of: "],
        ),
        (
            &format!(
                "{head}{}",
                item("a", "review = { provider = \"exec\", command = [\"true\"], profile = \"none\" }")
            ),
            vec!["6:51: there is no profile `none`; one of: "],
        ),
        (
            &format!("{head}{}{}", item("a", "scope = [\"/etc/passwd\"]"), item("b", "scope = []")),
            vec![
                "6:1: `/etc/passwd` is a path of this machine, and not one of the repository; name it",
                "10:1: `scope` is empty; name what may change, or \"**\" for everything",
            ],
        ),
    ];
    for (text, expected) in rows {
        let told = refused(text);
        assert_eq!(told.len(), expected.len(), "{text}\n{told:#?}");
        for (line, expected) in told.iter().zip(expected) {
            assert!(line.starts_with(expected), "{text}\n{line}\n{expected}");
        }
    }
}

#[test]
fn items_that_wait_for_each_other_may_share_a_scope() {
    let (env, file) = world(&format!(
        "[wave]\nprovider = \"exec\"\n{}{}",
        item("a", "scope = [\"src\", \"/a.txt\"]"),
        item("b", "scope = [\"src\"]\nneeds = [\"a\"]")
    ));
    env.run(&["wave", "plan", file.to_str().unwrap()]).assert_code(0);
}

#[test]
fn the_graph_is_drawn_in_all_forms() {
    let (env, file) = world(&format!(
        "[wave]\nname = \"diamond\"\nprovider = \"exec\"\nmerge_into = \"all\"\n{}{}{}{}",
        item("top", ""),
        item("left", "needs = [\"top\"]\nscope = [\"l\"]"),
        item("right", "needs = [\"top\"]\nscope = [\"r\"]\ncheck = \"make test\""),
        item("end", "needs = [\"left\", \"right\"]"),
    ));
    let file = file.to_str().unwrap();
    let text = env.run(&["wave", "plan", file]).assert_code(0).stdout;
    let layers: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        layers,
        [
            "layer 1",
            "  top  exec",
            "layer 2",
            "  left  exec  needs top  scope l",
            "  right  exec  needs top  scope r  check `make test`",
            "layer 3",
            "  end  exec  needs left, right",
            "then everything is merged into all",
        ]
    );
    let mermaid = env.run(&["wave", "plan", file, "--format", "mermaid"]).assert_code(0).stdout;
    assert_eq!(
        mermaid,
        "graph TD\n  n0[\"top\"]\n  n1[\"left\"]\n  n2[\"right\"]\n  n3[\"end\"]\n  n0 --> n1\n  n0 --> n2\n  n1 --> n3\n  n2 --> n3\n"
    );
    let dot = env.run(&["wave", "plan", file, "--format", "dot"]).assert_code(0).stdout;
    assert!(dot.starts_with("digraph \"diamond\" {\n"), "{dot}");
    assert!(dot.contains("  \"left\" -> \"end\";\n") && dot.ends_with("}\n"), "{dot}");
    let plan = document(&env, "wave-plan", &env.run(&["wave", "plan", file, "--json"]).assert_code(0).stdout);
    assert_eq!(plan["layers"], json!([["top"], ["left", "right"], ["end"]]));
    assert_eq!(plan["plan"]["max_parallel"], 4);
    assert_eq!(plan["plan"]["items"][1]["max_attempts"], 3);
    assert!(!env.state_dir().exists(), "a plan made records");
}

#[test]
fn branches_that_could_not_be_beside_those_there_are_refused_with_their_lines() {
    let head = "[wave]\nprovider = \"exec\"\n";
    let told = |text: &str| {
        let (env, file) = world(text);
        for branch in ["feature/x", "taken"] {
            env.git(file.parent().unwrap(), &["branch", branch]);
        }
        let output = env.run(&["wave", "run", file.to_str().unwrap()]).assert_code(64);
        assert!(!env.state_dir().exists(), "a refused wave made records");
        output.stderr
    };
    let stderr = told(&format!("{head}merge_into = \"taken/all\"\n{}", item("feature", "")));
    for expected in [
        ":3:1: `taken/all` cannot be beside the branch `taken`, which is there; another name, or rename `taken`",
        ":5:1: the branch `feature` of the item cannot be beside the branch `feature/x`, which is there; give it another id, or rename `feature/x`",
    ] {
        assert!(stderr.contains(expected), "{stderr}");
    }
    let stderr = told(&format!("{head}merge_into = \"feature\"\n{}", item("a", "")));
    assert!(stderr.contains(":3:1: `feature` cannot be beside the branch `feature/x`"), "{stderr}");
}

#[test]
fn a_repository_without_a_commit_is_told_as_that() {
    let (env, file) = world("");
    std::fs::create_dir(env.path("empty")).unwrap();
    env.git(env.path("empty"), &["init", "-q"]);
    let text = format!("[wave]\nprovider = \"exec\"\nrepo = \"{}\"\n", env.path("empty").display());
    write(&file, format!("{text}{}", item("a", "")));
    for command in ["plan", "run"] {
        let output = env.run(&["wave", command, file.to_str().unwrap()]).assert_code(64);
        let expected = ":3:1: there is no commit in the repository that items could start from; make a first commit, or name a `base`";
        assert!(output.stderr.contains(expected), "{output}");
    }
}

#[test]
fn a_file_that_is_not_there_is_told_as_that() {
    let (env, file) = world("");
    let none = file.with_file_name("none.toml");
    let output = env.run(&["wave", "plan", none.to_str().unwrap()]).assert_code(64);
    assert!(output.stderr.contains("failed to read the wave file"), "{output}");
    assert!(output.stderr.contains("try: name a wave file that can be read"), "{output}");
}

#[test]
fn a_repository_whose_path_is_no_text_is_told() {
    let (env, file) = world("");
    let strange = file.parent().unwrap().join(std::ffi::OsStr::from_bytes(b"\xff"));
    std::fs::rename(env.git_repo("other", &[("a.txt", "one\n")]), &strange).unwrap();
    std::os::unix::fs::symlink(&strange, file.with_file_name("link")).unwrap();
    write(&file, format!("[wave]\nprovider = \"exec\"\nrepo = \"link\"\n{}", item("a", "")));
    let output = env.run(&["wave", "plan", file.to_str().unwrap()]).assert_code(64);
    assert!(output.stderr.contains(":3:1: the path of the repository is not UTF-8: "), "{output}");
    assert!(output.stderr.contains("; rename the folder"), "{output}");
}
