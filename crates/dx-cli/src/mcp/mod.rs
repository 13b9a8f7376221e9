//! `dx-runner mcp`: the commands as tools of the Model Context Protocol, on standard input and output.
//!
//! One thread reads; each call has a thread of its own and does its work in a process of its own (`run`). A call that takes
//! longer than a client waits returns a handle, and goes on.
//!
//! Called by: the command `mcp`. Must never: keep a client waiting without a word, or end before what it began has been
//! told to stop.

mod calls;
mod resources;
mod rpc;
mod run;
mod tools;
mod words;

use dx_protocol::{ExitCode, ReasonCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use crate::context::Context;
use crate::error::CliError;
use calls::Calls;
use rpc::{Incoming, RpcError, Wire};
use run::Program;

pub(crate) use calls::CallDocument;

/// No message is longer.
const MAX_LINE: usize = 16 << 20;

/// Serves until the client closes its end, or a signal comes.
pub(crate) fn serve(ctx: &Context) -> Result<ExitCode, CliError> {
    let failed =
        |what: &str, source| CliError::Io { what: what.to_owned(), reason: ReasonCode::Internal, source };
    let path = std::env::current_exe().map_err(|source| failed("find this program", source))?;
    // Blocked before any thread is there, so that all of them inherit it.
    let wanted = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
    let signals = dx_proc::SignalFd::new(&wanted)?;
    let server = Server {
        wire: Arc::new(Wire::default()),
        calls: Arc::new(Calls::new(Program { path, globals: ctx.global_args() })),
    };
    let input = std::io::stdin();
    let mut lines = Lines::default();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let ready = dx_proc::poll::poll(&[signals.as_fd(), input.as_fd()], None)?;
        if ready.first() == Some(&true) {
            break;
        }
        let read = rustix::io::read(input.as_fd(), &mut *chunk);
        let count = match read {
            Ok(0) => break,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(failed("read standard input", errno.into())),
        };
        for line in lines.take(&chunk[..count]) {
            match line {
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => server.hear(rpc::read(&line)),
                None => {
                    let message = format!("a message is longer than {} MiB", MAX_LINE >> 20);
                    server.wire.answer(&Value::Null, Err(RpcError::new(rpc::INVALID, message)));
                }
            }
        }
    }
    server.calls.end();
    Ok(ExitCode::Ok)
}

struct Server {
    wire: Arc<Wire>,
    calls: Arc<Calls>,
}

impl Server {
    fn hear(&self, message: Incoming) {
        match message {
            Incoming::Answer => {}
            Incoming::Wrong { id, error } => self.wire.answer(&id, Err(error)),
            Incoming::Notification { method, params } => {
                if method == "notifications/cancelled" {
                    self.calls.cancel(&params["requestId"]);
                }
            }
            Incoming::Request { id, method, params } => match method.as_str() {
                "initialize" => self.wire.answer(&id, Ok(initialize(&params))),
                "ping" => self.wire.answer(&id, Ok(json!({}))),
                "tools/list" => {
                    let tools: Vec<Value> = tools::ALL.iter().map(tools::Tool::shown).collect();
                    self.wire.answer(&id, Ok(json!({ "tools": tools })));
                }
                "tools/call" => calls::call(&self.calls, &self.wire, id, &params),
                "resources/templates/list" => self.wire.answer(&id, Ok(resources::templates())),
                "resources/list" | "resources/read" => {
                    resources::answer(&self.calls, &self.wire, id, method == "resources/list", &params);
                }
                _ => {
                    let error = RpcError::new(rpc::NO_METHOD, format!("there is no method `{method}`"));
                    self.wire.answer(&id, Err(error));
                }
            },
        }
    }
}

fn initialize(params: &Value) -> Value {
    json!({
        "protocolVersion": rpc::version(params["protocolVersion"].as_str()),
        "capabilities": { "tools": {}, "resources": {} },
        "serverInfo": { "name": "dx-runner", "version": env!("CARGO_PKG_VERSION") },
        "instructions": "Starts coding agents as detached jobs that outlive this session, asks other models questions, and tells \
            truthfully how each ended. A job: job_start, then job_wait until `ended`, then job_report. A question: dispatch, or \
            batch_dispatch and batch_show for several models. Whatever returns a handle is waited for with call_wait.",
    })
}

/// Lines out of chunks; `None` for one that was too long.
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    /// The rest of a line that was too long is passed over.
    skips: bool,
}

impl Lines {
    fn take(&mut self, chunk: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            if !self.skips {
                self.begun.extend_from_slice(part);
                if self.begun.len() > MAX_LINE {
                    self.begun = Vec::new();
                    self.skips = true;
                    found.push(None);
                }
            }
            if part.ends_with(b"\n") && !std::mem::take(&mut self.skips) {
                found.push(Some(std::mem::take(&mut self.begun)));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_too_long_ones_are_told() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"ab"), []);
        assert_eq!(lines.take(b"c\nd\ne"), [Some(b"abc\n".to_vec()), Some(b"d\n".to_vec())]);
        assert_eq!(lines.take(&vec![b'x'; MAX_LINE]), [None]);
        assert_eq!(lines.take(b"more"), []);
        assert_eq!(lines.take(b"\nf\n"), [Some(b"f\n".to_vec())]);
    }
}
