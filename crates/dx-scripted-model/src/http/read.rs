//! Reads one request from a connection.
//!
//! What for: method, path and body of a model call. Called by `server` in its connection loop. Must never read past
//! the limits below, whatever the client announces.

use std::io::{Read, Write};
use std::net::TcpStream;

const HEAD_LIMIT: usize = 64 * 1024;
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The target as sent, query included.
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
    /// Whether the client wants the connection closed afterwards.
    pub(crate) close: bool,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the connection ended")]
    Ended,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("not an HTTP request: {0}")]
    Malformed(#[from] httparse::Error),
    #[error("{0}")]
    Refused(&'static str),
}

#[derive(Debug, Default)]
struct Head {
    method: String,
    target: String,
    length: Option<usize>,
    chunked: bool,
    close: bool,
    expects_continue: bool,
}

/// Reads the next request; `rest` holds what was read beyond the one before.
pub(crate) fn read_request(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<Request, ReadError> {
    let (head, used) = loop {
        if let Some(found) = parse_head(rest)? {
            break found;
        }
        if rest.len() > HEAD_LIMIT {
            return Err(ReadError::Refused("the request head is too long"));
        }
        more(stream, rest)?;
    };
    rest.drain(..used);
    if head.expects_continue {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body =
        if head.chunked { chunked(stream, rest)? } else { take(stream, rest, head.length.unwrap_or(0))? };
    Ok(Request { method: head.method, target: head.target, body, close: head.close })
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(used) = request.parse(bytes)? else { return Ok(None) };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        close: request.version == Some(0),
        ..Head::default()
    };
    for header in request.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_ascii_lowercase();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                head.length = Some(value.parse().map_err(|_| ReadError::Refused("a bad content-length"))?);
            }
            "transfer-encoding" => head.chunked = value == "chunked",
            "connection" => head.close |= value.split(',').any(|token| token.trim() == "close"),
            "expect" => head.expects_continue = value == "100-continue",
            "content-encoding" if value != "identity" => {
                return Err(ReadError::Refused("encoded bodies are not understood"));
            }
            _ => {}
        }
    }
    Ok(Some((head, used)))
}

/// Reads some bytes more.
fn more(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<(), ReadError> {
    let mut buffer = [0; 16 * 1024];
    let got = stream.read(&mut buffer)?;
    if got == 0 {
        return Err(ReadError::Ended);
    }
    rest.extend_from_slice(&buffer[..got]);
    Ok(())
}

fn take(stream: &mut TcpStream, rest: &mut Vec<u8>, length: usize) -> Result<Vec<u8>, ReadError> {
    if length > BODY_LIMIT {
        return Err(ReadError::Refused("the body is too long"));
    }
    while rest.len() < length {
        more(stream, rest)?;
    }
    Ok(rest.drain(..length).collect())
}

fn chunked(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    loop {
        let line = line(stream, rest)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| ReadError::Refused("a bad chunk"))?;
        if size == 0 {
            // Trailers end with an empty line.
            while !self::line(stream, rest)?.is_empty() {}
            return Ok(body);
        }
        if size > BODY_LIMIT - body.len() {
            return Err(ReadError::Refused("the body is too long"));
        }
        body.extend(take(stream, rest, size)?);
        line_end(stream, rest)?;
    }
}

fn line_end(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<(), ReadError> {
    if line(stream, rest)?.is_empty() { Ok(()) } else { Err(ReadError::Refused("a bad chunk")) }
}

fn line(stream: &mut TcpStream, rest: &mut Vec<u8>) -> Result<String, ReadError> {
    loop {
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
        }
        if rest.len() > HEAD_LIMIT {
            return Err(ReadError::Refused("a line is too long"));
        }
        more(stream, rest)?;
    }
}
