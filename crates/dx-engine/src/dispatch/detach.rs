//! A batch in a process of its own, for who does not want to wait for it.
//!
//! The process gets the request on its standard input and tells the batch, as soon as it is stored, or why it is not, on its
//! standard output.
//! It has a session of its own, so that neither Ctrl-C nor the end of a terminal reaches it.
//!
//! Called by: `batch --detach`, and the hidden entry that it starts. Must never: put a prompt on a command line.

use super::batch::{BatchRequest, Members};
use super::{Conditions, Member, SchemaSource};
use crate::Engine;
use crate::api::PromptSource;
use crate::error::EngineError;
use crate::settle::Programs;
use dx_protocol::{BatchDocument, ErrorDocument, ReasonCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _, pipe};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

/// The hidden entry: `dx-runner __batch <state dir> <configuration or ->`.
pub const BATCH: &str = "__batch";

/// A request on its way to the other process.
#[derive(Serialize, Deserialize)]
struct Wire {
    members: Vec<String>,
    prompt: String,
    system: Option<String>,
    schema: Option<Value>,
    timeout_ms: u64,
    /// Whether the deadline was asked for, which is told beside the answers.
    timeout_named: bool,
    max_chars: usize,
    directory: Option<PathBuf>,
    server: Option<String>,
    quorum: Option<usize>,
    judge: Option<String>,
    compare: bool,
}

impl Engine {
    /// Starts a batch and returns it as soon as it is stored.
    pub fn batch_detached(&self, request: &BatchRequest) -> Result<BatchDocument, EngineError> {
        let (members, ready) = self.batch_checked(request)?;
        let conditions = &request.conditions;
        let wire = Wire {
            members: members.iter().map(Member::spec).collect(),
            prompt: ready.prompt,
            system: conditions.system.clone(),
            schema: ready.schema.map(|schema| schema.value),
            timeout_ms: u64::try_from(ready.limit.as_millis()).unwrap_or(u64::MAX),
            timeout_named: conditions.timeout.is_some(),
            max_chars: conditions.max_chars,
            directory: conditions.directory.clone(),
            server: conditions.server.clone(),
            quorum: request.quorum,
            judge: request.judge.as_ref().map(Member::spec),
            compare: request.compare,
        };
        let text = serde_json::to_vec(&wire).map_err(|e| EngineError::Argument(e.to_string()))?;
        let failed = |source| EngineError::Io { what: "start the batch's process", source };
        let (their_input, mut input) = pipe().map_err(failed)?;
        let (output, their_output) = pipe().map_err(failed)?;
        let config = self.settings.config.as_deref().map_or_else(|| "-".into(), absolute);
        let argv: Vec<OsString> = vec!["dx-runner".into(), BATCH.into(), self.state()?.root().into(), config];
        // Members take their credentials from it.
        let env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let fds = [(their_input.as_fd(), 0), (their_output.as_fd(), 1)];
        dx_proc::spawn_detached(&Programs::find()?.runner, None, &argv, &env, &fds)?;
        drop((their_input, their_output));
        // One that died has closed its end; then there is no word from it either.
        let _written = input.write_all(&text);
        drop(input);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(failed)?;
        let told = serde_json::from_str(&line);
        told.map_err(|_| match serde_json::from_str::<ErrorDocument>(&line) {
            Ok(ErrorDocument { error, .. }) => EngineError::Provider {
                reason: error.reason_code,
                message: [vec![error.message], error.causes].concat().join(": "),
                next_action: Some(error.next_action),
            },
            Err(_) => EngineError::Provider {
                reason: ReasonCode::BatchFailed,
                message: "the batch's process ended before the batch was stored".to_owned(),
                next_action: Some("run it without --detach to see why".to_owned()),
            },
        })
    }
}

fn absolute(path: &std::path::Path) -> OsString {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string()
}

impl BatchRequest {
    /// The request that [`Engine::batch_detached`] sent.
    pub fn received(from: impl Read) -> Result<Self, EngineError> {
        let bad = |why: String| EngineError::Argument(format!("the batch's request: {why}"));
        let wire: Wire = serde_json::from_reader(from).map_err(|error| bad(error.to_string()))?;
        let members: Result<Vec<Member>, String> = wire.members.iter().map(|spec| spec.parse()).collect();
        Ok(Self {
            members: Members::Named(members.map_err(bad)?),
            conditions: Conditions {
                prompt: PromptSource::Text(wire.prompt.into_bytes()),
                system: wire.system,
                schema: wire.schema.map(SchemaSource::Value),
                timeout: wire.timeout_named.then(|| Duration::from_millis(wire.timeout_ms)),
                max_chars: wire.max_chars,
                directory: wire.directory,
                server: wire.server,
            },
            quorum: wire.quorum,
            judge: wire.judge.map(|spec| spec.parse()).transpose().map_err(bad)?,
            compare: wire.compare,
        })
    }
}

/// Tells the process that waits for it that a batch is stored, or why none is.
pub fn tell_begun(document: &impl Serialize) {
    let Ok(mut line) = serde_json::to_string(document) else { return };
    line.push('\n');
    let mut out = std::io::stdout().lock();
    // It may be gone; the batch goes on.
    let _told = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
