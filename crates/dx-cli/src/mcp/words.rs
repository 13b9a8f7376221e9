//! What commands say, in the words of the tools: an option is an argument, and what no tool takes is the command line's.
//!
//! Called by: the calls, for what a command answered. Must never: touch what a model, an agent or a file said, or an option
//! that belongs to a command which is named in full.

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::tools;

/// The field of documents that is our own words.
const OURS: &str = "next_action";
/// The object whose fields all are.
const ERROR: &str = "error";
/// Options whose arguments have other names.
const OTHERWISE: [(&str, &str); 3] =
    [("timeout", "timeout_seconds"), ("prompt-file", "prompt"), ("id", "beads")];
/// Programs whose options are their own.
const PROGRAMS: [&str; 2] = ["dx-runner ", "opencode "];

/// The document with its own words changed.
pub(super) fn of_tools(mut document: Value) -> Value {
    change(&mut document, false);
    document
}

fn change(value: &mut Value, ours: bool) {
    match value {
        Value::String(text) if ours => *text = arguments(text),
        Value::Array(values) => values.iter_mut().for_each(|value| change(value, ours)),
        Value::Object(map) => {
            map.iter_mut()
                .for_each(|(key, value)| change(value, ours || [OURS, ERROR].contains(&key.as_str())));
        }
        _ => {}
    }
}

fn arguments(text: &str) -> String {
    if text.starts_with("dx-runner ") && text.ends_with(" --help") {
        return "look at the tool's input schema".to_owned();
    }
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("--") {
        let (before, from) = rest.split_at(at);
        told.push_str(before);
        let name: &str = &from[2..];
        let name = &name[..name.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(name.len())];
        let is_word = told.chars().next_back().is_none_or(|c| c.is_whitespace() || "'`\"(".contains(c));
        rest = &from[2 + name.len()..];
        if name.trim_start_matches('-').len() < name.len().max(1) || !is_word || of_a_program(&told) {
            told.push_str(&from[..2 + name.len()]);
            continue;
        }
        match argument(name) {
            Some(argument) if told.ends_with(['\'', '`', '"']) => told.push_str(argument),
            Some(argument) => {
                told.push('`');
                told.push_str(argument);
                told.push('`');
            }
            None => {
                told.push_str("the command line's --");
                told.push_str(name);
            }
        }
        // Clap shows what kind of value it takes.
        rest = rest
            .strip_prefix([' ', '='])
            .and_then(|rest| rest.strip_prefix('<')?.split_once('>'))
            .map_or(rest, |(_, rest)| rest);
    }
    told + rest
}

/// Whether a command that began in this text goes on behind it.
fn of_a_program(text: &str) -> bool {
    let began = PROGRAMS.iter().filter_map(|program| text.rfind(program)).max();
    began.is_some_and(|at| !text[at..].contains([';', ',', '\n', '`', '\'']))
}

/// The argument that is meant by an option.
fn argument(option: &str) -> Option<&'static str> {
    static ALL: OnceLock<BTreeSet<String>> = OnceLock::new();
    let all = ALL.get_or_init(|| tools::ALL.iter().flat_map(tools::Tool::arguments).collect());
    let otherwise = OTHERWISE.iter().find(|(name, _)| *name == option).map(|(_, argument)| *argument);
    let name = otherwise.map_or_else(|| option.replace('-', "_"), str::to_owned);
    all.get(&name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_are_arguments() {
        for (said, told) in [
            ("name a --member, or --provider and --model", "name a `member`, or `provider` and `model`"),
            ("a longer --timeout, or another model", "a longer `timeout_seconds`, or another model"),
            ("invalid value 'x' for '--member <MEMBER>': no", "invalid value 'x' for 'member': no"),
            ("--allow-model-override", "the command line's --allow-model-override"),
            ("dx-runner start --help", "look at the tool's input schema"),
            ("dx-runner wait --beads x", "dx-runner wait --beads x"),
            (
                "use it, without --server; or `dx-runner stop --beads x`",
                "use it, without `server`; or `dx-runner stop --beads x`",
            ),
            ("dx-runner prune; then without --worktree", "dx-runner prune; then without `worktree`"),
            ("a -- b --- c x--y", "a -- b --- c x--y"),
            ("--", "--"),
            ("ä--ü --model", "ä--ü `model`"),
        ] {
            assert_eq!(arguments(said), told);
        }
    }

    #[test]
    fn what_others_said_stays() {
        let said = json!({ "answer": "--model", "next_action": "--model", "members": [{ "message": "--model" }],
            "error": { "message": "--model", "causes": ["--model"], "exit_code": 1 } });
        let told = json!({ "answer": "--model", "next_action": "`model`", "members": [{ "message": "--model" }],
            "error": { "message": "`model`", "causes": ["`model`"], "exit_code": 1 } });
        assert_eq!(of_tools(said), told);
    }
}
