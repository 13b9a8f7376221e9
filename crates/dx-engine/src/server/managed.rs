//! Starting and stopping the servers of a state directory, which are jobs like any other. One is shared by everything; others
//! are for one purpose, under an id of their own.
//!
//! Called by: `server start|status|stop`, and the benchmark for its own. Must never: show the password, or take a port that OpenCode has for its default.

use super::access::{Access, Server, is_claimed, lives, named, run_of, shared};
use super::shell;
use crate::Engine;
use crate::api::{StartRequest, WorktreeChoice};
use crate::error::EngineError;
use dx_jobdir::{DiskFile, StateDir, disk};
use dx_opencode::{Client, ClientError, Health};
use dx_protocol::{BeadsId, ReasonCode, SandboxMode, ServerDocument};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

/// Where a server listens when nobody says otherwise.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A first start may set up a database.
const START_PATIENCE: Duration = Duration::from_mins(1);
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// The end of a server is settled within this.
const SETTLED: Duration = Duration::from_secs(30);
/// Ports that were free a moment ago and taken when the server came.
const PORT_TRIES: usize = 3;
/// So much of what a server said before it ended is shown.
const LAST_WORDS: usize = 300;

impl Engine {
    /// Starts the shared server, or tells of the one that runs, which has to be where it is asked for.
    pub fn server_start(
        &self,
        hostname: Option<&str>,
        port: Option<u16>,
    ) -> Result<ServerDocument, EngineError> {
        let read = |hostname: &str| {
            let address = if hostname == "localhost" { Some(LOOPBACK) } else { hostname.parse().ok() };
            address.filter(IpAddr::is_loopback).ok_or_else(|| refused_host(hostname))
        };
        self.start_server(&shared()?, hostname.map(read).transpose()?, port)
    }

    /// Starts a server for one purpose, or tells of the one that runs under this id.
    pub fn own_server_start(&self, id: BeadsId) -> Result<ServerDocument, EngineError> {
        self.start_server(&named(id)?, None, None)
    }

    fn start_server(
        &self,
        server: &Server,
        address: Option<IpAddr>,
        port: Option<u16>,
    ) -> Result<ServerDocument, EngineError> {
        let state = self.state()?;
        let _lock = lock(&state)?;
        while let Some(access) = self.live_access(&state, server)? {
            let wanted_port = port.map(|port| format!(":{port}"));
            let wanted_host = address.map(|address| format!("//{}:", host(address)));
            let is_there = wanted_port.is_none_or(|port| access.url.ends_with(&port))
                && wanted_host.is_none_or(|host| access.url.contains(&host));
            if !is_there {
                return Err(elsewhere(&access));
            }
            // One that ends meanwhile was about to die, and another one is started.
            if let Some(document) = self.running(&state, server, &access, false)? {
                return Ok(document);
            }
        }
        let address = address.unwrap_or(LOOPBACK);
        let mut tries = 0;
        loop {
            tries += 1;
            let tried = port.map_or_else(|| free_port(address), Ok)?;
            match self.start_at(&state, server, address, tried) {
                Err(EngineError::SpawnFailed { .. }) if is_taken(address, tried) => {
                    if port.is_some() || tries == PORT_TRIES {
                        return Err(taken(address, tried));
                    }
                }
                other => return other,
            }
        }
    }

    fn start_at(
        &self,
        state: &StateDir,
        server: &Server,
        address: IpAddr,
        port: u16,
    ) -> Result<ServerDocument, EngineError> {
        let file = state.server_file(&server.beads);
        let url = format!("http://{}:{port}", host(address));
        let access = Access::new(url, password()?);
        let shell = shell::install(state)?.map(|path| format!("SHELL={}", path.display()));
        let text = serde_json::to_vec(&access).map_err(|e| EngineError::Argument(e.to_string()))?;
        disk::replace(&file, &text)?;
        let request = StartRequest {
            beads: Some(server.beads.clone()),
            worktree: WorktreeChoice::Own,
            env: [format!("OPENCODE_SERVER_PASSWORD={}", access.password)].into_iter().chain(shell).collect(),
            command: vec![address.to_string(), port.to_string()],
            sandbox: Some(SandboxMode::Off),
            ..StartRequest::new(&server.provider)
        };
        self.progress("starting the OpenCode server");
        if let Err(error) = self.start_service(state, &server.beads, &request) {
            let _removed = disk::remove(&file);
            return Err(error);
        }
        let started = self.running(state, server, &access, true)?;
        started.ok_or_else(|| {
            let _removed = disk::remove(&file);
            let message = format!("the server ended at once: {}", last_words(state, server));
            EngineError::SpawnFailed { message }
        })
    }

    /// Waits until the server is well; `None` when it has ended.
    fn running(
        &self,
        state: &StateDir,
        server: &Server,
        access: &Access,
        changed: bool,
    ) -> Result<Option<ServerDocument>, EngineError> {
        let client = Client::new(&access.url, Some(&access.password))?;
        let until = Instant::now() + START_PATIENCE;
        loop {
            let health = client.health(HEALTH_PATIENCE);
            match health.and_then(|health| if changed { ours(access, health) } else { Ok(health) }) {
                Ok(health) => {
                    self.sweep_server(state, &client);
                    return Ok(Some(document(state, server, Some(access), Ok(health.version), changed)));
                }
                // Another server has taken the port; ours will say so.
                Err(_) if Access::of_live(state, server).is_none() => return Ok(None),
                Err(error) if Instant::now() >= until => {
                    self.progress("the server does not get well and is stopped");
                    if changed {
                        self.stop(&server.name(), None)?;
                        disk::remove(&state.server_file(&server.beads))?;
                    }
                    return Err(error.into());
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// What is known of the shared server.
    pub fn server_status(&self) -> Result<ServerDocument, EngineError> {
        // Only a look: a server that died is settled by whoever starts or stops one.
        let state = StateDir::trusted(self.state_root()?);
        let access = self.state_for_reading()?.and_then(|state| Access::shared(&state));
        let health = match &access {
            None => Ok("-".to_owned()),
            Some(access) => Client::new(&access.url, Some(&access.password))
                .and_then(|client| client.health(HEALTH_PATIENCE))
                .map(|health| health.version),
        };
        Ok(document(&state, &shared()?, access.as_ref(), health, false))
    }

    /// Stops the shared server; its sessions' tools end with it.
    pub fn server_stop(&self, grace: Option<Duration>) -> Result<ServerDocument, EngineError> {
        self.stop_server(&shared()?, grace)
    }

    /// Stops a server for one purpose.
    pub fn own_server_stop(&self, id: BeadsId) -> Result<ServerDocument, EngineError> {
        self.stop_server(&named(id)?, None)
    }

    fn stop_server(&self, server: &Server, grace: Option<Duration>) -> Result<ServerDocument, EngineError> {
        let state = self.state()?;
        let _lock = lock(&state)?;
        let changed = self.live_access(&state, server)?.is_some();
        if changed {
            self.stop(&server.name(), grace)?;
        }
        disk::remove(&state.server_file(&server.beads))?;
        Ok(document(&state, server, None, Ok("-".to_owned()), changed))
    }

    /// The access of a server whose job is live; a dead one is settled first.
    fn live_access(&self, state: &StateDir, server: &Server) -> Result<Option<Access>, EngineError> {
        if !is_claimed(state, server) {
            return Ok(None);
        }
        self.prune(Some(&server.name()))?;
        let until = Instant::now() + SETTLED;
        // One that has just died is settled by its monitor.
        while is_claimed(state, server) && !lives(state, server) && Instant::now() < until {
            std::thread::sleep(PAUSE);
        }
        if !is_claimed(state, server) {
            return Ok(None);
        }
        let Server { provider, beads } = server;
        Access::of_live(state, server).map(Some).ok_or_else(|| EngineError::Provider {
            reason: ReasonCode::ServerUnhealthy,
            message: format!(
                "a server runs, but {} does not tell how to reach it",
                state.server_file(beads).display()
            ),
            next_action: Some(format!(
                "dx-runner stop --beads {beads} --provider {provider}, then start it again"
            )),
        })
    }
}

fn document(
    state: &StateDir,
    server: &Server,
    access: Option<&Access>,
    health: Result<String, ClientError>,
    changed: bool,
) -> ServerDocument {
    let Server { provider, beads } = server;
    let none = || "-".to_owned();
    let pid = std::fs::read_to_string(state.view(provider, beads, "pid")).ok();
    let (status, version, details) = match (access, health) {
        (None, _) => ("stopped", none(), none()),
        (Some(_), Ok(version)) => ("running", version, none()),
        (Some(_), Err(error)) => ("unhealthy", none(), error.to_string()),
    };
    ServerDocument {
        schema: "dx-runner/server/1".to_owned(),
        status: status.to_owned(),
        url: access.map_or_else(none, |access| access.url.clone()),
        version,
        beads: beads.to_string(),
        provider: provider.to_string(),
        pid: access.and(pid).map_or_else(none, |pid| pid.trim().to_owned()),
        file: access.map_or_else(none, |_| state.server_file(beads).display().to_string()),
        log: state.view(provider, beads, "log").display().to_string(),
        changed,
        details,
    }
}

/// A server that lets everybody in is somebody else's, who had the port before.
fn ours(access: &Access, health: Health) -> Result<Health, ClientError> {
    match Client::new(&access.url, None)?.health(HEALTH_PATIENCE) {
        Err(ClientError::Password { .. }) => Ok(health),
        Err(error) => Err(error),
        Ok(_) => Err(ClientError::Password { url: access.url.clone(), given: false }),
    }
}

fn refused_host(hostname: &str) -> EngineError {
    EngineError::Argument(format!("--hostname takes an address of this machine itself, not `{hostname}`"))
}

/// As an address is written in a URL.
fn host(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

fn elsewhere(access: &Access) -> EngineError {
    EngineError::Provider {
        reason: ReasonCode::ServerElsewhere,
        message: format!("the server runs already, and listens at {}", access.url),
        next_action: None,
    }
}

/// Starts and stops are one after the other.
fn lock(state: &StateDir) -> Result<DiskFile, EngineError> {
    let path = state.server_lock();
    let file = DiskFile::open_append_or_create(&path)?;
    file.file().lock().map_err(|source| disk::DiskError { op: "lock", path, source })?;
    Ok(file)
}

/// A port that nobody has now.
fn free_port(address: IpAddr) -> Result<u16, EngineError> {
    let port = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
    Ok(port.map_err(|source| EngineError::Io { what: "find a free port", source })?.port())
}

fn password() -> Result<String, EngineError> {
    let mut bytes = [0; 24];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes));
    read.map_err(|source| EngineError::Io { what: "make a password", source })?;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _fits = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Whether somebody listens there: the server's own words for it say something else.
fn is_taken(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

fn taken(address: IpAddr, port: u16) -> EngineError {
    EngineError::Provider {
        reason: ReasonCode::SpawnFailed,
        message: format!("port {port} of {address} is in use by another program"),
        next_action: Some("--port with another one; without it a free one is found".to_owned()),
    }
}

/// The end of what the server printed.
fn last_words(state: &StateDir, server: &Server) -> String {
    let Some(found) = run_of(state, server) else { return "it left no record".to_owned() };
    let text = std::fs::read(found.paths.log()).unwrap_or_default();
    let text = plain(String::from_utf8_lossy(&text).trim());
    let from = text.char_indices().rev().nth(LAST_WORDS).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

/// Without colours and other things that only a terminal understands.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A sequence ends with a letter or what counts as one.
            let _skipped = chars.by_ref().skip_while(|c| *c == '[').find(|c| ('@'..='~').contains(c));
        } else if !c.is_control() || matches!(c, '\n' | '\t') {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_are_left_out() {
        assert_eq!(super::plain("\u{1b}[91m\u{1b}[1mError: \u{1b}[0mno\u{7}\n\u{1b}[m"), "Error: no\n");
    }
}
