//! A prompt that a server took and that nobody works on: something of the server's own hangs, a plugin for one, and no model
//! will ever be asked.
//!
//! A server with much to do comes to a prompt late. So its other work counts, but only as long as it keeps the server from
//! answering at once: one that has time again and again, and does not begin, never will.
//!
//! Must never: take a server under load for one that hangs.

use super::Failure;
use dx_opencode::{Client, Event};
use dx_protocol::ReasonCode;
use std::time::{Duration, Instant};

/// A server that takes longer to say what its sessions do has too much to do.
const AT_EASE: Duration = Duration::from_millis(250);
/// So often in a row a server is at ease, one look a second, when it cannot be its other work that keeps it from a prompt.
const EASY_LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_secs(1);

/// The time in which nobody works on a prompt.
pub(super) struct Wait {
    sent: Instant,
    /// When the server last did something for anybody: it may not have come to this prompt yet.
    heard: Instant,
    looked: Instant,
    /// Looks in a row at which the server had time.
    easy: u32,
}

impl Wait {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { sent: now, heard: now, looked: now, easy: 0 }
    }

    /// A server says hello and that it is there without doing anything.
    pub(super) fn hear(&mut self, event: &Event) {
        if matches!(event, Event::Told { kind, .. } if !kind.starts_with("server.")) {
            self.heard = Instant::now();
        }
    }

    /// An error when the server has nothing to do that could keep it from the prompt, or more than enough time for it.
    pub(super) fn look(
        &mut self,
        client: &Client,
        session: &str,
        untouched: Duration,
    ) -> Result<(), Failure> {
        if self.sent.elapsed() < untouched || self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let Ok(works) = client.statuses(AT_EASE) else {
            self.easy = 0;
            return Ok(());
        };
        self.easy += 1;
        let others = works.keys().filter(|other| *other != session).count();
        if (others > 0 || self.heard.elapsed() < untouched) && self.easy < EASY_LOOKS {
            return Ok(());
        }
        let beside = match others {
            0 => String::new(),
            others => format!("; it answers, and works on {others} other sessions"),
        };
        let message = format!(
            "the server took the prompt and nobody works on it: it never reached a model ({} s{beside})",
            self.sent.elapsed().as_secs()
        );
        Err(Failure::new(ReasonCode::ServerError, message).with("look at the server's log, and restart it"))
    }
}
