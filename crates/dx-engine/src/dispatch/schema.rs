//! The JSON schema that an answer must fit, and what is said to a model whose answer does not.
//!
//! Must never: fetch a schema that another one names.

use crate::error::EngineError;
use serde_json::Value;
use std::path::PathBuf;

/// Of so many problems a model is told.
const TOLD: usize = 5;
/// How often an answer may be corrected.
pub(super) const CORRECTIONS: u32 = 2;

/// Where a schema comes from.
#[derive(Debug, Clone)]
pub enum SchemaSource {
    File(PathBuf),
    Value(Value),
}

/// A schema that can be checked against.
pub(crate) struct Schema {
    pub(super) value: Value,
    validator: jsonschema::Validator,
}

impl Schema {
    pub(super) fn read(source: &SchemaSource) -> Result<Self, EngineError> {
        let path = match source {
            SchemaSource::File(path) => path,
            SchemaSource::Value(value) => {
                let bad = |why| EngineError::Argument(format!("the JSON schema: {why}"));
                return Self::new(value.clone()).map_err(bad);
            }
        };
        let bad = |why: String| EngineError::Argument(format!("--json-schema {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        Self::new(value).map_err(bad)
    }

    pub(super) fn new(value: Value) -> Result<Self, String> {
        if !value.is_object() {
            return Err("a schema is a JSON object".to_owned());
        }
        let validator = jsonschema::validator_for(&value).map_err(|error| error.to_string())?;
        Ok(Self { value, validator })
    }

    /// What is wrong with a value; nothing when it fits.
    pub(super) fn problems(&self, value: &Value) -> Vec<String> {
        let told = self.validator.iter_errors(value).take(TOLD);
        told.map(|error| format!("at `{}`: {error}", error.instance_path())).collect()
    }

    /// The value in a text that fits: all of it, or what is in its only fence.
    pub(super) fn value_in(&self, text: &str) -> Result<Value, Vec<String>> {
        let fenced = || {
            let inside = text.split("```").nth(1)?;
            serde_json::from_str::<Value>(inside.trim_start_matches("json").trim()).ok()
        };
        let found = serde_json::from_str::<Value>(text.trim()).ok().or_else(fenced);
        let Some(value) = found else { return Err(vec!["it is not JSON".to_owned()]) };
        let problems = self.problems(&value);
        if problems.is_empty() { Ok(value) } else { Err(problems) }
    }
}

/// Said to a model whose answer does not fit.
pub(super) fn correction(problems: &[String]) -> String {
    format!(
        "Your answer does not fit the schema that was asked for:\n- {}\nAnswer again, with nothing but a value that fits.",
        problems.join("\n- ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_found_and_judged() {
        let schema = Schema::new(json!({ "type": "object", "required": ["a"] })).map_err(drop).unwrap();
        assert_eq!(schema.value_in(" {\"a\":1} "), Ok(json!({ "a": 1 })));
        assert_eq!(schema.value_in("Here:\n```json\n{\"a\":1}\n```"), Ok(json!({ "a": 1 })));
        assert!(schema.value_in("{}").unwrap_err()[0].contains('a'));
        assert_eq!(schema.value_in("no"), Err(vec!["it is not JSON".to_owned()]));
        assert!(Schema::new(json!([])).is_err() && Schema::new(json!({ "type": 7 })).is_err());
    }
}
