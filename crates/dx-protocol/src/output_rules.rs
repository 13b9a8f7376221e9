//! What the configuration of a provider says about the meaning of its output. Recorded with each run: its end is judged by
//! the rules of its start.

use crate::ErrorClass;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rules beside what the grammar tells by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputRules {
    /// Must be found in the output of a run that did well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<OutputMatch>,
    /// What makes a run a failed one, and of which class; the first that is found counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorRule>,
}

impl OutputRules {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An error by its sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorRule {
    pub when: OutputMatch,
    pub class: ErrorClass,
}

/// A sign in an agent's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "in", rename_all = "snake_case")]
pub enum OutputMatch {
    /// A line of standard output is a JSON object in which this field, with dots between the names, has this value.
    Field { field: String, equals: String },
    /// One of the last lines of standard output matches this expression.
    Stdout { pattern: String },
    /// One of the last lines of standard error matches this expression.
    Stderr { pattern: String },
}
