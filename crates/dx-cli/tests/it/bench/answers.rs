//! What a scripted model answers to the built-in prompts, and an OpenCode that asks it.
//!
//! For: the tests of the benchmark, here and in `soak`, which is a program of its own. Must never: answer wrongly.

use dx_scripted_model::{Scenario, Step, opencode_config};
use serde_json::{Value, json};
use std::time::Duration;

/// The configuration of an OpenCode whose one model is that which dx-runner asks for by itself.
pub(crate) fn canonical_config(base_url: &str) -> Value {
    const PROVIDER: &str = "zhipuai-coding-plan";
    let mut config = opencode_config(base_url);
    let mut provider = config["provider"]["mock"].take();
    provider["models"] = json!({ "glm-5": { "limit": { "context": 128_000, "output": 8192 } } });
    config["provider"] = json!({ PROVIDER: provider });
    config["enabled_providers"] = json!([PROVIDER]);
    config["model"] = json!("zhipuai-coding-plan/glm-5");
    config["small_model"] = config["model"].clone();
    config
}

const SLUG: &str =
    "printf '%s' \"$1\" | tr 'A-Z' 'a-z' | sed 's/[^a-z0-9]\\{1,\\}/-/g; s/^-//; s/-$//'; echo\n";
const ROMAN: &str = "n=$1\nfor p in 1000:M 900:CM 500:D 400:CD 100:C 90:XC 50:L 40:XL 10:X 9:IX 5:V 4:IV 1:I; do\n\
                     while [ \"$n\" -ge \"${p%%:*}\" ]; do printf %s \"${p#*:}\"; n=$((n - ${p%%:*})); done; done; echo\n";

/// What a good model answers to the built-in prompts, by words of each; `think` is its pause before every step.
pub(crate) fn right_answers(think: Duration) -> Vec<(String, Scenario)> {
    let pause = || Scenario::step(Step::Sleep(think));
    let told = |work: Scenario, text: &str| work.then(Step::Sleep(think)).then_text(text);
    let limits = "retry_limit: 5\ntimeout_seconds: 30\nregion: unknown";
    [
        ("slug.sh", told(pause().then_write("slug.sh", SLUG), "slug.sh is written.")),
        ("roman.sh", told(pause().then_write("roman.sh", ROMAN), "roman.sh now says IV for 4.")),
        ("Answer with the one word", pause().then_text("ready")),
        ("notes/limits.md", told(pause().then(Step::Read("notes/limits.md".to_owned())), limits)),
        (
            "plan.txt",
            told(
                pause().then_write("plan.txt", "code: -\ntests: code\ndocs: code\n"),
                "plan.txt is written.",
            ),
        ),
    ]
    .map(|(words, scenario)| (words.to_owned(), scenario))
    .to_vec()
}
