//! The Codex configuration that points at a scripted model.
//!
//! What for: one place for the settings that make the real Codex work offline. Called by tests, for `config.toml` in
//! Codex's folder. Must never name a real provider or a real key.

/// Provider `mock` at `base_url` with the key of `OPENAI_API_KEY`, and a model that Codex knows. `retries` is how often a
/// call that broke off is made again; `None` leaves that to Codex.
pub fn codex_config(base_url: &str, retries: Option<u32>) -> String {
    let retries = retries.map_or_else(String::new, |retries| {
        format!("request_max_retries = 1\nstream_max_retries = {retries}\n")
    });
    format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\n\n[model_providers.mock]\nname = \"mock\"\n\
         base_url = \"{base_url}\"\nenv_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n{retries}"
    )
}
