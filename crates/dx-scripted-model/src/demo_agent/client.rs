//! A plain HTTP client for one model call at a time.
//!
//! What for: the demo agent's only way out. Called by `demo_agent`. Must never connect to anything but a loopback
//! address, and never wait past its deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::AgentError;

const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// The model's address.
pub(super) struct Client {
    address: SocketAddr,
    path: String,
    deadline: Duration,
}

impl Client {
    /// Takes `http://IP:PORT/path` with a loopback IP and nothing else.
    pub(super) fn new(base_url: &str, deadline: Duration) -> Result<Self, AgentError> {
        let wrong = || AgentError::Address(base_url.to_owned());
        let rest = base_url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let address: SocketAddr = host.replace("localhost:", "127.0.0.1:").parse().map_err(|_| wrong())?;
        if !address.ip().is_loopback() || path.contains(|c: char| c.is_control() || c == ' ') {
            return Err(wrong());
        }
        Ok(Self { address, path: path.trim_end_matches('/').to_owned(), deadline })
    }

    /// Posts JSON and reads JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, AgentError> {
        let end = Instant::now() + self.deadline;
        let body = body.to_string();
        let request = format!(
            "POST {}{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        );
        let mut stream =
            TcpStream::connect_timeout(&self.address, self.deadline).map_err(|e| self.failed(e))?;
        stream.set_write_timeout(Some(self.deadline)).map_err(|e| self.failed(e))?;
        stream.write_all(request.as_bytes()).map_err(|e| self.failed(e))?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some((status, body)) = answer(&bytes)? {
                return json(status, body);
            }
            if bytes.len() > ANSWER_LIMIT {
                return Err(AgentError::Answer("it is too long".to_owned()));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AgentError::Deadline(self.deadline));
            }
            stream.set_read_timeout(Some(left)).map_err(|e| self.failed(e))?;
            match stream.read(&mut buffer) {
                Ok(0) => return Err(self.failed(ErrorKind::UnexpectedEof.into())),
                Ok(got) => bytes.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn failed(&self, error: std::io::Error) -> AgentError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AgentError::Deadline(self.deadline),
            _ => AgentError::Connection(error),
        }
    }
}

/// Status and body, once both are complete. Only answers with a length are understood: the server here sends those.
fn answer(bytes: &[u8]) -> Result<Option<(u16, &[u8])>, AgentError> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|error| AgentError::Answer(error.to_string()))?;
    let httparse::Status::Complete(head) = parsed else { return Ok(None) };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok())
        .ok_or_else(|| AgentError::Answer("it has no length".to_owned()))?;
    let body = bytes.get(head..).and_then(|rest| rest.get(..length));
    Ok(body.map(|body| (response.code.unwrap_or_default(), body)))
}

fn json(status: u16, body: &[u8]) -> Result<Value, AgentError> {
    let value = serde_json::from_slice::<Value>(body);
    if status == 200 {
        return value.map_err(|error| AgentError::Answer(error.to_string()));
    }
    let message = value.ok().and_then(|value| value["error"]["message"].as_str().map(str::to_owned));
    Err(AgentError::Refused { status, message: message.unwrap_or_else(|| "no message".to_owned()) })
}
