//! HTTP calls with nothing around them: what a client's own work is measured against.
//!
//! For: `server`. Must never: grow into a client; it knows one server and two ways in which a body ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

const PATIENCE: Duration = Duration::from_mins(1);

/// One connection, kept for all calls.
pub(super) struct Bare {
    stream: BufReader<TcpStream>,
}

impl Bare {
    pub(super) fn connect(address: SocketAddr) -> Result<Self, Failure> {
        Self::connect_for(address, PATIENCE)
    }

    /// With less patience for each answer.
    pub(super) fn connect_for(address: SocketAddr, patience: Duration) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).map_err(told)?;
        stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(patience))).map_err(told)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// One call that has to succeed; its body.
    pub(super) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<String, Failure> {
        let length = self.send(method, path, body)?;
        let mut bytes = Vec::new();
        if let Some(length) = length {
            bytes.resize(length, 0);
            self.stream.read_exact(&mut bytes).map_err(told)?;
        } else {
            loop {
                let size = self.line()?;
                let size =
                    usize::from_str_radix(size.trim(), 16).map_err(|_| format!("`{size}` is no size"))?;
                let from = bytes.len();
                bytes.resize(from + size, 0);
                self.stream.read_exact(&mut bytes[from..]).map_err(told)?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        }
        String::from_utf8(bytes).map_err(|error| error.to_string())
    }

    /// Begins an answer without an end, and waits for its first line.
    pub(super) fn begin(mut self, path: &str) -> Result<Self, Failure> {
        self.send("GET", path, "")?;
        self.line()?;
        Ok(self)
    }

    /// Sends and reads the head; the length of the body, `None` when it comes in pieces.
    fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Option<usize>, Failure> {
        // Told of a body of no bytes, the server waits for one.
        let about = match body.len() {
            0 => String::new(),
            length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n{about}\r\n{body}");
        self.stream.get_mut().write_all(head.as_bytes()).map_err(told)?;
        let status = self.line()?;
        if !status.starts_with("HTTP/1.1 2") {
            return Err(format!("{method} {path}: {status}"));
        }
        let mut length = None;
        loop {
            let line = self.line()?.to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            if line.is_empty() {
                return Ok(length);
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(told)?;
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(error: std::io::Error) -> Failure {
    error.to_string()
}
