//! Serves a scenario until its standard input ends.
//!
//! What for: trying a real agent against the scripted model by hand. Prints the port on the first line, the
//! OpenCode configuration on the second, and a line for each call at the end. Must never be shipped.
//!
//! `cargo run -p dx-scripted-model --example serve -- 'write:hello.txt:hi,text:DONE'`
#![allow(clippy::print_stdout)]

use std::io::{Read as _, Write as _};

use dx_scripted_model::{Scenario, ScriptedModel, opencode_config};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scenario =
        std::env::args().nth(1).map_or_else(|| Ok(Scenario::text("SCRIPTED-OK")), |text| text.parse())?;
    let model = ScriptedModel::start(scenario)?;
    println!("{}", model.port());
    println!("{}", opencode_config(&model.base_url()));
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for call in model.calls() {
        println!("{call:?}");
    }
    Ok(())
}
