//! Google's generateContent.
//!
//! What for: what Gemini CLI speaks. Called through [`Api`]. The model and whether the answer is streamed stand in the
//! path. Must never fail on a request: what is missing is empty.

use serde_json::{Value, json};

use super::{Api, Ask, Event, Refusal, Reply, Tool, ToolCall, is_prompt, list, words};
use crate::scenario::RateLimit;

/// The API at `*/models/M:generateContent` and `*/models/M:streamGenerateContent`.
pub(crate) struct Generate;

/// Where the kinds of details of an error are named.
const TYPES: &str = "type.googleapis.com/google.rpc";

impl Api for Generate {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn ask(&self, path: &str, body: &Value) -> Ask {
        let (model, method) =
            path.rsplit('/').next().unwrap_or_default().rsplit_once(':').unwrap_or_default();
        let mut ask = Ask {
            model: model.to_owned(),
            stream: method == "streamGenerateContent",
            tools: list(&body["tools"])
                .iter()
                .flat_map(|tool| list(&tool["functionDeclarations"]))
                .map(tool)
                .collect(),
            schema: schema(&body["generationConfig"]),
            ..Ask::default()
        };
        ask.text = content(&body["systemInstruction"]);
        ask.text.push('\n');
        for message in list(&body["contents"]) {
            let text = content(message);
            let results =
                list(&message["parts"]).iter().filter(|part| part.get("functionResponse").is_some()).count();
            ask.after_tool_result = results > 0;
            ask.tool_results += results;
            ask.text.push_str(&text);
            ask.text.push('\n');
            if message["role"] != "model" {
                if results == 0 && is_prompt(&text) {
                    ask.tool_results = 0;
                }
                ask.users.push(text);
            }
        }
        ask
    }

    fn whole(&self, ask: &Ask, reply: &Reply) -> Value {
        let mut parts = Vec::new();
        if !reply.text.is_empty() {
            parts.push(json!({ "text": reply.text }));
        }
        parts.extend(calls(reply));
        chunk(ask, reply, &parts, true)
    }

    fn events(&self, ask: &Ask, reply: &Reply) -> Vec<Event> {
        let event = |value: &Value, word: bool| Event { name: None, data: value.to_string(), word };
        let mut events: Vec<Event> = words(&reply.text)
            .iter()
            .map(|word| event(&chunk(ask, reply, &[json!({ "text": word })], false), true))
            .collect();
        let mut last = calls(reply);
        if last.is_empty() {
            last.push(json!({ "text": "" }));
        }
        events.push(event(&chunk(ask, reply, &last, true), false));
        events
    }

    fn refusal(&self, refusal: &Refusal) -> Value {
        let quota = |per: &str| {
            json!({ "@type": format!("{TYPES}.QuotaFailure"), "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": format!("GenerateRequestsPer{per}PerProjectPerModel-FreeTier"),
            }] })
        };
        let details = match refusal.limit {
            None => json!([]),
            Some(RateLimit::After(seconds)) => {
                let retry =
                    json!({ "@type": format!("{TYPES}.RetryInfo"), "retryDelay": format!("{seconds}s") });
                json!([quota("Minute"), retry])
            }
            Some(RateLimit::Quota | RateLimit::Plan(_)) => json!([quota("Day")]),
            Some(RateLimit::Capacity) => json!([{
                "@type": format!("{TYPES}.ErrorInfo"), "reason": "MODEL_CAPACITY_EXHAUSTED",
                "domain": "cloudcode-pa.googleapis.com",
            }]),
        };
        let (code, status) = (refusal.status, status(refusal.status));
        json!({ "error": { "code": code, "message": refusal.message, "status": status, "details": details } })
    }

    fn refusal_headers(&self, _refusal: &Refusal) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

fn tool(value: &Value) -> Tool {
    let parameters = ["parametersJsonSchema", "parameters"].into_iter().find_map(|key| value.get(key));
    Tool {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        parameters: parameters.cloned().unwrap_or_default(),
    }
}

fn schema(config: &Value) -> Option<Value> {
    let found = ["responseJsonSchema", "responseSchema"].into_iter().find_map(|key| config.get(key));
    found.cloned().or_else(|| (config["responseMimeType"] == "application/json").then_some(Value::Null))
}

/// The text parts of a message; the system's instruction may be bare text.
fn content(message: &Value) -> String {
    match message {
        Value::String(text) => text.clone(),
        message => {
            let parts = list(&message["parts"]).iter();
            parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
    }
}

fn chunk(ask: &Ask, reply: &Reply, parts: &[Value], last: bool) -> Value {
    let (input, output) = (reply.usage.input, reply.usage.output);
    let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
    if last {
        candidate["finishReason"] = json!("STOP");
    }
    json!({
        "candidates": [candidate], "modelVersion": ask.model, "responseId": format!("scripted{}", reply.number),
        "usageMetadata": {
            "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output,
        },
    })
}

fn calls(reply: &Reply) -> Vec<Value> {
    let shown = |(id, call): (String, &ToolCall)| json!({ "functionCall": { "id": format!("call_{id}"), "name": call.name, "args": call.arguments } });
    reply.numbered().map(shown).collect()
}

/// The word that Google's APIs have for an HTTP status.
fn status(code: u16) -> &'static str {
    match code {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        500 => "INTERNAL",
        503 => "UNAVAILABLE",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_tool_results_since_the_last_prompt() {
        let body = json!({"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [
            {"role": "user", "parts": [{"text": "<session_context>x</session_context>"}]},
            {"role": "user", "parts": [{"text": "one"}]}, {"role": "model", "parts": [{"functionCall": {}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]}, {"role": "user", "parts": [{"text": "two"}]},
            {"role": "user", "parts": [{"functionResponse": {}}, {"functionResponse": {}}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]});
        let ask = Generate.ask("/v1beta/models/m-1:streamGenerateContent", &body);
        assert_eq!((ask.tool_results, ask.after_tool_result, ask.stream), (2, true, true));
        assert_eq!((ask.model.as_str(), ask.tools[0].name.as_str(), ask.users.len()), ("m-1", "f", 5));
        assert!(ask.text.starts_with("S\n"));
        assert!(!Generate.ask("/v1beta/models/m:generateContent", &body).stream);
    }
}
