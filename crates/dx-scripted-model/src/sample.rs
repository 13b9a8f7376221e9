//! A value that fits a JSON schema, roughly.
//!
//! What for: structured output, and required tool parameters that no scenario names. Called by `play` and `tools`.
//! Must never recurse without a bound: schemas come from the client.

use serde_json::{Map, Value, json};

/// Makes a value for the schema.
pub(crate) fn sample(schema: &Value) -> Value {
    at_depth(schema, 0)
}

fn at_depth(schema: &Value, depth: usize) -> Value {
    if depth > 8 || !schema.is_object() {
        return json!("scripted");
    }
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    if let Some(value) = schema.pointer("/enum/0") {
        return value.clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(key).and_then(|list| list.get(0)) {
            return at_depth(first, depth + 1);
        }
    }
    let kind = match &schema["type"] {
        Value::String(kind) => kind.to_lowercase(),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or("null")
            .to_lowercase(),
        _ if schema.get("properties").is_some() => "object".to_owned(),
        _ => "string".to_owned(),
    };
    match kind.as_str() {
        "object" => {
            let fields = schema["properties"].as_object();
            let fields =
                fields.into_iter().flatten().map(|(name, field)| (name.clone(), at_depth(field, depth + 1)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        "array" => json!([at_depth(&schema["items"], depth + 1)]),
        "integer" => json!(1),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!("scripted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_the_schema() {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": ["null", "integer"]}, "l": {"type": "array", "items": {"enum": ["x", "y"]}}, "t": {"type": "STRING"}}});
        assert_eq!(sample(&schema), json!({"n": 1, "l": ["x"], "t": "scripted"}));
    }
}
