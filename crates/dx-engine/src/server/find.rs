//! Which server is meant: the one that is named, else ours, else a healthy one where OpenCode listens by default.
//!
//! Called by: everything that asks a server. Must never: send our server's password anywhere else.

use super::managed;
use crate::Engine;
use crate::error::EngineError;
use dx_opencode::Client;
use std::time::Duration;

/// Where `opencode serve` listens when nobody says otherwise.
const DEFAULT: &str = "http://127.0.0.1:4096";
/// A healthy server says so within this.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// A server that answers. `url` is what the caller named; else `OPENCODE_URL` counts.
    pub(crate) fn find_server(&self, url: Option<&str>) -> Result<Client, EngineError> {
        let from_env = std::env::var("OPENCODE_URL").ok().filter(|url| !url.is_empty());
        if let Some(url) = url.map(str::to_owned).or(from_env) {
            let client = self.client(&url)?;
            client.health(PATIENCE)?;
            return Ok(client);
        }
        let ours = self.state_for_reading()?.and_then(|state| managed::Access::of_live(&state));
        if let Some(access) = ours {
            let client = Client::new(&access.url, Some(&access.password))?;
            client.health(PATIENCE)?;
            return Ok(client);
        }
        let client = self.client(DEFAULT)?;
        match client.health(PATIENCE) {
            Ok(_) => Ok(client),
            Err(_) => Err(EngineError::NoServer { tried: DEFAULT.to_owned() }),
        }
    }

    /// A server by its address, with the password that is known for it.
    pub(super) fn client(&self, url: &str) -> Result<Client, EngineError> {
        let ours = self.state_for_reading()?.and_then(|state| managed::Access::of_live(&state));
        let given = || std::env::var("OPENCODE_SERVER_PASSWORD").ok().filter(|password| !password.is_empty());
        let password = match ours {
            Some(access) if access.url == url.trim_end_matches('/') => Some(access.password),
            _ => given(),
        };
        Ok(Client::new(url, password.as_deref())?)
    }
}
