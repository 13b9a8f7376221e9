//! Which server is meant: the one that is named, else ours, else a healthy one where OpenCode listens by default.
//!
//! Called by: everything that asks a server. Must never: send our server's password anywhere else, or take another user's
//! server for ours.

use super::access::Access;
use crate::Engine;
use crate::error::EngineError;
use dx_opencode::Client;
use dx_proc::listener;
use dx_protocol::ReasonCode;
use std::time::Duration;

/// Where `opencode serve` listens when nobody says otherwise.
const DEFAULT: &str = "http://127.0.0.1:4096";
const DEFAULT_PORT: u16 = 4096;
/// A healthy server says so within this.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// A server that answers. `url` is what the caller named; else `OPENCODE_URL` counts.
    pub(crate) fn find_server(&self, url: Option<&str>) -> Result<Client, EngineError> {
        Ok(self.find_access(url)?.0)
    }

    /// The same for who has so much time: a server with much to do answers late.
    pub(crate) fn find_server_within(
        &self,
        url: Option<&str>,
        patience: Duration,
    ) -> Result<Client, EngineError> {
        Ok(self.find(url, patience)?.0)
    }

    /// A server that answers, and its password.
    pub(crate) fn find_access(&self, url: Option<&str>) -> Result<(Client, Option<String>), EngineError> {
        self.find(url, PATIENCE)
    }

    fn find(&self, url: Option<&str>, patience: Duration) -> Result<(Client, Option<String>), EngineError> {
        let from_env = std::env::var("OPENCODE_URL").ok().filter(|url| !url.is_empty());
        if let Some(url) = url.map(str::to_owned).or(from_env) {
            let found = self.access(&url)?;
            found.0.health(patience)?;
            return Ok(found);
        }
        let ours = self.state_for_reading()?.and_then(|state| Access::shared(&state));
        if let Some(access) = ours {
            let client = Client::new(&access.url, Some(&access.password))?;
            client.health(patience)?;
            return Ok((client, Some(access.password)));
        }
        // Whoever listens there would read every prompt, and work with his rights.
        if let Some(user) = stranger(&listener::users(DEFAULT_PORT)) {
            return Err(EngineError::Provider {
                reason: ReasonCode::ServerUnreachable,
                message: format!(
                    "no OpenCode server: none is named, none of ours runs, and what is on {DEFAULT} belongs to user {user}"
                ),
                next_action: Some(format!(
                    "dx-runner server start, or --server {DEFAULT} if that one is meant"
                )),
            });
        }
        let found = self.access(DEFAULT)?;
        match found.0.health(PATIENCE) {
            Ok(_) => Ok(found),
            Err(_) => Err(EngineError::NoServer { tried: DEFAULT.to_owned() }),
        }
    }

    /// A server by its address, with the password that is known for it.
    pub(crate) fn client(&self, url: &str) -> Result<Client, EngineError> {
        Ok(self.access(url)?.0)
    }

    fn access(&self, url: &str) -> Result<(Client, Option<String>), EngineError> {
        let ours = self.state_for_reading()?.and_then(|state| Access::at(&state, url));
        let given = || std::env::var("OPENCODE_SERVER_PASSWORD").ok().filter(|password| !password.is_empty());
        let password = ours.map(|access| access.password).or_else(given);
        Ok((Client::new(url, password.as_deref())?, password))
    }
}

/// Somebody else among those who listen.
pub(super) fn stranger(listening: &[u32]) -> Option<u32> {
    other_than(rustix::process::geteuid().as_raw(), listening)
}

fn other_than(we: u32, listening: &[u32]) -> Option<u32> {
    listening.iter().copied().find(|user| *user != we)
}

#[cfg(test)]
mod tests {
    use super::other_than;

    #[test]
    fn a_server_that_nobody_named_is_our_own_users() {
        assert_eq!(other_than(1000, &[]), None);
        assert_eq!(other_than(1000, &[1000, 1000]), None);
        assert_eq!(other_than(1000, &[1000, 1001]), Some(1001));
        assert_eq!(other_than(1000, &[0]), Some(0));
    }
}
