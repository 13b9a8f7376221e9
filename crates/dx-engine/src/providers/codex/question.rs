//! What makes Codex answer a question without a tool that changes anything.
//!
//! Its sandbox holds its own shell and file tools; servers of tools (MCP) and connectors work outside of it. No option starts
//! Codex without the user's: an empty table of them is merged with theirs, and without the user's settings it has no model
//! provider. So it is asked for their names, with the same options and in the same folder, and each is turned off.
//!
//! Must never: let Codex be asked when it is not known which servers it would start.

use super::super::Wish;
use super::super::ask::{AskError, ask};
use crate::error::EngineError;
use dx_protocol::ReasonCode;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// It takes a tenth of a second on a quiet machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Nothing asks for a permission, and nothing that brings tools of its own is on.
const CLOSED: [&str; 7] = [
    "approval_policy=\"never\"",
    "features.plugins=false",
    "features.apps=false",
    "features.computer_use=false",
    "features.browser_use=false",
    "features.image_generation=false",
    "features.skill_mcp_dependency_install=false",
];
/// Where nothing is to be read, nothing is run either.
const BLIND: [&str; 2] = ["features.shell_tool=false", "features.unified_exec=false"];

/// The options of `codex exec` for a question. `reads`: it may look at files.
pub(crate) fn options(wish: &Wish<'_>, binary: &Path, reads: bool) -> Result<Vec<OsString>, EngineError> {
    let blind: &[&str] = if reads { &[] } else { &BLIND };
    let mut settings: Vec<String> = CLOSED.iter().chain(blind).map(|setting| (*setting).to_owned()).collect();
    settings.push(off(&servers(wish, binary, &settings)?));
    // A rule of the user's lets commands out of the sandbox.
    let mut options = vec![OsString::from("--ignore-rules")];
    options.extend(settings.into_iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
    Ok(options)
}

/// The names of the servers that Codex would start.
fn servers(wish: &Wish<'_>, binary: &Path, settings: &[String]) -> Result<Vec<String>, EngineError> {
    let head = ["mcp", "list", "--json"];
    let args: Vec<&str> =
        head.into_iter().chain(settings.iter().flat_map(|setting| ["-c", setting.as_str()])).collect();
    let refused = |why: &str| EngineError::Provider {
        reason: ReasonCode::ProviderReportedError,
        message: format!(
            "Codex does not tell which MCP servers it would start (`codex mcp list --json`): {why}"
        ),
        next_action: Some("look at what that command says; a question has no such tools".to_owned()),
    };
    let answer = match ask(wish, binary, &args, &[], DEADLINE) {
        Ok(answer) => answer,
        Err(AskError::Disk(error)) => return Err(error.into()),
        Err(AskError::Failed(why)) => return Err(refused(&why)),
    };
    if !answer.status.success() {
        return Err(refused(answer.stderr.lines().last().unwrap_or_default()));
    }
    names(&answer.stdout).ok_or_else(|| refused("not in words that are known"))
}

fn names(list: &str) -> Option<Vec<String>> {
    let list: Vec<Value> = serde_json::from_str(list).ok()?;
    list.iter().map(|server| server["name"].as_str().map(str::to_owned)).collect()
}

/// The setting that turns these off: an inline table, as a dotted name could not hold every name.
fn off(names: &[String]) -> String {
    // A string looks the same in JSON and in TOML.
    let entries: Vec<String> =
        names.iter().map(|name| format!("{}={{enabled=false}}", json!(name))).collect();
    format!("mcp_servers={{{}}}", entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_turned_off_and_an_unknown_list_is_none() {
        let list = r#"[{"name":"a","enabled":true},{"name":"b.c \"d"}]"#;
        assert_eq!(
            off(&names(list).unwrap()),
            r#"mcp_servers={"a"={enabled=false},"b.c \"d"={enabled=false}}"#
        );
        assert_eq!(off(&names("[]").unwrap()), "mcp_servers={}");
        for unknown in ["", "{}", "no servers", r#"[{"id":"a"}]"#] {
            assert_eq!(names(unknown), None, "{unknown}");
        }
    }
}
