//! What `bench compare` tells of two runs.

use crate::{BenchGate, BenchRatio, BenchShare};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `bench compare`: what changed between two runs beyond noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchCompareDocument {
    pub schema: String,
    pub a: String,
    pub b: String,
    /// For each workflow that both runs have.
    pub workflows: Vec<BenchComparedWorkflow>,
    /// Workflows that only one run has.
    pub only_in_one: Vec<String>,
    /// Whether the runs asked the same prompts.
    pub same_prompts: bool,
    /// Planned jobs of each run that have no record: it was interrupted or killed, or runs.
    #[serde(default)]
    pub missing_a: u64,
    #[serde(default)]
    pub missing_b: u64,
    /// Gates that each run failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_gates_a: Vec<BenchGate>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_gates_b: Vec<BenchGate>,
}

/// One workflow in two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchComparedWorkflow {
    pub workflow: String,
    pub success_a: BenchShare,
    pub success_b: BenchShare,
    /// As those below without a verdict where a run lacks jobs of the workflow.
    pub success_differs: bool,
    /// Whether so many jobs can show a difference of success at all.
    #[serde(default)]
    pub success_could_differ: bool,
    pub first_output: Option<BenchRatio>,
    pub completion: Option<BenchRatio>,
    /// Planned jobs on the prompts of both runs that have no record. Slow ones are the last to get theirs, so that those
    /// which are there are no fair choice.
    #[serde(default)]
    pub missing_a: u64,
    #[serde(default)]
    pub missing_b: u64,
    /// Jobs of each run that ran on another model than the one asked for or preferred.
    #[serde(default)]
    pub fallbacks_a: u64,
    #[serde(default)]
    pub fallbacks_b: u64,
}
