//! Turns a step into a call of a tool the client offers.
//!
//! What for: each agent names its tools and their parameters in its own way; the scenario must not care. Called by
//! `play`. Must never call a tool that was not offered, but for a step that names it.

use serde_json::{Map, Value, json};

use crate::api::{Tool, ToolCall};
use crate::sample::sample;
use crate::scenario::Step;

const WRITE: [&str; 4] = ["write", "write_file", "create_file", "writefile"];
const READ: [&str; 4] = ["read", "read_file", "readfile", "view"];
const SHELL: [&str; 7] =
    ["bash", "run_shell_command", "exec_command", "shell_command", "shell", "run_command", "local_shell"];
const PATH: [&str; 6] = ["filePath", "file_path", "path", "absolute_path", "filename", "file"];
const CONTENT: [&str; 4] = ["content", "contents", "text", "file_text"];
const COMMAND: [&str; 3] = ["command", "cmd", "script"];

/// The calls for a step; none if it calls no tool, or no offered one fits.
pub(crate) fn calls_for(step: &Step, tools: &[Tool], workdir: Option<&str>) -> Vec<ToolCall> {
    match step {
        Step::Tools(calls) => calls.iter().map(|(name, arguments)| by_name(name, arguments)).collect(),
        step => call_for(step, tools, workdir).into_iter().collect(),
    }
}

fn by_name(name: &str, arguments: &str) -> ToolCall {
    ToolCall {
        name: name.to_owned(),
        arguments: serde_json::from_str(arguments).unwrap_or_else(|_| json!({ "input": arguments })),
    }
}

/// The call for a step; `None` if the step calls none or no offered tool fits.
fn call_for(step: &Step, tools: &[Tool], workdir: Option<&str>) -> Option<ToolCall> {
    match step {
        Step::Write { path, content } => named(tools, &WRITE)
            .and_then(|tool| {
                let path_key = parameter(tool, &PATH)?;
                let content_key = parameter(tool, &CONTENT)?;
                let path = fitting_path(tool, path_key, path, workdir);
                Some(call(tool, [(path_key, json!(path)), (content_key, json!(content))]))
            })
            .or_else(|| shell(tools, &format!("printf %s {} > {}", quote(content), quote(path)))),
        Step::Read(path) => named(tools, &READ)
            .and_then(|tool| {
                let key = parameter(tool, &PATH)?;
                Some(call(tool, [(key, json!(fitting_path(tool, key, path, workdir)))]))
            })
            .or_else(|| shell(tools, &format!("cat {}", quote(path)))),
        Step::Bash(command) => shell(tools, command),
        Step::Tool { name, arguments } => Some(by_name(name, arguments)),
        _ => None,
    }
}

fn named<'a>(tools: &'a [Tool], names: &[&str]) -> Option<&'a Tool> {
    names.iter().find_map(|name| tools.iter().find(|tool| tool.name.eq_ignore_ascii_case(name)))
}

/// The tool's own name for a parameter.
fn parameter<'a>(tool: &'a Tool, names: &[&str]) -> Option<&'a str> {
    let properties = tool.parameters.get("properties")?.as_object()?;
    names.iter().find_map(|name| properties.get_key_value(*name)).map(|(key, _)| key.as_str())
}

/// Absolute where the directory is known, unless the parameter's own words ask for a relative path.
fn fitting_path(tool: &Tool, key: &str, path: &str, workdir: Option<&str>) -> String {
    let words = tool.parameters["properties"][key]["description"].as_str().unwrap_or_default().to_lowercase();
    let relative = words.contains("relative") && !words.contains("absolute");
    match workdir {
        Some(base) if !relative && !path.starts_with('/') => format!("{}/{path}", base.trim_end_matches('/')),
        _ => path.to_owned(),
    }
}

/// A call with these arguments, and samples for whatever else is required.
fn call<const N: usize>(tool: &Tool, known: [(&str, Value); N]) -> ToolCall {
    let mut arguments: Map<String, Value> =
        known.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    for key in tool.parameters["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !arguments.contains_key(key) {
            arguments.insert(key.to_owned(), sample(&tool.parameters["properties"][key]));
        }
    }
    ToolCall { name: tool.name.clone(), arguments: Value::Object(arguments) }
}

fn shell(tools: &[Tool], command: &str) -> Option<ToolCall> {
    let tool = named(tools, &SHELL)?;
    let key = parameter(tool, &COMMAND).unwrap_or("command");
    let list = tool.parameters["properties"][key]["type"] == "array";
    let value = if list { json!(["bash", "-lc", command]) } else { json!(command) };
    Some(call(tool, [(key, value)]))
}

/// One word for a POSIX shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, parameters: Value) -> Tool {
        Tool { name: name.to_owned(), parameters }
    }

    #[test]
    fn parameter_names_come_from_the_schema() {
        let step = Step::Write { path: "a.txt".into(), content: "hi".into() };
        let tools = [
            tool("bash", json!({"properties": {"command": {"type": "string"}}})),
            tool(
                "Write",
                json!({"properties": {"file_path": {}, "content": {}, "mode": {"enum": ["w"]}}, "required": ["mode"]}),
            ),
        ];
        let call = call_for(&step, &tools, Some("/w/")).unwrap();
        assert_eq!(call.name, "Write");
        assert_eq!(call.arguments, json!({"file_path": "/w/a.txt", "content": "hi", "mode": "w"}));
        let call = call_for(&step, &tools[..1], Some("/w")).unwrap();
        assert_eq!(call.arguments, json!({"command": "printf %s 'hi' > 'a.txt'"}));
        assert!(call_for(&step, &[], None).is_none());
    }

    #[test]
    fn a_relative_parameter_stays_relative() {
        let tools =
            [tool("write", json!({"properties": {"path": {"description": "Relative path"}, "content": {}}}))];
        let step = Step::Write { path: "a".into(), content: String::new() };
        assert_eq!(call_for(&step, &tools, Some("/w")).unwrap().arguments["path"], "a");
    }

    #[test]
    fn a_shell_that_wants_a_list_gets_one() {
        let tools = [tool("shell", json!({"properties": {"command": {"type": "array"}}}))];
        let call = call_for(&Step::Bash("ls".into()), &tools, None).unwrap();
        assert_eq!(call.arguments, json!({"command": ["bash", "-lc", "ls"]}));
    }
}
