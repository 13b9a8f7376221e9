//! A server that gives the answers of a real one at once, word for word.
//!
//! For: `dispatch`. A real server's time varies by more than all that a client does, and it works on when it has answered: what
//! a client itself takes is seen where the server takes nothing.
//! Must never: answer what the real one was not asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::Failure;

/// Answers by how their calls begin: method and path, of which ids are left out.
pub(super) type Answers = Vec<(&'static str, String)>;

/// How the call begins whose answer has no end, and its first event.
const STREAM: &str = "GET /event";
const CONNECTED: &str = "data: {\"id\":\"evt_1\",\"type\":\"server.connected\",\"properties\":{}}\n\n";

/// Answers until the program ends.
pub(super) fn start(answers: Answers) -> Result<SocketAddr, Failure> {
    let told = |error: std::io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let answers = Arc::new(answers);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            // A client that went away asks no more.
            thread::spawn(move || drop(serve(client, &answers)));
        }
    });
    Ok(address)
}

/// The calls of one connection.
fn serve(client: TcpStream, answers: &Answers) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    loop {
        let mut call = String::new();
        if client.read_line(&mut call)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            client.read_line(&mut line)?;
            let line = line.trim().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut client).take(length), &mut std::io::sink())?;
        let stream = client.get_mut();
        if call.starts_with(STREAM) {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
            stream.write_all(format!("{head}{CONNECTED}").as_bytes())?;
            continue;
        }
        // The last that fits: a session's calls begin as that which makes it.
        let answer = answers.iter().rfind(|(begins, _)| call.starts_with(begins));
        let (status, body) = answer.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body.as_str()));
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::Bare;
    use super::*;

    #[test]
    fn each_call_has_its_answer_and_no_other_is_answered() {
        let answers = [("POST /session", "made"), ("POST /session/", "said"), ("DELETE /session/", "gone")];
        let answers = answers.map(|(call, body)| (call, body.to_owned())).to_vec();
        let address = start(answers).unwrap();
        let mut bare = Bare::connect(address).unwrap();
        assert_eq!(bare.call("POST", "/session", "{}").unwrap(), "made");
        assert_eq!(bare.call("POST", "/session/s_1/message", "{}").unwrap(), "said");
        assert_eq!(bare.call("DELETE", "/session/s_1", "").unwrap(), "gone");
        assert!(bare.call("GET", "/provider", "").is_err());
        Bare::connect(address).unwrap().begin("/event").unwrap();
    }
}
