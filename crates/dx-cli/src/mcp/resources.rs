//! Logs, reports and batches as resources.
//!
//! Called by: the server's reader. Must never: read anything but through a command.

use serde_json::{Value, json};
use std::sync::Arc;

use super::calls::{self, Active, Calls};
use super::rpc::{self, RpcError, Wire};
use super::run::Run;
use super::tools;

const SCHEME: &str = "dx-runner://";
/// Lines of a log.
const LINES: u64 = 500;

pub(super) fn templates() -> Value {
    json!({ "resourceTemplates": [
        { "uriTemplate": "dx-runner://job/{provider}/{id}/report", "name": "report",
          "description": "Everything about one job", "mimeType": "text/markdown" },
        { "uriTemplate": "dx-runner://job/{provider}/{id}/log", "name": "log",
          "description": "The end of a job's readable transcript", "mimeType": "text/plain" },
        { "uriTemplate": "dx-runner://batch/{id}", "name": "batch",
          "description": "A question to several models, and their answers", "mimeType": "application/json" },
    ] })
}

/// `resources/list` and `resources/read`.
pub(super) fn answer(calls: &Arc<Calls>, wire: &Arc<Wire>, id: Value, list: bool, params: &Value) {
    let uri = params["uri"].as_str().unwrap_or_default().to_owned();
    calls::take(
        calls,
        wire,
        id,
        move |calls, active| {
            if list { all(calls, active) } else { read(calls, active, &uri) }
        },
    );
}

fn all(calls: &Calls, active: &Active) -> Result<Value, RpcError> {
    let mut resources = Vec::new();
    let words =
        |words: &[&str]| Run { args: words.iter().map(|w| (*w).to_owned()).collect(), ..Run::default() };
    let status = calls.run(active, &words(&["status"]))?.documents();
    for job in status.iter().filter_map(|document| document["jobs"].as_array()).flatten() {
        let (Some(provider), Some(beads)) = (job["provider"].as_str(), job["beads"].as_str()) else {
            continue;
        };
        for (kind, mime) in [("report", "text/markdown"), ("log", "text/plain")] {
            let uri = format!("{SCHEME}job/{provider}/{beads}/{kind}");
            let name = format!("{kind} of {beads}");
            resources.push(json!({ "uri": uri, "name": name, "mimeType": mime }));
        }
    }
    let batches = calls.run(active, &words(&["batch", "list"]))?.documents();
    for id in batches.iter().filter_map(|document| document["batches"].as_array()).flatten() {
        let id = id.as_str().unwrap_or_default();
        resources.push(
            json!({ "uri": format!("{SCHEME}batch/{id}"), "name": id, "mimeType": "application/json" }),
        );
    }
    Ok(json!({ "resources": resources }))
}

fn read(calls: &Calls, active: &Active, uri: &str) -> Result<Value, RpcError> {
    let missing = |why: &str| RpcError::new(rpc::NO_RESOURCE, format!("no resource `{uri}`: {why}"));
    let parts: Vec<&str> = uri.strip_prefix(SCHEME).unwrap_or_default().split('/').collect();
    let (run, mime) = match parts[..] {
        ["job", provider, beads, "report"] => (tools::report(beads, provider), "text/markdown"),
        ["job", provider, beads, "log"] => (tools::logs(beads, Some(provider), LINES), "text/plain"),
        ["batch", id] if !id.starts_with('-') => {
            let args = ["batch", "show", id].map(str::to_owned).to_vec();
            (Run { args, ..Run::default() }, "application/json")
        }
        _ => return Err(missing("see resources/templates/list")),
    };
    let finished = calls.run(active, &run)?;
    let text = finished.words().map(str::to_owned);
    let text = text.or_else(|| finished.documents().first().map(Value::to_string));
    let text = text.ok_or_else(|| {
        let error = finished.error();
        missing(error["error"]["message"].as_str().unwrap_or_default().trim())
    })?;
    Ok(json!({ "contents": [{ "uri": uri, "mimeType": mime, "text": text }] }))
}
