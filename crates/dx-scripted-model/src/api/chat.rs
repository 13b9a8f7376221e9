//! OpenAI chat completions.
//!
//! What for: what OpenCode speaks through `@ai-sdk/openai-compatible`, and most other agents can. Called through
//! [`Api`]. Must never fail on a request: what is missing is empty.

use serde_json::{Value, json};

use super::{Api, Ask, Event, Refusal, Reply, Tool, ToolCall, is_prompt, list, words};

/// The API at `*/chat/completions`.
pub(crate) struct Chat;

impl Api for Chat {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn ask(&self, _path: &str, body: &Value) -> Ask {
        let mut ask = Ask {
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            stream: body["stream"].as_bool().unwrap_or_default(),
            tools: list(&body["tools"]).iter().map(tool).collect(),
            schema: schema(&body["response_format"]),
            ..Ask::default()
        };
        for message in list(&body["messages"]) {
            let text = content(&message["content"]);
            ask.after_tool_result = message["role"] == "tool";
            if ask.after_tool_result {
                ask.tool_results += 1;
                ask.read.push_str(&text);
            }
            ask.text.push_str(&text);
            ask.text.push('\n');
            if message["role"] == "user" {
                if is_prompt(&text) {
                    ask.tool_results = 0;
                    ask.read.clear();
                }
                ask.users.push(text);
            }
        }
        ask
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Value {
        let mut message = json!({ "role": "assistant", "content": reply.text });
        let calls = tool_calls(reply);
        if !calls.is_empty() {
            message["content"] = Value::Null;
            message["tool_calls"] = json!(calls);
        }
        json!({
            "id": id(reply), "object": "chat.completion", "created": 0, "model": ask.model, "usage": usage(reply),
            "choices": [{ "index": 0, "message": message, "finish_reason": finish(reply) }],
        })
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Event> {
        let chunk = |delta: Value, finish: Option<&str>| {
            json!({
                "id": id(reply), "object": "chat.completion.chunk", "created": 0, "model": ask.model,
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
            })
        };
        let event = |data: &Value, word: bool| Event { name: None, data: data.to_string(), word };
        let mut events = vec![event(&chunk(json!({ "role": "assistant", "content": "" }), None), false)];
        events.extend(
            words(&reply.text).iter().map(|word| event(&chunk(json!({ "content": word }), None), true)),
        );
        for (index, mut call) in tool_calls(reply).into_iter().enumerate() {
            call["index"] = json!(index);
            events.push(event(&chunk(json!({ "tool_calls": [call] }), None), false));
        }
        let mut last = chunk(json!({}), Some(finish(reply)));
        last["usage"] = usage(reply);
        events.push(event(&last, false));
        events.push(Event { name: None, data: "[DONE]".to_owned(), word: false });
        events
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        let error = json!({
            "message": refusal.message, "type": refusal.kind, "param": null, "code": refusal.code,
        });
        json!({ "error": refusal.with_reset(error) })
    }

    fn refusal_headers(&self, refusal: &Refusal) -> Vec<(&'static str, String)> {
        let mut headers: Vec<_> =
            refusal.retry_after().iter().map(|seconds| ("retry-after", seconds.to_string())).collect();
        headers.extend(refusal.plan().map(|_| ("retry-after-ms", "1".to_owned())));
        headers
    }
}

fn tool(value: &Value) -> Tool {
    let function = &value["function"];
    Tool {
        name: function["name"].as_str().unwrap_or_default().to_owned(),
        parameters: function["parameters"].clone(),
    }
}

fn schema(format: &Value) -> Option<Value> {
    match format["type"].as_str() {
        Some("json_schema") => Some(format["json_schema"]["schema"].clone()),
        Some("json_object") => Some(json!({ "type": "object", "properties": { "title": {} } })),
        _ => None,
    }
}

/// Text, or the text parts of a list.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

fn id(reply: &Reply) -> String {
    format!("chatcmpl-scripted{}", reply.number)
}

fn finish(reply: &Reply) -> &'static str {
    if reply.calls.is_empty() { "stop" } else { "tool_calls" }
}

fn usage(reply: &Reply) -> Value {
    let (input, output) = (reply.usage.input, reply.usage.output);
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}

fn tool_calls(reply: &Reply) -> Vec<Value> {
    let shown = |(id, call): (String, &ToolCall)| {
        json!({
            "id": format!("call_{id}"), "type": "function",
            "function": { "name": call.name, "arguments": call.arguments.to_string() },
        })
    };
    reply.numbered().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_tool_results_since_the_last_prompt() {
        let body = json!({"model": "m", "messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": "one"}, {"role": "tool", "content": "x"},
            {"role": "user", "content": [{"type": "text", "text": "two"}]}, {"role": "assistant", "content": null},
            {"role": "tool", "content": "y"}, {"role": "user", "content": "<system-reminder>z</system-reminder>"}]});
        let ask = Chat.ask("", &body);
        assert_eq!((ask.tool_results, ask.after_tool_result, ask.users.len()), (1, false, 3));
        assert_eq!(ask.users[1], "two");
        assert!(ask.text.starts_with("S\none\n"));
    }
}
