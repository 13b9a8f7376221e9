//! Writes answers to a connection, whole, in events or deliberately cut short.
//!
//! What for: the wire side of every step. Called by `route` and `play`. Must never block for ever on its own: waiting
//! ends when the client goes or the server shuts the connection down.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Writes a complete answer.
pub(crate) fn write_page(
    stream: &mut TcpStream,
    status: u16,
    content_type: &str,
    extra: &[(&str, String)],
    body: &[u8],
) -> io::Result<()> {
    let head = head(status, content_type, extra) + &format!("content-length: {}\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)
}

/// Writes the head and only the first half of the body it announces.
pub(crate) fn write_partial(stream: &mut TcpStream, content_type: &str, body: &[u8]) -> io::Result<()> {
    let head = head(200, content_type, &[]) + &format!("content-length: {}\r\n\r\n", body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&body[..body.len() / 2]);
    stream.write_all(&bytes)
}

/// A stream of server-sent events, in chunks.
pub(crate) struct Sse<'a> {
    stream: &'a mut TcpStream,
}

impl<'a> Sse<'a> {
    /// Writes the head.
    pub(crate) fn start(stream: &'a mut TcpStream) -> io::Result<Self> {
        let extra = [("cache-control", "no-cache".to_owned()), ("transfer-encoding", "chunked".to_owned())];
        stream.write_all((head(200, "text/event-stream", &extra) + "\r\n").as_bytes())?;
        Ok(Self { stream })
    }

    /// Writes one event.
    pub(crate) fn event(&mut self, name: Option<&str>, data: &str) -> io::Result<()> {
        let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        let event = format!("{name}data: {data}\n\n");
        self.stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
    }

    /// Pauses between events.
    pub(crate) fn pause(&mut self, duration: Duration) -> io::Result<()> {
        wait(self.stream, Some(duration))
    }

    /// Falls silent; returns only with an error, when the client has gone or the server ends.
    pub(crate) fn hang(self) -> io::Result<()> {
        wait(self.stream, None)
    }

    /// Ends the stream properly.
    pub(crate) fn end(self) -> io::Result<()> {
        self.stream.write_all(b"0\r\n\r\n")
    }
}

/// Waits, for a while or for ever; an error means that the connection is gone.
pub(crate) fn wait(stream: &mut TcpStream, duration: Option<Duration>) -> io::Result<()> {
    let end = duration.map(|duration| Instant::now() + duration);
    let mut buffer = [0; 1024];
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return stream.set_read_timeout(None);
        }
        stream.set_read_timeout(left)?;
        // Nobody pipelines requests to a model: what arrives here is thrown away.
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::ConnectionAborted.into()),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

fn head(status: u16, content_type: &str, extra: &[(&str, String)]) -> String {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Error",
    };
    let mut head = format!("HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n");
    for (name, value) in extra {
        for part in [name, ": ", value, "\r\n"] {
            head.push_str(part);
        }
    }
    head
}
