//! Whether OpenCode can run an agent of that name. It would warn of an unknown one and go on with its default agent, which
//! may do everything, and exit with 0. Pure.

use crate::error::EngineError;
use dx_protocol::ReasonCode;

/// Behind the name of an agent that only other agents may call.
const SUBAGENT: &str = " (subagent)";

/// Refuses a name that is not among the lines of `opencode agent list`, or that cannot lead a run.
pub(super) fn check(name: &str, listed: &[String]) -> Result<(), EngineError> {
    let named = |line: &String| line.rsplit_once(" (").is_some_and(|(n, _)| n == name);
    let problem = match listed.iter().find(|line| named(line)) {
        Some(line) if line.ends_with(SUBAGENT) => "is a subagent and cannot lead a run",
        Some(_) => return Ok(()),
        None => "is not among the agents that OpenCode lists here",
    };
    let usable = listed.iter().filter(|line| !line.ends_with(SUBAGENT));
    let names: Vec<&str> = usable.filter_map(|line| Some(line.rsplit_once(" (")?.0)).collect();
    let choose = format!("--agent with one of: {}", names.join(", "));
    let is_missing = !listed.iter().any(named);
    let next_action = match dx_workflow::agents().find(|agent| *agent == name && is_missing) {
        Some(_) => format!("dx-runner workflow install brings it; or {choose}"),
        None => choose,
    };
    Err(EngineError::Provider {
        reason: ReasonCode::OpencodeAgentMissing,
        message: format!("agent `{name}` {problem}"),
        next_action: Some(next_action),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_listed_and_can_lead() {
        let listed = ["build (primary)", "my reviewer (all)", "explore (subagent)"].map(str::to_owned);
        assert!(check("build", &listed).is_ok() && check("my reviewer", &listed).is_ok());
        for (name, word) in [("explore", "subagent"), ("bild", "not among"), ("build (primary)", "not among")]
        {
            let error = check(name, &listed).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.next_action(), "--agent with one of: build, my reviewer");
            assert_eq!(error.exit_code().code(), 21);
        }
        let ours = check("test-writer", &listed).unwrap_err();
        assert!(ours.next_action().starts_with("dx-runner workflow install brings it; or --agent"), "{ours}");
    }
}
