//! OpenAI responses.
//!
//! What for: what Codex speaks. Called through [`Api`]. Must never fail on a request: what is missing is empty.

use serde_json::{Value, json};

use super::{Api, Ask, Event, Refusal, Reply, Tool, ToolCall, is_prompt, list, words};

/// The API at `*/responses`.
pub(crate) struct Responses;

impl Api for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    fn ask(&self, _path: &str, body: &Value) -> Ask {
        let format = &body["text"]["format"];
        let mut ask = Ask {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            stream: body["stream"].as_bool().unwrap_or_default(),
            tools: list(&body["tools"]).iter().map(tool).collect(),
            schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
            ..Ask::default()
        };
        ask.text = format!("{}\n", body["instructions"].as_str().unwrap_or_default());
        if let Some(text) = body["input"].as_str() {
            ask.text.push_str(text);
            ask.users.push(text.to_owned());
        }
        for item in list(&body["input"]) {
            let text = content(&item["content"]);
            ask.text.push_str(&text);
            ask.text.push('\n');
            let kind = item["type"].as_str().unwrap_or("message");
            ask.after_tool_result = kind.ends_with("_call_output");
            ask.tool_results += usize::from(ask.after_tool_result);
            // Where it works and what its project wants to be said comes as a user's message too, the same in all
            // conversations of a folder.
            if item["role"] == "user" && is_prompt(&text) {
                ask.tool_results = 0;
                ask.users.push(text);
            }
        }
        ask
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Value {
        response(ask, reply, "completed", &items(ask, reply))
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Event> {
        let mut events = Events::default();
        events.add("response.created", json!({ "response": response(ask, reply, "in_progress", &[]) }));
        for (index, item) in items(ask, reply).into_iter().enumerate() {
            let mut begun = item.clone();
            begun["status"] = json!("in_progress");
            let is_text = item["type"] == "message";
            if is_text {
                begun["content"] = json!([]);
            } else {
                begun[argument_key(&item)] = json!("");
            }
            events.add("response.output_item.added", json!({ "output_index": index, "item": begun }));
            if is_text {
                for word in words(&reply.text) {
                    let delta = json!({
                        "item_id": item["id"], "output_index": index, "content_index": 0, "delta": word,
                    });
                    events.add("response.output_text.delta", delta);
                    if let Some(last) = events.0.last_mut() {
                        last.word = true;
                    }
                }
            }
            events.add("response.output_item.done", json!({ "output_index": index, "item": item }));
        }
        events.add("response.completed", json!({ "response": self.whole(ask, reply) }));
        events.0
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        let error = json!({
            "message": refusal.message, "type": refusal.kind, "param": null, "code": refusal.code,
        });
        json!({ "error": refusal.with_reset(error) })
    }
}

/// The events of one answer; each names its kind twice and has a number, as in the API.
#[derive(Default)]
struct Events(Vec<Event>);

impl Events {
    fn add(&mut self, name: &'static str, mut data: Value) {
        data["type"] = json!(name);
        data["sequence_number"] = json!(self.0.len());
        self.0.push(Event { name: Some(name), data: data.to_string(), word: false });
    }
}

fn tool(value: &Value) -> Tool {
    // The API's own tools have a type instead of a name; one without a schema takes free text.
    let name = value["name"].as_str().or(value["type"].as_str());
    Tool { name: name.unwrap_or_default().to_owned(), parameters: value["parameters"].clone() }
}

/// Text, or the text parts of a list.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// What the answer is made of; none when the model says nothing.
fn items(ask: &Ask, reply: &Reply) -> Vec<Value> {
    let mut items = Vec::new();
    if !reply.text.is_empty() {
        let part = json!({ "type": "output_text", "text": reply.text, "annotations": [] });
        items.push(json!({
            "type": "message", "id": format!("msg_scripted{}", reply.number), "status": "completed",
            "role": "assistant", "content": [part],
        }));
    }
    items.extend(reply.numbered().map(|(id, call)| call_item(ask, &id, call)));
    items
}

fn call_item(ask: &Ask, id: &str, call: &ToolCall) -> Value {
    let takes_text = ask.tools.iter().any(|tool| tool.name == call.name && tool.parameters.is_null());
    let mut item = json!({
        "type": if takes_text { "custom_tool_call" } else { "function_call" },
        "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
        "status": "completed", "name": call.name,
    });
    // Tools of MCP servers are called by two names: the server's namespace, and their own in it.
    if let Some((server, name)) = call.name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
        item["namespace"] = json!(format!("mcp__{server}"));
        item["name"] = json!(name);
    }
    let argument = if takes_text {
        call.arguments["input"].as_str().map_or_else(|| call.arguments.to_string(), str::to_owned)
    } else {
        call.arguments.to_string()
    };
    let key = argument_key(&item);
    item[key] = json!(argument);
    item
}

fn argument_key(item: &Value) -> &'static str {
    if item["type"] == "custom_tool_call" { "input" } else { "arguments" }
}

fn response(ask: &Ask, reply: &Reply, status: &str, output: &[Value]) -> Value {
    let (input, out) = (reply.usage.input, reply.usage.output);
    let usage = (status == "completed").then(|| {
        json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": out, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + out,
        })
    });
    json!({
        "id": format!("resp_scripted{}", reply.number), "object": "response", "created_at": 0, "status": status,
        "error": null, "model": ask.model, "output": output, "usage": usage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_tool_results_since_the_last_prompt() {
        let user = |text: &str| json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]});
        let body = json!({"model": "m", "instructions": "S", "input": [
            user("<environment_context><cwd>/w</cwd></environment_context>"), user("one"),
            {"type": "function_call", "call_id": "a"}, {"type": "function_call_output", "call_id": "a", "output": "x"},
            user("two"), {"type": "custom_tool_call", "call_id": "b"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": "y"}]});
        let ask = Responses.ask("", &body);
        assert_eq!((ask.tool_results, ask.after_tool_result), (1, true));
        assert_eq!(ask.users, ["one", "two"]);
        assert!(ask.text.starts_with("S\n<environment_context>"));
    }

    #[test]
    fn the_schema_of_a_structured_answer_is_found() {
        let format = json!({"type": "json_schema", "name": "n", "schema": {"type": "object"}});
        assert_eq!(
            Responses.ask("", &json!({"text": {"format": format}})).schema,
            Some(json!({"type": "object"}))
        );
        assert_eq!(Responses.ask("", &json!({"text": {"format": {"type": "text"}}})).schema, None);
    }
}
