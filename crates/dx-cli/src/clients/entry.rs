//! One entry in the text of a client's configuration: JSON, perhaps with comments, or TOML.
//!
//! Must never: change a byte outside of the entry, or take a text that it cannot read for an empty one.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::{Map, Value, json};
use toml_edit::{Array, DocumentMut, Item, Table};

use super::{Client, NAME, PASSED, Server};

/// The key by which OpenCode's user turns a server off.
const ENABLED: &str = "enabled";
/// The key of the variables that Codex hands on.
const ENV_VARS: &str = "env_vars";

/// The changed text, and the entry in it for people.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) shown: String,
}

/// The text with the entry; the same text when it has it.
pub(super) fn put(client: Client, text: &str, server: &Server) -> Result<Entry, String> {
    let Server { program, args, .. } = server;
    match client {
        Client::Opencode => {
            let command: Vec<&String> = std::iter::once(program).chain(args).collect();
            in_json(text, "mcp", &json!({ "type": "local", "command": command, ENABLED: true }))
        }
        Client::Claude => {
            in_json(text, "mcpServers", &json!({ "type": "stdio", "command": program, "args": args }))
        }
        Client::Gemini => in_json(text, "mcpServers", &json!({ "command": program, "args": args })),
        Client::Codex => in_toml(text, server),
    }
}

fn in_json(text: &str, section: &str, entry: &Value) -> Result<Entry, String> {
    let begun = if text.trim().is_empty() { "{}\n" } else { text };
    let root = CstRootNode::parse(begun, &ParseOptions::default()).map_err(|error| error.to_string())?;
    let no_object = |what: &str| format!("{what} is no JSON object");
    let object = root.object_value().ok_or_else(|| no_object("it"))?;
    let servers = match object.get(section) {
        None => object.object_value_or_set(section),
        Some(property) => property.object_value().ok_or_else(|| no_object(&format!("`{section}`")))?,
    };
    let mut shown = entry.clone();
    let changed = match servers.get(NAME) {
        None => {
            servers.append(NAME, input(entry));
            true
        }
        Some(property) => {
            if let (Some(there), Value::Object(ours)) = (property.object_value(), entry) {
                if let Some(kept) = there.get(ENABLED).and_then(|kept| kept.to_serde_value()) {
                    shown[ENABLED] = kept;
                }
                update(&there, ours)
            } else {
                property.set_value(input(entry));
                true
            }
        }
    };
    let text = if changed { root.to_string() } else { text.to_owned() };
    Ok(Entry { text, shown: json!({ section: { NAME: shown } }).to_string() })
}

/// Puts what of `ours` is not there, and tells whether there was any. What else was said of the server stays, and whether it
/// is to be used.
fn update(there: &CstObject, ours: &Map<String, Value>) -> bool {
    let mut changed = false;
    for (key, value) in ours {
        match there.get(key) {
            Some(_) if key == ENABLED => {}
            Some(property) if property.to_serde_value().as_ref() == Some(value) => {}
            Some(property) => {
                property.set_value(input(value));
                changed = true;
            }
            None => {
                there.append(key, input(value));
                changed = true;
            }
        }
    }
    changed
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(values) => CstInputValue::Array(values.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(name, value)| (name.clone(), input(value))).collect())
        }
    }
}

fn in_toml(text: &str, server: &Server) -> Result<Entry, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut entry = Table::new();
    entry["command"] = toml_edit::value(server.program.clone());
    entry["args"] = toml_edit::value(server.args.iter().collect::<Array>());
    let mut section = Table::new();
    // Only its tables have headers.
    section.set_implicit(true);
    let servers = document.entry("mcp_servers").or_insert(Item::Table(section));
    let servers = servers.as_table_like_mut().ok_or("`mcp_servers` is no table")?;
    let there = servers.get(NAME).and_then(Item::as_table_like);
    // The user may have named more of them.
    let named = there.and_then(|there| there.get(ENV_VARS)).and_then(Item::as_array);
    let mut passed = named.cloned().unwrap_or_default();
    for name in PASSED.into_iter().chain(server.variables.iter().map(String::as_str)) {
        if !passed.iter().any(|there| there.as_str() == Some(name)) {
            passed.push(name);
        }
    }
    entry[ENV_VARS] = toml_edit::value(passed);
    let shown = format!("[mcp_servers.{NAME}]\n{entry}");
    let same = |there: &Item, ours: &Item| there.to_string().trim() == ours.to_string().trim();
    let ours = ["command", "args", ENV_VARS];
    if there.is_some_and(|there| {
        ours.iter().all(|key| there.get(key).is_some_and(|item| same(item, &entry[*key])))
    }) {
        return Ok(Entry { text: text.to_owned(), shown });
    }
    if let Some(there) = servers.get_mut(NAME).and_then(Item::as_table_like_mut) {
        // What else was said of it stays: whether its tools need approval, for example.
        for key in ours {
            there.insert(key, entry[key].clone());
        }
    } else {
        servers.insert(NAME, Item::Table(entry));
    }
    Ok(Entry { text: with_ends_of(text, &document.to_string()), shown })
}

/// The changed text with the ends of lines that it had: the reader of TOML makes them all alike.
fn with_ends_of(before: &str, after: &str) -> String {
    let plain = |line: &str| line.trim_end_matches(['\r', '\n']).to_owned();
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
    let same = |(old, new): &(&&str, &&str)| plain(old) == plain(new);
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
    let end = if old.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
    let mut text: String = old[..head].concat();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(end);
    }
    text.extend(new[head..new.len() - tail].iter().map(|line| plain(line) + end));
    text.push_str(&old[old.len() - tail..].concat());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { program: "/bin/dx-runner".to_owned(), args: vec!["mcp".to_owned()], variables: Vec::new() }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let commented = "{\n  // mine\n  \"theme\": \"dark\", /* too */\n  \"mcp\": {\n    \"other\": { \"type\": \"remote\" }, // theirs\n  },\n}\n";
        let put_once = put(Client::Opencode, commented, &server()).unwrap().text;
        for part in [
            "// mine",
            "\"theme\": \"dark\", /* too */",
            "{ \"type\": \"remote\" }",
            "// theirs",
            "/bin/dx-runner",
        ] {
            assert!(put_once.contains(part), "{part} in {put_once}");
        }
        let toml = "# mine\nmodel = 'x' # too\n\n[mcp_servers.other]\ncommand = \"y\"\n\n[tui]\nz = 1\n";
        let in_toml = put(Client::Codex, toml, &server()).unwrap().text;
        for part in [
            "# mine\nmodel = 'x' # too\n",
            "[mcp_servers.other]\ncommand = \"y\"\n",
            "[tui]\nz = 1\n",
            "[mcp_servers.dx-runner]\n",
        ] {
            assert!(in_toml.contains(part), "{part} in {in_toml}");
        }
    }

    #[test]
    fn a_second_time_changes_nothing_and_another_program_only_the_entry() {
        for client in [Client::Opencode, Client::Claude, Client::Gemini, Client::Codex] {
            let first = put(client, "", &server()).unwrap().text;
            assert_eq!(put(client, &first, &server()).unwrap().text, first, "{client:?}");
            let moved = Server { program: "/opt/dx-runner".to_owned(), ..server() };
            let second = put(client, &first, &moved).unwrap().text;
            assert_eq!(second, first.replace("/bin/dx-runner", "/opt/dx-runner"), "{client:?}");
        }
        let approved =
            "[mcp_servers.dx-runner]\ncommand = \"old\"\ndefault_tools_approval_mode = \"approve\"\n";
        let text = put(Client::Codex, approved, &server()).unwrap().text;
        assert!(text.contains("approve") && !text.contains("old"), "{text}");
    }

    #[test]
    fn what_the_user_said_of_our_server_stays() {
        let old =
            json!({ "command": "old", "type": "old", "enabled": false, "env": { "A": "b" }, "trust": true });
        for (client, section) in
            [(Client::Opencode, "mcp"), (Client::Claude, "mcpServers"), (Client::Gemini, "mcpServers")]
        {
            let text = json!({ section: { NAME: old } }).to_string();
            let Entry { text: put_once, shown } = put(client, &text, &server()).unwrap();
            assert!(!shown.contains("\"enabled\":true"), "{client:?} is not enabled: {shown}");
            let now: Value = serde_json::from_str(&put_once).unwrap();
            for key in ["enabled", "env", "trust"] {
                assert_eq!(now[section][NAME][key], old[key], "{client:?}: {put_once}");
            }
            assert!(put_once.contains("/bin/dx-runner"), "{put_once}");
            assert_eq!(put(client, &put_once, &server()).unwrap().text, put_once);
        }
        let named = "[mcp_servers.dx-runner]\ncommand = \"old\"\nenv_vars = [\"WORK_KEY\"]\n";
        let text = put(Client::Codex, named, &server()).unwrap().text;
        assert!(text.contains("WORK_KEY") && text.contains("XDG_DATA_HOME"), "{text}");
        assert_eq!(put(Client::Codex, &text, &server()).unwrap().text, text);
    }

    #[test]
    fn ends_of_lines_stay_as_they_are() {
        let toml = "# mine\r\nmodel = 'x'\n\r\n[mcp_servers.other]\r\ncommand = \"y\"\r\n";
        let entry = put(Client::Codex, toml, &server()).unwrap().text;
        let ours = entry.strip_prefix(toml).unwrap_or_else(|| panic!("{entry:?}"));
        assert!(ours.contains("[mcp_servers.dx-runner]\r\n"), "{ours:?}");
        assert_eq!(ours.matches('\n').count(), ours.matches("\r\n").count(), "{ours:?}");
        let behind = format!("{entry}\r\n[tui]\nz = 1\r\n");
        assert_eq!(put(Client::Codex, &behind, &server()).unwrap().text, behind);
        let moved = Server { program: "/opt/dx-runner".to_owned(), ..server() };
        let put_again = put(Client::Codex, &behind, &moved).unwrap().text;
        assert_eq!(put_again, behind.replace("/bin/dx-runner", "/opt/dx-runner"));
        // The last line had no end.
        assert!(put(Client::Codex, "model = 'x'", &server()).unwrap().text.starts_with("model = 'x'\n"));
        let json = "{\r\n  // mine\r\n  \"theme\": \"dark\"\r\n}\r\n";
        let entry = put(Client::Opencode, json, &server()).unwrap().text;
        assert_eq!(entry.matches('\n').count(), entry.matches("\r\n").count(), "{entry:?}");
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        for (client, text) in [
            (Client::Opencode, "{"),
            (Client::Claude, "[]"),
            (Client::Gemini, "{\"mcpServers\": 7}"),
            (Client::Codex, "a = "),
            (Client::Codex, "mcp_servers = 7"),
        ] {
            assert!(put(client, text, &server()).is_err(), "{text}");
        }
    }
}
