//! A client of the Model Context Protocol that sends what it is told to, also what no client should.

#![allow(clippy::needless_pass_by_value, reason = "arguments are made where they are needed")]

use dx_testkit::TestEnv;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// For everything that ends by itself, on a machine under load.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Messages that were not waited for.
    kept: Vec<Value>,
    next: u64,
}

impl Client {
    /// A server, and what a client says first.
    pub(super) fn new(env: &TestEnv, args: &[&str]) -> Self {
        let mut client = Self::silent(env, args);
        let told = client.ask(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } }),
        );
        assert_eq!(told["protocolVersion"], "2025-06-18", "{told}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        client
    }

    pub(super) fn silent(env: &TestEnv, args: &[&str]) -> Self {
        let mut command = env.product();
        command.args(["mcp"]).args(args).current_dir(env.allowed_root());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = crate::world::spawn(command);
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, input, lines, kept: Vec::new(), next: 0 }
    }

    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// One line, whatever it is.
    pub(super) fn send(&mut self, line: &str) {
        self.send_bytes(line.as_bytes());
    }

    pub(super) fn send_bytes(&mut self, line: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line).unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    /// Sends a request and returns its id.
    pub(super) fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let message = json!({ "jsonrpc": "2.0", "id": self.next, "method": method, "params": params });
        self.send(&message.to_string());
        self.next
    }

    /// The next message for which it is true.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.kept.iter().position(&is) {
                return self.kept.remove(at);
            }
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no {what}: {error}; had {:?}", self.kept));
            self.kept.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
        }
    }

    /// Everything that was said and not waited for.
    pub(super) fn rest(&mut self) -> Vec<Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.kept.push(serde_json::from_str(&line).unwrap());
        }
        std::mem::take(&mut self.kept)
    }

    #[track_caller]
    pub(super) fn answer(&mut self, id: u64) -> Value {
        self.until(&format!("answer to {id}"), |message| message["id"] == id)
    }

    /// A request and its result.
    #[track_caller]
    pub(super) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let answer = self.answer(id);
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// A tool's result.
    #[track_caller]
    pub(super) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// The document of a tool that did what it was asked to.
    #[track_caller]
    pub(super) fn document(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert!(result["isError"].is_null(), "{result:#}");
        let text = result["content"][0]["text"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), result["structuredContent"]);
        result["structuredContent"].clone()
    }

    /// The error of a tool that did not.
    #[track_caller]
    pub(super) fn failure(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result:#}");
        result["structuredContent"]["error"].clone()
    }

    /// Closes the server's input; its exit code.
    #[track_caller]
    pub(super) fn close(mut self) -> Option<i32> {
        drop(self.input.take());
        self.end()
    }

    #[track_caller]
    pub(super) fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Still ours: nobody else waits for it.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}
