//! Anthropic messages.
//!
//! What for: what Claude Code speaks, to Anthropic and to everybody who offers that API. Called through [`Api`]. Must
//! never fail on a request: what is missing is empty.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{Api, Ask, Event, Refusal, Reply, Tool, ToolCall, is_prompt, list, words};

/// A used up quota is told to be as good as new after this many seconds.
const RESET_AFTER: u64 = 3600;

/// The API at `*/v1/messages`.
pub(crate) struct Messages;

impl Api for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn ask(&self, _path: &str, body: &Value) -> Ask {
        let mut ask = Ask {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            stream: body["stream"].as_bool().unwrap_or_default(),
            tools: list(&body["tools"]).iter().map(tool).collect(),
            schema: schema(body),
            ..Ask::default()
        };
        ask.text = content(&body["system"]);
        ask.text.push('\n');
        for message in list(&body["messages"]) {
            let text = content(&message["content"]);
            let blocks = list(&message["content"]);
            let results: Vec<_> = blocks.iter().filter(|block| block["type"] == "tool_result").collect();
            ask.read.extend(results.iter().map(|result| content(&result["content"])));
            let results = results.len();
            ask.after_tool_result = results > 0;
            ask.tool_results += results;
            ask.text.push_str(&text);
            ask.text.push('\n');
            if message["role"] == "user" {
                if results == 0 && is_prompt(&text) {
                    ask.tool_results = 0;
                    ask.read.clear();
                }
                ask.users.push(text);
            }
        }
        ask
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Value {
        let mut content = Vec::new();
        if !reply.text.is_empty() {
            content.push(json!({ "type": "text", "text": reply.text }));
        }
        content.extend(tool_uses(reply));
        message(ask, reply, &content, Some(stop_reason(reply)))
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Event> {
        let mut events = Events::default();
        let start = message(ask, reply, &[], None);
        events.add("message_start", json!({ "message": start }));
        let mut index = 0;
        if !reply.text.is_empty() {
            let block = json!({ "type": "text", "text": "" });
            events.add("content_block_start", json!({ "index": index, "content_block": block }));
            for word in words(&reply.text) {
                let delta = json!({ "type": "text_delta", "text": word });
                events.add("content_block_delta", json!({ "index": index, "delta": delta }));
                if let Some(last) = events.0.last_mut() {
                    last.word = true;
                }
            }
            events.add("content_block_stop", json!({ "index": index }));
            index += 1;
        }
        for mut block in tool_uses(reply) {
            let input = std::mem::replace(&mut block["input"], json!({})).to_string();
            events.add("content_block_start", json!({ "index": index, "content_block": block }));
            let delta = json!({ "type": "input_json_delta", "partial_json": input });
            events.add("content_block_delta", json!({ "index": index, "delta": delta }));
            events.add("content_block_stop", json!({ "index": index }));
            index += 1;
        }
        let delta = json!({ "stop_reason": stop_reason(reply), "stop_sequence": null });
        let usage = json!({ "output_tokens": reply.usage.output });
        events.add("message_delta", json!({ "delta": delta, "usage": usage }));
        events.add("message_stop", json!({}));
        events.0
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        // A used up plan is one more rate limit here; only its headers tell it apart.
        let kind = if refusal.is_quota() { "rate_limit_error" } else { refusal.kind };
        json!({
            "type": "error", "error": { "type": kind, "message": refusal.message }, "request_id": "req_scripted",
        })
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        let mut headers = vec![("request-id", "req_scripted".to_owned())];
        headers.extend(refusal.retry_after().map(|seconds| ("retry-after", seconds.to_string())));
        if refusal.is_quota() {
            let now = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
            headers.push(("x-should-retry", "false".to_owned()));
            headers.push(("anthropic-ratelimit-unified-status", "rejected".to_owned()));
            headers.push(("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()));
            headers.push((
                "anthropic-ratelimit-unified-reset",
                (now + refusal.plan().unwrap_or(RESET_AFTER)).to_string(),
            ));
        }
        headers
    }
}

/// The events of one answer; each names its kind twice, as the API does.
#[derive(Default)]
struct Events(Vec<Event>);

impl Events {
    fn add(&mut self, name: &'static str, mut data: Value) {
        data["type"] = json!(name);
        self.0.push(Event { name: Some(name), data: data.to_string(), word: false });
    }
}

fn tool(value: &Value) -> Tool {
    // The API's own tools have a type instead of a schema.
    let name = value["name"].as_str().or(value["type"].as_str());
    Tool { name: name.unwrap_or_default().to_owned(), parameters: value["input_schema"].clone() }
}

fn schema(body: &Value) -> Option<Value> {
    let format = [&body["output_config"]["format"], &body["output_format"]];
    format.into_iter().find(|format| format["type"] == "json_schema").map(|format| format["schema"].clone())
}

/// Text, or the text blocks of a list; what a tool gave back is none of anybody's words.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn message(ask: &Ask, reply: &Reply, content: &[Value], stop_reason: Option<&str>) -> Value {
    let output = if stop_reason.is_some() { reply.usage.output } else { 1 };
    json!({
        "id": format!("msg_scripted{}", reply.number), "type": "message", "role": "assistant", "model": ask.model,
        "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {
            "input_tokens": reply.usage.input, "output_tokens": output,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        },
    })
}

fn stop_reason(reply: &Reply) -> &'static str {
    if reply.calls.is_empty() { "end_turn" } else { "tool_use" }
}

fn tool_uses(reply: &Reply) -> Vec<Value> {
    let shown = |(id, call): (String, &ToolCall)| json!({ "type": "tool_use", "id": format!("toolu_{id}"), "name": call.name, "input": call.arguments });
    reply.numbered().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_tool_results_since_the_last_prompt() {
        let body = json!({"model": "m", "system": [{"type": "text", "text": "S"}], "messages": [
            {"role": "user", "content": "one"}, {"role": "assistant", "content": []},
            {"role": "user", "content": [{"type": "tool_result", "content": "x"}]},
            {"role": "user", "content": [{"type": "text", "text": "<system-reminder>z</system-reminder>"},
                {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": []},
            {"role": "user", "content": [{"type": "tool_result", "content": "y"}, {"type": "tool_result"},
                {"type": "text", "text": "and"}]}]});
        let ask = Messages.ask("", &body);
        assert_eq!((ask.tool_results, ask.after_tool_result, ask.users.len()), (2, true, 4));
        assert!(ask.users[2].ends_with("\ntwo"));
        assert!(ask.text.starts_with("S\none\n"));
    }

    #[test]
    fn the_schema_of_a_structured_answer_is_found() {
        let format = json!({"type": "json_schema", "schema": {"type": "object"}});
        let body = json!({"output_config": {"format": format}});
        assert_eq!(Messages.ask("", &body).schema, Some(json!({"type": "object"})));
        assert_eq!(Messages.ask("", &json!({})).schema, None);
    }
}
