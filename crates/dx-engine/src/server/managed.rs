//! The shared server of a state directory: a job like any other, with an address and a password that only its user can
//! read.
//!
//! Called by: `server start|status|stop`. Must never: show the password, or take a port that OpenCode has for its default.

use crate::Engine;
use crate::api::{JobName, StartRequest, WorktreeChoice};
use crate::error::EngineError;
use crate::lookup::{self, Record};
use crate::providers::OPENCODE_SERVER;
use crate::secrets;
use dx_jobdir::{DiskFile, StateDir, disk};
use dx_opencode::{Client, ClientError};
use dx_protocol::{BeadsId, ProviderName, ReasonCode, SandboxMode, ServerDocument};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

/// The job's id.
const ID: &str = "server";
/// What the access file says that it is.
const SCHEMA: &str = "dx-runner/server-access/1";
/// A first start may set up a database.
const START_PATIENCE: Duration = Duration::from_mins(1);
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);
/// Ports that were free a moment ago and taken when the server came.
const PORT_TRIES: usize = 3;
/// So much of what a server said before it ended is shown.
const LAST_WORDS: usize = 300;

/// How to get in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Access {
    schema: String,
    pub(crate) url: String,
    pub(crate) password: String,
}

impl Access {
    /// That of the server that runs; `None` when none does.
    pub(crate) fn of_live(state: &StateDir) -> Option<Self> {
        let (provider, beads) = job().ok()?;
        let claimed = std::fs::symlink_metadata(state.live(&provider, &beads)).is_ok();
        let access: Self = serde_json::from_slice(&std::fs::read(state.server_file()).ok()?).ok()?;
        secrets::also(&[access.password.clone().into_bytes()]);
        claimed.then_some(access)
    }
}

fn job() -> Result<(ProviderName, BeadsId), EngineError> {
    Ok((OPENCODE_SERVER.parse()?, ID.parse()?))
}

impl Engine {
    /// Starts the shared server, or tells of the one that runs.
    pub fn server_start(&self, hostname: &str, port: Option<u16>) -> Result<ServerDocument, EngineError> {
        let address: IpAddr = match hostname {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            other => other.parse().map_err(|_| refused_host(hostname))?,
        };
        if !address.is_loopback() {
            return Err(refused_host(hostname));
        }
        let state = self.state()?;
        let _lock = lock(&state)?;
        if let Some(access) = self.live_access(&state)? {
            return self.running(&state, &access, false);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let port = port.map_or_else(|| free_port(address), Ok)?;
            match self.start_at(&state, address, port) {
                Err(EngineError::SpawnFailed { message }) if tries < PORT_TRIES && is_taken(&message) => {}
                other => return other,
            }
        }
    }

    fn start_at(&self, state: &StateDir, address: IpAddr, port: u16) -> Result<ServerDocument, EngineError> {
        let (provider, beads) = job()?;
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let access =
            Access { schema: SCHEMA.to_owned(), url: format!("http://{host}:{port}"), password: password()? };
        secrets::also(&[access.password.clone().into_bytes()]);
        let text = serde_json::to_vec(&access).map_err(|e| EngineError::Argument(e.to_string()))?;
        disk::replace(&state.server_file(), &text)?;
        let request = StartRequest {
            beads: Some(beads.clone()),
            worktree: WorktreeChoice::Own,
            env: vec![format!("OPENCODE_SERVER_PASSWORD={}", access.password)],
            command: vec![address.to_string(), port.to_string()],
            sandbox: Some(SandboxMode::Off),
            ..StartRequest::new(&provider)
        };
        self.progress("starting the OpenCode server");
        if let Err(error) = self.start_service(state, &beads, &request) {
            let _removed = disk::remove(&state.server_file());
            return Err(error);
        }
        self.running(state, &access, true)
    }

    /// Waits until the server is well.
    fn running(
        &self,
        state: &StateDir,
        access: &Access,
        changed: bool,
    ) -> Result<ServerDocument, EngineError> {
        let client = Client::new(&access.url, Some(&access.password))?;
        let until = Instant::now() + START_PATIENCE;
        loop {
            match client.health(HEALTH_PATIENCE) {
                Ok(health) => return document(state, Some(access), Ok(health.version), changed),
                // Another server has taken the port; ours will say so.
                Err(_) if Access::of_live(state).is_none() => {
                    let _removed = disk::remove(&state.server_file());
                    let message = format!("the server ended at once: {}", last_words(state)?);
                    return Err(EngineError::SpawnFailed { message });
                }
                Err(error) if Instant::now() >= until => {
                    self.progress("the server does not get well and is stopped");
                    if changed {
                        self.stop(&name()?, None)?;
                        disk::remove(&state.server_file())?;
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
        let access = self.state_for_reading()?.and_then(|state| Access::of_live(&state));
        let health = match &access {
            None => Ok("-".to_owned()),
            Some(access) => Client::new(&access.url, Some(&access.password))
                .and_then(|client| client.health(HEALTH_PATIENCE))
                .map(|health| health.version),
        };
        document(&state, access.as_ref(), health, false)
    }

    /// Stops the shared server; its sessions' tools end with it.
    pub fn server_stop(&self, grace: Option<Duration>) -> Result<ServerDocument, EngineError> {
        let state = self.state()?;
        let _lock = lock(&state)?;
        let changed = self.live_access(&state)?.is_some();
        if changed {
            self.stop(&name()?, grace)?;
        }
        disk::remove(&state.server_file())?;
        document(&state, None, Ok("-".to_owned()), changed)
    }

    /// The access of a server whose job is live; a dead one is settled first.
    fn live_access(&self, state: &StateDir) -> Result<Option<Access>, EngineError> {
        let (provider, beads) = job()?;
        if std::fs::symlink_metadata(state.live(&provider, &beads)).is_err() {
            return Ok(None);
        }
        self.prune(Some(&name()?))?;
        if std::fs::symlink_metadata(state.live(&provider, &beads)).is_err() {
            return Ok(None);
        }
        Access::of_live(state).map(Some).ok_or_else(|| EngineError::Provider {
            reason: ReasonCode::ServerUnhealthy,
            message: format!(
                "a server runs, but {} does not tell how to reach it",
                state.server_file().display()
            ),
            next_action: Some(format!(
                "dx-runner stop --beads {ID} --provider {OPENCODE_SERVER}, then start it again"
            )),
        })
    }
}

fn document(
    state: &StateDir,
    access: Option<&Access>,
    health: Result<String, ClientError>,
    changed: bool,
) -> Result<ServerDocument, EngineError> {
    let (provider, beads) = job()?;
    let none = || "-".to_owned();
    let pid = std::fs::read_to_string(state.view(&provider, &beads, "pid")).ok();
    let (status, version, details) = match (access, health) {
        (None, _) => ("stopped", none(), none()),
        (Some(_), Ok(version)) => ("running", version, none()),
        (Some(_), Err(error)) => ("unhealthy", none(), error.to_string()),
    };
    Ok(ServerDocument {
        schema: "dx-runner/server/1".to_owned(),
        status: status.to_owned(),
        url: access.map_or_else(none, |access| access.url.clone()),
        version,
        beads: beads.to_string(),
        provider: provider.to_string(),
        pid: access.and(pid).map_or_else(none, |pid| pid.trim().to_owned()),
        file: access.map_or_else(none, |_| state.server_file().display().to_string()),
        log: state.view(&provider, &beads, "log").display().to_string(),
        changed,
        details,
    })
}

fn name() -> Result<JobName, EngineError> {
    let (provider, beads) = job()?;
    Ok(JobName { beads, provider: Some(provider) })
}

fn refused_host(hostname: &str) -> EngineError {
    EngineError::Argument(format!("--hostname takes an address of this machine itself, not `{hostname}`"))
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

fn is_taken(message: &str) -> bool {
    ["ServeError", "EADDRINUSE", "in use"].iter().any(|word| message.contains(word))
}

/// The end of what the server printed.
fn last_words(state: &StateDir) -> Result<String, EngineError> {
    let (provider, beads) = job()?;
    let Ok(Some(Record::Ours(found))) = lookup::newest_under(state, &provider, &beads) else {
        return Ok("it left no record".to_owned());
    };
    let text = std::fs::read(found.paths.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let from = text.char_indices().rev().nth(LAST_WORDS).map_or(0, |(at, _)| at);
    Ok(text[from..].to_owned())
}
