//! Server-sent events with reconnection.
//!
//! Called by: users of the client, in a thread of their own. Must never: go on after its deadline.

use crate::http::Http;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read};
use std::time::{Duration, Instant};

/// No line of an event is longer; of a longer one nothing is told.
const MAX_LINE: u64 = 8 << 20;
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The stream begins, perhaps anew: what happened before may not have been told.
    Connected,
    /// It ended or could not be had; it is tried again.
    Lost(String),
    /// The server's word for it, and what goes with it.
    Told { kind: String, properties: Value },
}

type Source = BufReader<Box<dyn Read + Send>>;

/// The events, as they come. Ends at the deadline.
pub struct Events {
    http: Http,
    path: String,
    until: Instant,
    source: Option<Source>,
    tried: bool,
}

impl Events {
    pub(crate) fn new(http: Http, path: String, until: Instant) -> Self {
        Self { http, path, until, source: None, tried: false }
    }

    fn connect(&self) -> Result<Source, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.http.stream(&self.path, left) {
            Ok((200, body)) => Ok(BufReader::new(Box::new(body))),
            Ok((status, _)) => Err(format!("status {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if Instant::now() >= self.until {
                return None;
            }
            let Some(source) = &mut self.source else {
                if std::mem::replace(&mut self.tried, true) {
                    std::thread::sleep(PAUSE);
                }
                match self.connect() {
                    Ok(source) => {
                        self.source = Some(source);
                        return Some(Event::Connected);
                    }
                    Err(why) => return Some(Event::Lost(why)),
                }
            };
            let mut line = Vec::new();
            match source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => {
                    self.source = None;
                    return Some(Event::Lost("the stream ended".to_owned()));
                }
                Err(error) => {
                    self.source = None;
                    return Some(Event::Lost(error.to_string()));
                }
                Ok(_) => {
                    if let Some(event) = event(&line) {
                        return Some(event);
                    }
                }
            }
        }
    }
}

/// An event is one line of JSON after `data:`.
fn event(line: &[u8]) -> Option<Event> {
    let data = line.strip_prefix(b"data:")?;
    let mut value: Value = serde_json::from_slice(data).ok()?;
    let kind = value["type"].as_str()?.to_owned();
    Some(Event::Told { kind, properties: value["properties"].take() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_stream_that_ends_is_taken_up_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for number in [1, 2] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).unwrap();
                let body = format!(
                    ": hello\n\ndata: {{\"type\":\"t{number}\",\"properties\":{{\"n\":{number}}}}}\n\ndata: no json\n\n"
                );
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{body}").unwrap();
            }
        });
        let http = Http::new(&format!("http://{address}"), None).unwrap();
        let mut told = Vec::new();
        let mut connections = 0;
        for event in Events::new(http, "/event".to_owned(), Instant::now() + Duration::from_secs(20)) {
            match event {
                Event::Connected => connections += 1,
                Event::Told { kind, .. } => told.push(kind),
                Event::Lost(_) if told.len() == 2 => break,
                Event::Lost(_) => {}
            }
        }
        assert_eq!((connections, told), (2, vec!["t1".to_owned(), "t2".to_owned()]));
        server.join().unwrap();
    }
}
