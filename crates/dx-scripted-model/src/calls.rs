//! What came in.
//!
//! What for: tests assert on the model calls a client made. Called by `route` and `play` (writing) and by
//! `ScriptedModel::calls` (reading). Must never grow without bound: a client in a loop is one of the test cases.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many calls are remembered; the oldest go first.
const KEEP: usize = 10_000;

/// One request to the server, in the order of arrival.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CallRecord {
    /// Counts requests from 1.
    pub number: u64,
    /// The HTTP method.
    pub method: String,
    /// The request path as sent, scenario prefix included.
    pub path: String,
    /// The API spoken, or `None` for anything but a model call (such as the list of models).
    pub api: Option<&'static str>,
    /// The model asked for.
    pub model: String,
    /// Whether tools were offered.
    pub has_tools: bool,
    /// Whether it was housekeeping of the client (no tools), which uses up no step.
    pub side_call: bool,
    /// Whether a streamed answer was asked for.
    pub stream: bool,
    /// Tool results since the last prompt.
    pub tool_results: usize,
    /// Whether the last message was a tool result.
    pub after_tool_result: bool,
    /// The text of the last user message.
    pub prompt: Arc<str>,
    /// All that can be read in the request, the system prompt first; at most 64 KiB.
    pub text: Arc<str>,
    /// The step that was played, as text; empty for side calls and non-model calls.
    pub step: String,
    /// The HTTP status sent; `None` as long as (or if) none was.
    pub status: Option<u16>,
    /// Whether the client closed the connection before the answer was complete.
    pub client_gone: bool,
    /// Whether the server is done with the request.
    pub done: bool,
}

/// The calls so far.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    list: Mutex<(u64, VecDeque<CallRecord>)>,
}

impl Calls {
    /// Notes a new request; the number names it from then on.
    pub(crate) fn add(&self, mut record: CallRecord) -> u64 {
        let mut list = self.lock();
        list.0 += 1;
        record.number = list.0;
        if let Some(last) = list.1.back().filter(|last| last.prompt == record.prompt) {
            // A looping client sends the same long prompt again and again.
            record.prompt = Arc::clone(&last.prompt);
        }
        list.1.push_back(record);
        if list.1.len() > KEEP {
            list.1.pop_front();
        }
        list.0
    }

    /// Changes a request's record, if it is still remembered.
    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut CallRecord)) {
        if let Some(record) = self.lock().1.iter_mut().rev().find(|record| record.number == number) {
            change(record);
        }
    }

    /// A copy of all.
    pub(crate) fn all(&self) -> Vec<CallRecord> {
        self.lock().1.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, (u64, VecDeque<CallRecord>)> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
