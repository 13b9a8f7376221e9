//! Which server is meant: the one that is named, else ours, else a healthy one where OpenCode listens by default.
//!
//! Called by: everything that asks a server. Must never: send our server's password anywhere else, or take another user's
//! server for ours.

use super::managed;
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
        let ours = self.state_for_reading()?.and_then(|state| managed::Access::shared(&state));
        if let Some(access) = ours {
            let client = Client::new(&access.url, Some(&access.password))?;
            client.health(patience)?;
            return Ok((client, Some(access.password)));
        }
        // Whoever listens there would read every prompt, and work with his rights.
        let (listening, we) = (listener::users(DEFAULT_PORT), rustix::process::geteuid().as_raw());
        if let Some(user) = stranger(&listening, we) {
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
        let ours = self.state_for_reading()?.and_then(|state| managed::Access::at(&state, url));
        let given = || std::env::var("OPENCODE_SERVER_PASSWORD").ok().filter(|password| !password.is_empty());
        let password = ours.map(|access| access.password).or_else(given);
        Ok((Client::new(url, password.as_deref())?, password))
    }
}

/// Somebody else among those who listen.
fn stranger(listening: &[u32], we: u32) -> Option<u32> {
    listening.iter().copied().find(|user| *user != we)
}

#[cfg(test)]
mod tests {
    use super::stranger;

    #[test]
    fn a_server_that_nobody_named_is_our_own_users() {
        assert_eq!(stranger(&[], 1000), None);
        assert_eq!(stranger(&[1000, 1000], 1000), None);
        assert_eq!(stranger(&[1000, 1001], 1000), Some(1001));
        assert_eq!(stranger(&[0], 1000), Some(0));
    }
}
