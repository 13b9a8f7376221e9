//! The OpenCode configuration that points at a scripted model.
//!
//! What for: one place for the settings that make the real OpenCode work offline. Called by tests and the `demo`
//! command, for the environment variable `OPENCODE_CONFIG_CONTENT`. Must never name a real provider or a real key.

use serde_json::{Value, json};

/// Provider `mock` with the models `m1` and `m2` (the small one) at `base_url`, and nothing else enabled.
///
/// Needs beside it: a fresh HOME, `OPENCODE_DISABLE_MODELS_FETCH=1`, `OPENCODE_DISABLE_AUTOUPDATE=1` and
/// `OPENCODE_DISABLE_LSP_DOWNLOAD=1`.
pub fn opencode_config(base_url: &str) -> Value {
    json!({
        "autoupdate": false,
        "share": "disabled",
        "model": "mock/m1",
        "small_model": "mock/m2",
        "enabled_providers": ["mock"],
        "provider": {
            "mock": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Mock",
                "options": { "baseURL": base_url, "apiKey": "fake" },
                "models": {
                    "m1": { "name": "M1", "limit": { "context": 128_000, "output": 8192 } },
                    "m2": { "name": "M2", "limit": { "context": 128_000, "output": 8192 } }
                }
            }
        }
    })
}
