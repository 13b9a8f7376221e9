//! The OpenCode servers of a run: one of its own for each workflow that needs one, so that no lane is measured under the load
//! of another. The one that `OPENCODE_URL` names is used instead when there is one.
//!
//! They are jobs with names that follow from the run's, so that a run which is gone on with finds them again. Must never:
//! leave one of its own behind when the run ends.

use crate::error::BenchError;
use dx_engine::Engine;
use dx_protocol::{BeadsId, BenchGate, BenchWorkflow, ExitCode, Lane, ReasonCode};

/// The server that is used instead of one of our own.
fn given() -> Option<String> {
    std::env::var("OPENCODE_URL").ok().filter(|url| !url.is_empty())
}

/// Host and port of that server, when one of these workflows uses it: an address may hold a password.
pub(crate) fn given_host(workflows: &[BenchWorkflow]) -> Option<String> {
    workflows.iter().any(needs_one).then(given)?.as_deref().map(host_of)
}

fn needs_one(workflow: &BenchWorkflow) -> bool {
    workflow.lane != Lane::Run.as_str()
}

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Servers by workflow. Those that were started here end with this value.
pub(crate) struct Servers<'a> {
    engine: &'a Engine,
    urls: Vec<(String, String)>,
    own: Vec<BeadsId>,
}

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        for id in &self.own {
            // One that cannot be stopped is in `status`, as every job is.
            let _stopped = self.engine.own_server_stop(id.clone());
        }
    }
}

impl<'a> Servers<'a> {
    /// Starts and probes what these workflows need; what does not work is told by a gate.
    pub(crate) fn start<'b>(
        engine: &'a Engine,
        run_id: &str,
        workflows: impl Iterator<Item = &'b BenchWorkflow>,
        gates: &mut Vec<BenchGate>,
    ) -> Result<Self, BenchError> {
        let mut this = Self { engine, urls: Vec::new(), own: Vec::new() };
        let given = given();
        for workflow in workflows.filter(|workflow| needs_one(workflow)) {
            let url = match &given {
                Some(url) => Ok(url.clone()),
                None => this.start_own(&format!("bench-{run_id}-{}", workflow.lane))?,
            };
            let (reason_code, details) = match url {
                Ok(url) => {
                    let probe = engine.probe_attach(&url, None);
                    this.urls.push((workflow.name.clone(), url));
                    let well = probe.exit_code == ExitCode::Ok.code();
                    (if well { ReasonCode::BenchOk } else { probe.reason_code }, probe.details)
                }
                Err((reason, details)) => (reason, details),
            };
            let passed = reason_code == ReasonCode::BenchOk;
            let details = if passed { String::new() } else { details };
            let name = format!("preflight server of {}", workflow.name);
            gates.push(BenchGate { name, passed, reason_code, details, document: None });
        }
        Ok(this)
    }

    fn start_own(&mut self, id: &str) -> Result<Result<String, (ReasonCode, String)>, BenchError> {
        let id: BeadsId = id.parse().map_err(|_| BenchError::Argument(format!("`{id}` is no job id")))?;
        self.own.push(id.clone());
        let started = self.engine.own_server_start(id);
        Ok(started
            .map(|server| server.url)
            .map_err(|error| (error.reason(), dx_engine::mask_text(&error.to_string()).into_owned())))
    }

    /// The address of a workflow's server; `None` for one that needs none.
    pub(crate) fn url(&self, workflow: &str) -> Option<&str> {
        self.urls.iter().find(|(name, _)| name == workflow).map(|(_, url)| url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn of_an_address_only_host_and_port_are_told() {
        for url in
            ["http://me:p@ss@box:4096/x?y#z", "http://box:4096", "me:secret@box:4096", "http://box:4096?a=@b"]
        {
            assert_eq!(host_of(url), "box:4096", "{url}");
        }
        assert_eq!(host_of("http://[::1]:4096/"), "[::1]:4096");
    }
}
