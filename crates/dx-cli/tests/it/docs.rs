//! The documents: every command in them is run, every output and JSON example held against the real thing.
//!
//! For: README.md and docs/guide, whose fenced blocks follow these conventions (docs/guide/README.md tells them to writers):
//! - `sh`: run, in order, by one bash per document, with `set -eu`, in a repository `demo-repo` that is made for it. A line
//!   that ends with `# exits N` must exit with N. A block whose `# exits` is missing must not fail.
//! - `sh needs-jq`: the same, left out on a machine without `jq`.
//! - `sh no-run`: not run; each is in `NOT_RUN` with the reason.
//! - `text` right after one of those: all that the block prints, `…` standing for any text of a line, a line of only `…`
//!   for any lines.
//! - `json` with a `schema` key, in any document: valid by the schema of that name.
//!
//! Must never: run a command of a document outside of a `TestEnv`.

use crate::environment;
use dx_testkit::TestEnv;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The blocks that are not run, by document and first command; and what covers them instead.
const NOT_RUN: &[(&str, &str, &str)] = &[
    (
        "docs/guide/ask-any-model.md",
        "dx-runner batch --members opencode:anthropic/claude-sonnet-4-5,opencode:openai/gpt-5,openai:local/qwen --prompt \"Is this race real?\"",
        "asks models; tests/it/server does it",
    ),
    (
        "docs/guide/ask-any-model.md",
        "dx-runner dispatch --member opencode:anthropic/claude-sonnet-4-5 --prompt \"Which of these is idiomatic, and why?\"",
        "asks a model; tests/it/server does it",
    ),
    (
        "docs/guide/ask-any-model.md",
        "dx-runner server start",
        "needs a real opencode; tests/it/server runs it",
    ),
    (
        "skills/opencode-dispatch/SKILL.md",
        "dx-runner server start",
        "needs a real opencode; tests/it/server runs it",
    ),
    (
        "skills/opencode-dispatch/SKILL.md",
        "dx-runner dispatch --member opencode:anthropic/claude-sonnet-4-5 --prompt-file question.md --json",
        "asks a model; tests/it/server does it",
    ),
    (
        "skills/opencode-dispatch/SKILL.md",
        "dx-runner batch --members opencode:anthropic/claude-sonnet-4-5,opencode:openai/gpt-5 --prompt-file question.md --compare",
        "asks models; tests/it/server does it",
    ),
    (
        "docs/guide/tasks.md",
        "dx-runner task run 1 --worktree auto",
        "needs a real opencode; tests/it/workflow/guide.rs follows the whole page with one",
    ),
    ("docs/guide/tasks.md", "dx-runner task show 1", "shows what that run did; the same test"),
    (
        "docs/guide/tasks.md",
        "place=$(dx-runner task show 1 | sed -n 's/^  agents work in: //p')",
        "brings home what that run made; the same test",
    ),
    (
        "docs/guide/waves.md",
        "dx-runner wave plan wave.toml --from-beads",
        "needs a bd; tests/it/wave/beads.rs runs it",
    ),
    ("README.md", "cargo run --release -- demo", "builds; tests/it/demo.rs runs it"),
    ("README.md", "cargo xtask test", "it runs this very test"),
    ("README.md", "cargo install --path crates/dx-cli", "builds; would write into the user's home"),
];

/// An OpenCode that lists the preferred model, and answers as a recorded one did after it wrote a file.
const OPENCODE: &str = r#"#!/bin/sh
case "$1" in
models) echo zhipuai-coding-plan/glm-5 ;;
run) cat >/dev/null && printf 'fixed\n' >FIX.md && cat "$(dirname "$0")/opencode.jsonl" ;;
*) echo 1.18.33 ;;
esac
"#;
/// A Claude Code, a Codex and a Gemini CLI that do the same.
const OTHERS: &str = r#"#!/bin/sh
case "$0 $1" in
*/claude' '--version) echo '2.1.329 (Claude Code)'; exit ;;
*/codex' '--version) echo 'codex-cli 0.169.0'; exit ;;
*/gemini' '--version) echo 0.61.0; exit ;;
esac
cat >/dev/null && printf 'fixed\n' >FIX.md && cat "$0.jsonl"
"#;
/// Program, script, name of the transcript beside it, and what was recorded.
const AGENTS: [(&str, &str, &str, &str); 4] = [
    ("opencode", OPENCODE, "opencode.jsonl", "crates/dx-events/fixtures/opencode/1.18.33/success-write.out"),
    ("gemini", OTHERS, "gemini.jsonl", "crates/dx-events/fixtures/gemini/0.61.0/success-write.out"),
    ("claude", OTHERS, "claude.jsonl", "crates/dx-events/fixtures/claude/2.1.329/success-write.out"),
    ("codex", OTHERS, "codex.jsonl", "crates/dx-events/fixtures/codex/0.169.0/success-write.out"),
];

/// A fenced block.
pub(crate) struct Block {
    /// After the fence, for example `sh no-run`.
    pub(crate) info: String,
    pub(crate) body: String,
    /// Line of the fence.
    line: usize,
}

impl Block {
    fn is_run(&self) -> bool {
        self.info == "sh" || (self.info == "sh needs-jq" && has_jq())
    }

    /// The first command, without its comment.
    fn first_command(&self) -> &str {
        self.body.lines().next().unwrap_or_default().split(" #").next().unwrap_or_default().trim()
    }
}

fn has_jq() -> bool {
    ["/usr/local/bin/jq", "/usr/bin/jq", "/bin/jq"].iter().any(|path| Path::new(path).exists())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// All markdown files below a folder of the repository, as paths from its root.
fn documents_in(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).unwrap().flatten() {
        let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            found.extend(documents_in(&name));
        } else if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            found.push(name);
        }
    }
    found.sort();
    found
}

pub(crate) fn read(document: &str) -> String {
    std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(info), false) => {
                open = true;
                blocks.push(Block { info: info.trim().to_owned(), body: String::new(), line: index + 1 });
            }
            (Some(_), true) => open = false,
            (None, true) => {
                let block = blocks.last_mut().unwrap();
                block.body.push_str(line.trim_end());
                block.body.push('\n');
            }
            (None, false) => {}
        }
    }
    assert!(!open, "the last block has no end");
    blocks
}

/// The block as bash: a command with `# exits N` is checked for it, any other must succeed.
fn script(body: &str) -> String {
    let mut script = String::new();
    for command in body.replace("\\\n", "").lines() {
        match command.split_once("# exits ") {
            Some((command, code)) => {
                let code: u8 = code.trim().parse().unwrap_or_else(|_| panic!("no exit code: {command}"));
                let _fits = writeln!(
                    script,
                    "if {command}\nthen code=0; else code=$?; fi\n\
                     [ \"$code\" = {code} ] || {{ echo \"exit code $code, not {code}\"; exit 99; }}"
                );
            }
            None => script.extend([command, "\n"]),
        }
    }
    script
}

/// Whether what was printed is what was promised.
fn fits(expected: &[&str], printed: &[&str]) -> bool {
    match (expected.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..])),
        (Some((line, rest)), Some((other, others))) => fits_line(line, other) && fits(rest, others),
        _ => false,
    }
}

fn fits_line(expected: &str, printed: &str) -> bool {
    match expected.split_once('…') {
        None => expected == printed,
        Some((before, after)) => printed.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits_line(after, &rest[at..]))
        }),
    }
}

/// An environment with a repository, the programs on PATH, and a short grace so that stops take no time.
fn prepared() -> (TestEnv, PathBuf) {
    let mut env = environment().deadline(Duration::from_mins(3));
    env.set("DX_RUNNER_GRACE_MS", "500");
    // Agents of the documents may do what users' agents may.
    env.set("DX_RUNNER_SANDBOX_WRITE", "");
    env.set("GEMINI_API_KEY", "fake");
    env.link_program("dx-runner", env!("CARGO_BIN_EXE_dx-runner"));
    for (program, script, transcript, recorded) in AGENTS {
        let path = env.bin_dir().join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(root().join(recorded), env.bin_dir().join(transcript)).unwrap();
    }
    let repository = env.git_repo("demo-repo", &[("README.md", "# Demo\n"), ("src/date.rs", "// dates\n")]);
    (env, repository)
}

/// Runs one document's blocks; the complaints.
fn run_document(document: &str) -> Vec<String> {
    let (env, repository) = prepared();
    let all = blocks(&read(document));
    let mut bash = env.command("bash");
    bash.args(["-c", &script_of(&env, &all, Block::is_run)]).current_dir(&repository);
    let ended = env.run_command(bash);
    if ended.code != 0 {
        let printed = |block: &Block| std::fs::read_to_string(output_of(&env, block)).ok();
        let last = all.iter().rfind(|block| block.is_run() && printed(block).is_some());
        let at =
            last.map_or_else(String::new, |b| format!(":{}\n{}", b.line, printed(b).unwrap_or_default()));
        return vec![format!("{document}{at}\nended with {ended}")];
    }
    complaints_about(&env, document, &all, Block::is_run)
}

/// What a block printed is there.
fn output_of(env: &TestEnv, block: &Block) -> PathBuf {
    env.path(format!("block-{}", block.line))
}

/// The blocks as one script of bash; what each prints goes into a file.
pub(crate) fn script_of(env: &TestEnv, blocks: &[Block], is_run: fn(&Block) -> bool) -> String {
    let mut text = "set -eu -o pipefail\n".to_owned();
    for block in blocks.iter().filter(|block| is_run(block)) {
        let _fits = writeln!(text, "exec >{} 2>&1\n{}", output_of(env, block).display(), script(&block.body));
    }
    text
}

/// Where the blocks printed something else than the page says.
pub(crate) fn complaints_about(
    env: &TestEnv,
    document: &str,
    blocks: &[Block],
    is_run: fn(&Block) -> bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for pair in blocks.windows(2).filter(|pair| is_run(&pair[0]) && pair[1].info == "text") {
        let printed = std::fs::read_to_string(output_of(env, &pair[0])).unwrap_or_default();
        let expected: Vec<&str> = pair[1].body.lines().collect();
        if !fits(&expected, &printed.lines().map(str::trim_end).collect::<Vec<_>>()) {
            complaints.push(format!("{document}:{}: printed was\n{printed}", pair[1].line));
        }
    }
    complaints
}

#[test]
fn every_command_in_the_documents_runs_and_prints_what_they_say() {
    let mut documents = documents_in("docs/guide");
    documents.extend(documents_in("skills"));
    documents.push("README.md".to_owned());
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = documents.iter().map(|document| scope.spawn(|| run_document(document))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect()
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
}

#[test]
fn what_is_not_run_is_listed() {
    let mut found = Vec::new();
    for document in [documents_in("docs/guide"), documents_in("skills")]
        .concat()
        .iter()
        .map(String::as_str)
        .chain(["README.md", "CONTRIBUTING.md"])
    {
        for block in blocks(&read(document)) {
            let known = ["", "sh", "sh needs-jq", "sh no-run", "text", "json", "toml"];
            assert!(known.contains(&block.info.as_str()), "{document}:{}: `{}`", block.line, block.info);
            if block.info == "sh no-run" && document != "CONTRIBUTING.md" {
                found.push((document.to_owned(), block.first_command().to_owned()));
            }
        }
    }
    found.sort();
    let mut listed: Vec<_> =
        NOT_RUN.iter().map(|(document, line, _)| ((*document).to_owned(), (*line).to_owned())).collect();
    listed.sort();
    assert_eq!(found, listed);
}

#[test]
fn json_examples_hold_against_their_schemas() {
    let env = environment();
    let mut documents = documents_in("docs");
    documents.extend(["README.md", "ARCHITECTURE.md"].map(str::to_owned));
    let mut seen = 0;
    for document in documents {
        for block in blocks(&read(&document)).iter().filter(|block| block.info == "json") {
            let value: serde_json::Value = serde_json::from_str(&block.body)
                .unwrap_or_else(|error| panic!("{document}:{}: {error}", block.line));
            if let Some(word) = value["schema"].as_str() {
                let name = word.trim_start_matches("dx-runner/").trim_end_matches("/1").to_owned();
                crate::document(&env, &name, &block.body);
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no example was found");
}

#[test]
fn placeholders_stand_for_text_and_for_lines() {
    assert!(fits(&["a …", "…", "z"], &["a b c", "x", "y", "z"]));
    assert!(fits(&["pid=… log=…/x.log"], &["pid=7 log=/a/b/x.log"]));
    assert!(!fits(&["a …"], &["a b", "c"]) && !fits(&["a"], &["a b"]) && !fits(&["a", "b"], &["a"]));
    assert_eq!(script("true \\\n  x # exits 3\nls\n").lines().next(), Some("if true   x "));
}
