//! The server: one accepting thread, one thread for each connection.
//!
//! What for: owns every thread and socket of the crate's server side. Called by tests and by the `demo` command. Must
//! never listen beyond 127.0.0.1, and must leave no thread behind when it is dropped.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::calls::{CallRecord, Calls};
use crate::hold::Hold;
use crate::http::{ReadError, read_request, write_page};
use crate::percent;
use crate::progress::Progress;
use crate::route::Shared;
use crate::scenario::Scenario;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// No port on loopback could be had.
    #[error("cannot listen on 127.0.0.1")]
    Listen(#[source] io::Error),
    /// The accepting thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A running scripted model. Dropping it ends it: hanging calls are cut off and all its threads joined.
#[derive(Debug)]
pub struct ScriptedModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    connections: Connections,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

/// The open connections, to be shut down at the end.
type Connections = Arc<Mutex<HashMap<u64, TcpStream>>>;

impl ScriptedModel {
    /// Starts a server on a free port of 127.0.0.1; calls that name no scenario get the default one.
    pub fn start(default: Scenario) -> Result<Self, ServerError> {
        Self::start_by_prompt(Vec::new(), default)
    }

    /// The same, with scenarios for prompts: the first whose words are in a user's message of the call is played, unless
    /// the call names one itself. Words after `read:` are looked for in what the client's tools gave back since the prompt (chat
    /// and messages): a model that decides by what it reads.
    pub fn start_by_prompt(
        by_prompt: Vec<(String, Scenario)>,
        default: Scenario,
    ) -> Result<Self, ServerError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ServerError::Listen)?;
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        let shared = Arc::new(Shared {
            by_prompt,
            default,
            calls: Calls::default(),
            progress: Progress::default(),
            hold: Hold::default(),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Connections::default();
        let acceptor = thread::Builder::new()
            .name("scripted-model".to_owned())
            .spawn({
                let (shared, stop, connections) =
                    (Arc::clone(&shared), Arc::clone(&stop), Arc::clone(&connections));
                move || accept(&listener, &shared, &stop, &connections)
            })
            .map_err(ServerError::Thread)?;
        Ok(Self { address, shared, stop, connections, acceptor: Some(acceptor) })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address for clients of the OpenAI family: `http://127.0.0.1:PORT/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The same for clients without tools: none of their calls is taken for housekeeping.
    pub fn plain_url(&self) -> String {
        format!("http://{}/plain/v1", self.address)
    }

    /// That with a scenario in it.
    pub fn plain_url_for(&self, scenario: &Scenario) -> String {
        format!("http://{}/plain/s/{}/v1", self.address, percent::encode(&scenario.to_string()))
    }

    /// The same with a scenario in it, which then goes before the prompt's and the default one.
    pub fn base_url_for(&self, scenario: &Scenario) -> String {
        format!("http://{}/s/{}/v1", self.address, percent::encode(&scenario.to_string()))
    }

    /// The address for clients that add the API's version themselves, such as Claude Code: `http://127.0.0.1:PORT`.
    pub fn root_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same with a scenario in it.
    pub fn root_url_for(&self, scenario: &Scenario) -> String {
        format!("http://{}/s/{}", self.address, percent::encode(&scenario.to_string()))
    }

    /// From now on so many model calls are answered; those behind them wait. Housekeeping is answered at once.
    pub fn hold_after(&self, answered: usize) {
        self.shared.hold.after(answered);
    }

    /// Answers all who wait, and holds nobody any more.
    pub fn let_go(&self) {
        self.shared.hold.end();
    }

    /// The requests so far, the newest last.
    pub fn calls(&self) -> Vec<CallRecord> {
        self.shared.calls.all()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread. If even that fails the thread cannot be joined, but it stops at the next client.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(2)).is_ok();
        let handlers = match self.acceptor.take() {
            Some(acceptor) if woken || acceptor.is_finished() => acceptor.join().unwrap_or_default(),
            _ => Vec::new(),
        };
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in connections.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
        drop(connections);
        for handler in handlers {
            handler.join().ok();
        }
    }
}

/// Accepts until told to stop; gives back the threads that are still running.
fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    stop: &AtomicBool,
    connections: &Connections,
) -> Vec<JoinHandle<()>> {
    let mut handlers: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0;
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::SeqCst) {
            return handlers;
        }
        handlers.retain(|handler| !handler.is_finished());
        let started = accepted.and_then(|(stream, _)| {
            number += 1;
            open(stream, number, shared, connections)
        });
        match started {
            Ok(handler) => handlers.push(handler),
            // Out of descriptors or threads: the next try may do better.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn open(
    mut stream: TcpStream,
    number: u64,
    shared: &Arc<Shared>,
    connections: &Connections,
) -> io::Result<JoinHandle<()>> {
    stream.set_nodelay(true)?;
    let twin = stream.try_clone()?;
    connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, twin);
    let (shared, theirs) = (Arc::clone(shared), Arc::clone(connections));
    let handler = thread::Builder::new().name(format!("scripted-model-{number}")).spawn(move || {
        serve(&mut stream, &shared);
        stream.shutdown(Shutdown::Both).ok();
        theirs.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    });
    if handler.is_err() {
        connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
    handler
}

/// Answers requests until the connection ends.
fn serve(stream: &mut TcpStream, shared: &Shared) {
    let mut rest = Vec::new();
    loop {
        match read_request(stream, &mut rest) {
            Ok(request) => {
                if shared.answer(stream, &request).is_err() || request.close {
                    return;
                }
            }
            Err(ReadError::Ended | ReadError::Io(_)) => return,
            Err(error) => {
                let body = json!({ "error": { "message": format!("scripted model: {error}") } }).to_string();
                write_page(stream, 400, "application/json", &[], body.as_bytes()).ok();
                return;
            }
        }
    }
}
