//! The monitor's budget: after 50 MB of log, the parser and the fold hold a few KiB, and never held much more.
//!
//! A test binary of its own: it counts every allocation.
#![allow(unsafe_code, clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use dx_events::{Grammar, Parser, Summary};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both calls go to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `ptr` came from `System.alloc` above with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The same as Claude Code would tell it.
fn claude_turn(n: usize) -> String {
    let big = "0123456789\\n".repeat(if n.is_multiple_of(50) { 40_000 } else { 2000 });
    let mut text = String::new();
    writeln!(text, r#"{{"type":"system","subtype":"init","session_id":"ses_{n}","model":"m{n}"}}"#).unwrap();
    writeln!(text, r#"{{"type":"assistant","message":{{"id":"m{n}","content":[{{"type":"tool_use","id":"c{n}","name":"tool_{n}","input":{{"file_path":"/w/{n}","content":"{big}"}}}}]}}}}"#).unwrap();
    writeln!(text, r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","tool_use_id":"x{n}","content":"{big}"}}]}}}}"#).unwrap();
    writeln!(
        text,
        r#"{{"type":"system","subtype":"permission_denied","tool_use_id":"d{n}","tool_name":"{big}"}}"#
    )
    .unwrap();
    writeln!(text, "[{}", "{\"a\":1},".repeat(2000)).unwrap();
    writeln!(text, r#"{{"type":"result","is_error":true,"result":"{big}"}}"#).unwrap();
    text
}

/// The same as Gemini CLI would tell it.
fn gemini_turn(n: usize) -> String {
    let big = "0123456789\\n".repeat(if n.is_multiple_of(50) { 40_000 } else { 2000 });
    let mut text = String::new();
    writeln!(text, r#"{{"type":"init","session_id":"ses_{n}","model":"m{n}"}}"#).unwrap();
    writeln!(text, r#"{{"type":"tool_use","tool_name":"tool_{n}","tool_id":"c{n}","parameters":{{"file_path":"/w/{n}","content":"{big}"}}}}"#).unwrap();
    writeln!(text, r#"{{"type":"tool_result","tool_id":"x{n}","status":"error","output":"{big}"}}"#).unwrap();
    for _ in 0..100 {
        writeln!(text, r#"{{"type":"message","role":"assistant","content":"word{n} ","delta":true}}"#)
            .unwrap();
    }
    writeln!(text, r#"{{"type":"message","role":"assistant","content":"{big}","delta":true}}"#).unwrap();
    writeln!(text, "[{}", "{\"a\":1},".repeat(2000)).unwrap();
    writeln!(text, r#"{{"type":"result","status":"error","error":{{"message":"{big}"}}}}"#).unwrap();
    text
}

/// The same as Codex would tell it.
fn codex_turn(n: usize) -> String {
    let big = "0123456789\\n".repeat(if n.is_multiple_of(50) { 40_000 } else { 2000 });
    let mut text = String::new();
    writeln!(text, r#"{{"type":"thread.started","thread_id":"ses_{n}"}}"#).unwrap();
    writeln!(text, r#"{{"type":"item.started","item":{{"id":"i{n}","type":"mcp_tool_call","server":"s","tool":"tool_{n}"}}}}"#).unwrap();
    writeln!(text, r#"{{"type":"item.completed","item":{{"id":"x{n}","type":"command_execution","command":"{big}","aggregated_output":"{big}","status":"declined"}}}}"#).unwrap();
    writeln!(
        text,
        r#"{{"type":"item.completed","item":{{"id":"m{n}","type":"agent_message","text":"{big}"}}}}"#
    )
    .unwrap();
    writeln!(text, "[{}", "{\"a\":1},".repeat(2000)).unwrap();
    writeln!(text, r#"{{"type":"turn.failed","error":{{"message":"{big}"}}}}"#).unwrap();
    text
}

/// A turn with a big edit, many tool names, sessions, a long text and a broken line.
fn turn(n: usize) -> String {
    let big = "0123456789\\n".repeat(if n.is_multiple_of(50) { 40_000 } else { 2000 });
    let mut text = String::new();
    writeln!(text, r#"{{"type":"step_start","sessionID":"ses_{n}","part":{{}}}}"#).unwrap();
    writeln!(text, r#"{{"type":"tool_use","part":{{"tool":"tool_{n}","callID":"c{n}","state":{{"status":"completed","input":{{"filePath":"/w/{n}","content":"{big}"}},"output":"{big}"}}}}}}"#).unwrap();
    writeln!(
        text,
        r#"{{"type":"tool_use","part":{{"tool":"t","callID":"r{n}","state":{{"status":"running"}}}}}}"#
    )
    .unwrap();
    writeln!(text, r#"{{"type":"text","part":{{"text":"{big}"}}}}"#).unwrap();
    writeln!(text, "[{}", "{\"a\":1},".repeat(2000)).unwrap();
    writeln!(text, r#"{{"type":"error","error":{{"name":"E","data":{{"message":"{big}"}}}}}}"#).unwrap();
    text
}

#[test]
fn fifty_megabytes() {
    for grammar in Grammar::all() {
        let mut parser = Parser::new(grammar);
        let mut summary = Summary::new(grammar);
        let (mut fed, mut n) = (0, 0);
        let (mut held, mut peak) = (0, 0);
        while fed < 50 << 20 {
            n += 1;
            let log = match grammar {
                Grammar::Claude => claude_turn(n),
                Grammar::Codex => codex_turn(n),
                Grammar::Gemini => gemini_turn(n),
                Grammar::Text | Grammar::Opencode => turn(n),
            };
            let before = LIVE.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            for chunk in log.as_bytes().chunks(8192) {
                parser.feed(chunk, &mut |_, event| summary.apply(&event));
            }
            held += LIVE.load(Ordering::Relaxed) as isize - before as isize;
            peak = peak.max(PEAK.load(Ordering::Relaxed) - before);
            fed += log.len();
        }
        println!("{grammar:?}: {n} turns, {fed} bytes, held {held}, peak of a turn {peak}");
        assert!(held < 32 * 1024, "{grammar:?} holds {held} bytes after {fed}");
        assert!(peak < 80 * 1024, "{grammar:?} needed {peak} bytes for one turn");
    }
}
