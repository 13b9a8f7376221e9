//! What a question costs beyond its HTTP calls, and what our shell costs a tool of our server.
//!
//! For: the goal of 5 ms for a question.
//! Called by: `bench::run`; needs the real agent (`DX_TEST_AGENTS_DIR`), behind which a scripted model answers.
//! Must never: take the server's time, which varies by ten times the goal, for ours, or ours for the server's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use super::Size;
use super::http::Bare;
use super::measure::{Pair, Samples, bare, ms, timed};
use super::relay::Relay;
use super::replay::{self, Answers};
use super::report::Report;
use super::server::{Bench, prepared};
use super::world::World;
use crate::Failure;

/// Beyond its HTTP calls.
const QUESTION_MS: f64 = 5.0;
/// The calls of a question.
const CALLS: usize = 6;

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    let Some(model) = prepared(world, "dispatch", report)? else { return Ok(()) };
    let bench = Bench::new(world, "dispatch", &model);
    let address = bench.serve()?;
    bench.questions(address, size, report)?;
    bench.shells(size, report)
}

impl Bench<'_> {
    /// What of a question is not its server's; beside it the same HTTP calls by themselves.
    fn questions(&self, address: SocketAddr, size: Size, report: &mut Report) -> Result<(), Failure> {
        let relay = Relay::start(address)?;
        let args =
            ["dispatch", "--server", &relay.url, "--member", "opencode:mock/m1", "--prompt", "Anybody?"];
        let ask = || {
            let begun = Instant::now();
            let whole = timed(&mut self.state.runner(&args), &[0])?;
            Ok::<_, Failure>((whole, relay.with_server(begun, Instant::now())))
        };
        ask()?;
        let [mut whole, mut there, mut calls, mut noise] = [const { Samples::new() }; 4];
        let mut own = Pair::default();
        for _ in 0..size.times {
            let (took, (with_server, count)) = ask()?;
            if count != CALLS {
                return Err(format!("a question made {count} calls, and its peer makes {CALLS}"));
            }
            let begun = Instant::now();
            question(address)?;
            let alone = ms(begun.elapsed());
            whole.push(took);
            there.push(ms(with_server));
            own.figure.push(took - ms(with_server));
            own.bare.push(bare()?);
            calls.push(alone);
            noise.push(took - alone);
        }
        report.plain("dispatch through a server, the whole program", "ms", &whole, None);
        report.plain("  while a call of it was with the server", "ms", &there, None);
        report.time("  the rest", &own, Some(QUESTION_MS));
        report.plain("  the same calls, bare", "ms", &calls, None);
        report.plain("  whole less bare, pair by pair", "ms", &noise, None);
        self.at_once(address, size, report)
    }

    /// The same beside a server that takes no time for its answers.
    fn at_once(&self, real: SocketAddr, size: Size, report: &mut Report) -> Result<(), Failure> {
        let address = replay::start(question(real)?)?;
        let url = format!("http://{address}");
        let args = ["dispatch", "--server", &url, "--member", "opencode:mock/m1", "--prompt", "Anybody?"];
        let [mut whole, mut calls] = [const { Samples::new() }; 2];
        let mut own = Pair::default();
        for _ in 0..size.times {
            let took = timed(&mut self.state.runner(&args), &[0])?;
            let begun = Instant::now();
            question(address)?;
            let alone = ms(begun.elapsed());
            whole.push(took);
            calls.push(alone);
            own.figure.push(took - alone);
            own.bare.push(bare()?);
        }
        report.plain("dispatch through a server that answers at once", "ms", &whole, None);
        report.plain("  the same calls, bare", "ms", &calls, None);
        report.time("  whole less bare, pair by pair", &own, Some(QUESTION_MS));
        Ok(())
    }

    /// What our shell costs a tool of our server, beside the user's own.
    fn shells(&self, size: Size, report: &mut Report) -> Result<(), Failure> {
        timed(&mut self.offline(self.state.runner(&["server", "start"])), &[0])?;
        let ours = self.state.root().join("server-shell/bash");
        let [mut bare, mut wrapped, mut more] = [const { Samples::new() }; 3];
        let run = |shell: &Path| timed(self.world.command(shell).args(["-c", "true"]), &[0]);
        for _ in 0..size.times {
            let (one, other) = (run(Path::new("/bin/bash"))?, run(&ours)?);
            bare.push(one);
            wrapped.push(other);
            more.push(other - one);
        }
        timed(&mut self.state.runner(&["server", "stop"]), &[0])?;
        report.plain("a tool's shell, `bash -c true`", "ms", &bare, None);
        report.plain("  the same on our server, which marks it", "ms", &wrapped, None);
        report.plain("  beyond it", "ms", &more, None);
        Ok(())
    }
}

/// The calls that a question makes, in its order; their answers.
fn question(address: SocketAddr) -> Result<Answers, Failure> {
    let mut bare = Bare::connect(address)?;
    let health = bare.call("GET", "/global/health", "")?;
    let providers = bare.call("GET", "/provider", "")?;
    let rules = r#"[{"permission":"*","pattern":"*","action":"deny"}]"#;
    let made = bare.call("POST", "/session", &format!(r#"{{"title":"bare","permission":{rules}}}"#))?;
    let id = made.split_once("\"id\":\"").and_then(|(_, rest)| rest.split_once('"')).map(|(id, _)| id);
    let id = id.ok_or("a session without an id")?;
    let events = Bare::connect(address)?.begin("/event")?;
    let prompt =
        r#"{"model":{"providerID":"mock","modelID":"m1"},"parts":[{"type":"text","text":"Anybody?"}]}"#;
    let answer = bare.call("POST", &format!("/session/{id}/message"), prompt)?;
    if !answer.contains("SCRIPTED-OK") {
        return Err(format!("no answer: {answer}"));
    }
    let gone = bare.call("DELETE", &format!("/session/{id}"), "")?;
    drop(events);
    Ok(vec![
        ("GET /global/health", health),
        ("GET /provider", providers),
        ("POST /session", made),
        ("POST /session/", answer),
        ("DELETE /session/", gone),
    ])
}
