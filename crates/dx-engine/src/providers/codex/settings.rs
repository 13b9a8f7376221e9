//! What Codex's own settings tell us.
//!
//! Must never: fail a start. What cannot be read is Codex's to complain about.

use crate::environment;
use std::ffi::OsString;
use toml::de::DeTable;

/// No settings are longer.
const MOST_BYTES: u64 = 1 << 20;

/// The variable in which the selected model provider has its key.
pub(super) fn key_named(env: &[(OsString, OsString)]) -> Option<String> {
    let file = environment::dir_in(env, "CODEX_HOME", ".codex")?.join("config.toml");
    let text = dx_jobdir::read_bounded(&file, MOST_BYTES).ok()?;
    of_selected(std::str::from_utf8(&text).ok()?)
}

fn of_selected(text: &str) -> Option<String> {
    let settings = DeTable::parse(text).ok()?;
    let settings = settings.get_ref();
    let selected = settings.get("model_provider")?.get_ref().as_str()?;
    let makers = settings.get("model_providers")?.get_ref().as_table()?;
    let key = makers.get(selected)?.get_ref().as_table()?.get("env_key")?;
    key.get_ref().as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_selected_provider_and_of_no_other() {
        let two = "[model_providers.a]\nenv_key = \"A_KEY\"\n[model_providers.b]\nname = \"b\"\n";
        assert_eq!(of_selected(&format!("model_provider = \"a\"\n{two}")), Some("A_KEY".to_owned()));
        for none in
            ["", "model_provider = \"b\"\n", "model_provider = \"c\"\n", "model_provider = 1\n", "broken"]
        {
            assert_eq!(of_selected(&format!("{none}{two}")), None, "{none}");
        }
    }
}
