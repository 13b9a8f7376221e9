//! Servers of ours, each a job with an address and a password that only its user can read; and whether one still lives.
//!
//! Called by: everything that asks a server. Must never: hand out the password for an address that may be somebody else's
//! by now.

use super::find;
use crate::api::JobName;
use crate::error::EngineError;
use crate::lookup::{self, Found, Record};
use crate::providers::OPENCODE_SERVER;
use crate::{secrets, view};
use dx_jobdir::StateDir;
use dx_proc::{Host, listener};
use dx_protocol::{BeadsId, ProviderName};
use serde::{Deserialize, Serialize};

/// The id of the shared one.
const SHARED: &str = "server";
/// What the access file says that it is.
const SCHEMA: &str = "dx-runner/server-access/1";

/// How to get in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Access {
    schema: String,
    pub(crate) url: String,
    pub(crate) password: String,
}

impl Access {
    /// That of the shared server, when it runs.
    pub(crate) fn shared(state: &StateDir) -> Option<Self> {
        Self::of_live(state, &shared().ok()?)
    }

    /// That of the server of ours with this address, when it runs.
    pub(crate) fn at(state: &StateDir, url: &str) -> Option<Self> {
        let ids = state.server_ids();
        let all = ids.iter().filter_map(|id| Self::of_live(state, &named(id.clone()).ok()?));
        all.into_iter().find(|access| access.url == url.trim_end_matches('/'))
    }

    /// Whether a server of ours has or had this address, be it live or not.
    pub(crate) fn is_ours(state: &StateDir, url: &str) -> bool {
        let all = state.server_ids().into_iter().filter_map(|id| Self::read(state, &named(id).ok()?));
        all.into_iter().any(|access| access.url == url)
    }

    /// For a server that is about to be started.
    pub(super) fn new(url: String, password: String) -> Self {
        secrets::also(&[password.clone().into_bytes()]);
        Self { schema: SCHEMA.to_owned(), url, password }
    }

    fn read(state: &StateDir, server: &Server) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(state.server_file(&server.beads)).ok()?).ok()
    }

    pub(super) fn of_live(state: &StateDir, server: &Server) -> Option<Self> {
        let access = Self::read(state, server)?;
        secrets::also(&[access.password.clone().into_bytes()]);
        (is_claimed(state, server) && lives(state, server) && is_own(&access.url)).then_some(access)
    }
}

/// A server of ours, as a job.
pub(super) struct Server {
    pub(super) provider: ProviderName,
    pub(super) beads: BeadsId,
}

impl Server {
    pub(super) fn name(&self) -> JobName {
        JobName { beads: self.beads.clone(), provider: Some(self.provider.clone()) }
    }
}

pub(super) fn shared() -> Result<Server, EngineError> {
    named(SHARED.parse()?)
}

pub(super) fn named(beads: BeadsId) -> Result<Server, EngineError> {
    Ok(Server { provider: OPENCODE_SERVER.parse()?, beads })
}

pub(super) fn is_claimed(state: &StateDir, server: &Server) -> bool {
    std::fs::symlink_metadata(state.live(&server.provider, &server.beads)).is_ok()
}

/// A claim outlives a server whose monitors died with it, and a restart of the machine: whoever has its port then is to get
/// neither its password nor a prompt.
pub(super) fn lives(state: &StateDir, server: &Server) -> bool {
    let (Some(found), Ok(host)) = (run_of(state, server), Host::current()) else { return false };
    let alive = view::alive(&host, &found);
    alive.agent || (alive.ours && found.run.agent.is_none())
}

/// Whether nobody else listens where it should.
fn is_own(url: &str) -> bool {
    let port = url.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.is_some_and(|port| find::stranger(&listener::users(port)).is_none())
}

pub(super) fn run_of(state: &StateDir, server: &Server) -> Option<Found> {
    match lookup::newest_under(state, &server.provider, &server.beads) {
        Ok(Some(Record::Ours(found))) => Some(*found),
        _ => None,
    }
}

/// The job that is the server of ours with this address.
pub(crate) fn run_at(state: &StateDir, url: &str) -> Option<Found> {
    let url = url.trim_end_matches('/');
    let mut servers = state.server_ids().into_iter().filter_map(|id| named(id).ok());
    let here = |server: &Server| Access::of_live(state, server).is_some_and(|access| access.url == url);
    run_of(state, &servers.find(here)?)
}
