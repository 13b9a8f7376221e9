//! One entry in the text of a client's configuration: JSON, perhaps with comments, or TOML.
//!
//! Must never: change a byte outside of the entry, or take a text that it cannot read for an empty one.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde_json::{Value, json};
use toml_edit::{Array, DocumentMut, Item, Table};

use super::{Client, NAME, PASSED, Server};

/// The changed text, and the entry in it for people.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) text: String,
    pub(super) shown: String,
}

/// The text with the entry; the same text when it has it.
pub(super) fn put(client: Client, text: &str, server: &Server) -> Result<Entry, String> {
    let Server { program, args } = server;
    match client {
        Client::Opencode => {
            let command: Vec<&String> = std::iter::once(program).chain(args).collect();
            in_json(text, "mcp", &json!({ "type": "local", "command": command, "enabled": true }))
        }
        Client::Claude => {
            in_json(text, "mcpServers", &json!({ "type": "stdio", "command": program, "args": args }))
        }
        Client::Gemini => in_json(text, "mcpServers", &json!({ "command": program, "args": args })),
        Client::Codex => in_toml(text, server),
    }
}

fn in_json(text: &str, section: &str, entry: &Value) -> Result<Entry, String> {
    let shown = json!({ section: { NAME: entry } }).to_string();
    let begun = if text.trim().is_empty() { "{}\n" } else { text };
    let root = CstRootNode::parse(begun, &ParseOptions::default()).map_err(|error| error.to_string())?;
    let no_object = |what: &str| format!("{what} is no JSON object");
    let object = root.object_value().ok_or_else(|| no_object("it"))?;
    let servers = match object.get(section) {
        None => object.object_value_or_set(section),
        Some(property) => property.object_value().ok_or_else(|| no_object(&format!("`{section}`")))?,
    };
    match servers.get(NAME) {
        Some(property) if property.to_serde_value().as_ref() == Some(entry) => {
            return Ok(Entry { text: text.to_owned(), shown });
        }
        Some(property) => property.set_value(input(entry)),
        None => {
            servers.append(NAME, input(entry));
        }
    }
    Ok(Entry { text: root.to_string(), shown })
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
    entry["env_vars"] = toml_edit::value(PASSED.into_iter().collect::<Array>());
    let shown = format!("[mcp_servers.{NAME}]\n{entry}");
    let mut section = Table::new();
    // Only its tables have headers.
    section.set_implicit(true);
    let servers = document.entry("mcp_servers").or_insert(Item::Table(section));
    let servers = servers.as_table_like_mut().ok_or("`mcp_servers` is no table")?;
    let same = |there: &Item, ours: &Item| there.to_string().trim() == ours.to_string().trim();
    let ours = ["command", "args", "env_vars"];
    let there = servers.get(NAME).and_then(Item::as_table_like);
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
    Ok(Entry { text: document.to_string(), shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server { program: "/bin/dx-runner".to_owned(), args: vec!["mcp".to_owned()] }
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
