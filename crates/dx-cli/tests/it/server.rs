//! OpenCode servers: `probe-attach`, `server`, and what is asked through one, with a real `opencode serve`.
//!
//! The real server needs `DX_TEST_AGENTS_DIR`; without it those tests say that they were left out. It is started once, by
//! `server start`, and the cases share it.

mod batches;
mod endpoint;
mod gone;
mod lanes;
mod left;
mod old;
mod probe;
mod questions;
mod real;
mod routes;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// What a small server answers: status line, content type and body, by the request's first line.
type Answers = dyn Fn(&str) -> (u16, &'static str, String) + Send + Sync;

/// A server that is no OpenCode, or an old or a new one.
struct Small {
    url: String,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Small {
    fn new(answers: Box<Answers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, ended) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) > 0 {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                answer(stream, &*answers);
            }
        });
        Self { url, asked, stop, thread: Some(thread) }
    }
}

fn answer(mut stream: TcpStream, answers: &Answers) {
    let mut bytes = vec![0; 65536];
    let read = stream.read(&mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let (status, kind, body) = answers(text.lines().next().unwrap_or_default());
    let _sent = write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

impl Drop for Small {
    fn drop(&mut self) {
        self.stop.store(1, Ordering::SeqCst);
        let _woken = TcpStream::connect(self.url.trim_start_matches("http://"));
        let _joined = self.thread.take().map(JoinHandle::join);
    }
}
