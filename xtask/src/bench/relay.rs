//! A relay on loopback between a client and its server, which notes when calls of the client were with the server.
//!
//! For: `server`. A server's own time varies by more than all that a client does, so a client's time is what is left of the
//! very same run. What the relay itself takes is counted as the server's.
//! Must never: read more of HTTP than that a call is the one for a stream without an end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

/// How the call begins whose answer has no end: it is with the server until the answer begins.
const STREAM: &[u8] = b"GET /event";

/// A call, from its first byte to the last one of its answer.
#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Instant,
    ended: Option<Instant>,
    is_stream: bool,
}

type Spans = Arc<Mutex<Vec<Span>>>;

pub(super) struct Relay {
    pub(super) url: String,
    spans: Spans,
}

impl Relay {
    /// It relays until the program ends.
    pub(super) fn start(server: SocketAddr) -> Result<Self, Failure> {
        let told = |error: std::io::Error| error.to_string();
        let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
        let url = format!("http://{}", listener.local_addr().map_err(told)?);
        let spans = Spans::default();
        let noted = Arc::clone(&spans);
        thread::spawn(move || {
            // Made before it is needed: a connection to us takes no longer than one to the server would.
            let mut ready = TcpStream::connect(server);
            for client in listener.incoming().flatten() {
                // To connect is a part of a connection's first call.
                let accepted = Instant::now();
                if let Ok(there) = ready {
                    let _client_sees_a_broken_connection = relay(client, there, accepted, &noted);
                }
                ready = TcpStream::connect(server);
            }
        });
        Ok(Self { url, spans })
    }

    /// For how long any of the calls that began between these two moments was with the server, and how many there were.
    pub(super) fn with_server(&self, begun: Instant, ended: Instant) -> (Duration, usize) {
        let mut spans = lock(&self.spans).clone();
        spans.retain(|span| span.begun >= begun && span.begun < ended);
        (covered(&spans, begun, ended), spans.len())
    }
}

/// The length of what the spans cover together.
fn covered(spans: &[Span], begun: Instant, ended: Instant) -> Duration {
    let clipped = |span: &Span| (span.begun.max(begun), span.ended.unwrap_or(ended).min(ended));
    let mut spans: Vec<_> = spans.iter().map(clipped).collect();
    spans.sort();
    let (mut sum, mut until) = (Duration::ZERO, begun);
    for (from, to) in spans {
        sum += to.saturating_duration_since(from.max(until));
        until = until.max(to);
    }
    sum
}

fn lock(spans: &Spans) -> MutexGuard<'_, Vec<Span>> {
    spans.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relay(client: TcpStream, server: TcpStream, accepted: Instant, spans: &Spans) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_again, server_again) = (client.try_clone()?, server.try_clone()?);
    // The connection's call, by its place among all.
    let current: Arc<Mutex<Option<usize>>> = Arc::default();
    let (asked, answered) = ((Arc::clone(spans), Arc::clone(&current)), (Arc::clone(spans), current));
    thread::spawn(move || {
        pass(client, server, |bytes| {
            let mut current = asked.1.lock().unwrap_or_else(PoisonError::into_inner);
            let mut spans = lock(&asked.0);
            let goes_on = current.and_then(|at| spans.get(at)).is_some_and(|span| span.ended.is_none());
            if !goes_on {
                let begun = if current.is_none() { accepted } else { Instant::now() };
                *current = Some(spans.len());
                spans.push(Span { begun, ended: None, is_stream: bytes.starts_with(STREAM) });
            }
        });
    });
    thread::spawn(move || {
        pass(server_again, client_again, |_| {
            let current = answered.1.lock().unwrap_or_else(PoisonError::into_inner);
            let mut spans = lock(&answered.0);
            if let Some(span) = current.and_then(|at| spans.get_mut(at))
                && (span.ended.is_none() || !span.is_stream)
            {
                span.ended = Some(Instant::now());
            }
        });
    });
    Ok(())
}

/// Hands on until one side ends; `note` sees what comes before it is handed on.
fn pass(mut from: TcpStream, mut to: TcpStream, note: impl Fn(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        note(&bytes[..read]);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _gone = to.shutdown(Shutdown::Write);
    let _gone = from.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_at_the_same_time_count_once() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let span =
            |begun, ended: Option<u64>| Span { begun: at(begun), ended: ended.map(at), is_stream: false };
        let spans =
            [span(30, Some(50)), span(0, Some(10)), span(5, Some(20)), span(32, Some(40)), span(90, None)];
        assert_eq!(covered(&spans, at(0), at(100)), Duration::from_millis(20 + 20 + 10));
        assert_eq!(covered(&spans, at(8), at(35)), Duration::from_millis(12 + 5));
    }

    #[test]
    fn what_a_client_does_between_its_calls_is_its_own() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).unwrap();
        let begun = Instant::now();
        let mut client = TcpStream::connect(relay.url.trim_start_matches("http://")).unwrap();
        let (mut there, _) = server.accept().unwrap();
        let mut byte = [0; 16];
        let mut server_took = Duration::ZERO;
        for _ in 0..2 {
            client.write_all(b"GET /x").unwrap();
            assert_eq!(there.read(&mut byte).unwrap(), 6);
            let asked = Instant::now();
            thread::sleep(Duration::from_millis(20));
            server_took += asked.elapsed();
            there.write_all(b"answer").unwrap();
            client.read_exact(&mut byte[..6]).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        let ended = Instant::now();
        let (sum, calls) = relay.with_server(begun, ended);
        assert_eq!(calls, 2);
        assert!(sum >= server_took && ended >= begun + sum + Duration::from_millis(60), "{sum:?}");
    }
}
