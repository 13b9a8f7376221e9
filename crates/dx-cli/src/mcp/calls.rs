//! Calls that run: each answers in time, with a result or a handle; any can be cancelled.
//!
//! Called by: the server's reader. Must never: answer a cancelled call, or forget what it began.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rpc::{self, RpcError, Wire};
use super::run::{Finished, Job, Program, Run, failed, told_as};
use super::tools::{self, SLICE_SECONDS, Tool, Work};

/// More at once are a mistake.
const MOST: usize = 64;
/// Results that nobody has fetched.
const MOST_HANDLES: usize = 256;
/// Between two notes of progress.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(200);
/// For what is told to stop: sessions are deleted then.
const CLEANING: Duration = Duration::from_secs(20);
/// A reader that closes its end may still want answers that are nearly there.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Between two looks at a batch.
const PAUSE: Duration = Duration::from_millis(500);

/// A call that goes on.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CallDocument {
    schema: String,
    /// `running` or `cancelled`.
    status: String,
    /// What `call_wait` and `call_cancel` take.
    handle: String,
    tool: String,
    next_action: String,
}

/// All calls of a server.
#[derive(Debug)]
pub(super) struct Calls {
    program: Program,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the text of the request's id.
    active: HashMap<String, Arc<Active>>,
    /// Calls that returned a handle, and the tool's name.
    handles: BTreeMap<u64, (&'static str, Arc<Job>)>,
    last: u64,
    ending: bool,
}

/// A request that has no answer yet.
#[derive(Debug, Default)]
pub(super) struct Active {
    cancelled: AtomicBool,
    /// What ends with the request.
    job: Mutex<Option<Arc<Job>>>,
}

/// What became of a wait.
enum Waited {
    Done(Finished),
    /// The time is up.
    Late,
    Cancelled,
}

impl Calls {
    pub(super) fn new(program: Program) -> Self {
        Self { program, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: &Value) -> Result<Arc<Active>, RpcError> {
        let mut state = self.state();
        let refused = |why: &str| Err(RpcError::new(rpc::INTERNAL, why));
        if state.ending {
            return refused("the server is ending");
        }
        if state.active.len() >= MOST {
            return refused(&format!("{MOST} calls are running; wait for one to end"));
        }
        if state.active.contains_key(&id.to_string()) {
            return Err(RpcError::new(rpc::INVALID, "a request with this id is running"));
        }
        let active = Arc::new(Active::default());
        state.active.insert(id.to_string(), Arc::clone(&active));
        Ok(active)
    }

    /// The client does not want the answer any more.
    pub(super) fn cancel(&self, id: &Value) {
        let active = self.state().active.get(&id.to_string()).cloned();
        if let Some(active) = active {
            active.cancel();
        }
    }

    /// Stops everything that runs, and waits until it has stopped.
    pub(super) fn end(&self) {
        let (active, handles) = {
            let mut state = self.state();
            state.ending = true;
            (state.active.clone(), state.handles.clone())
        };
        let until = Instant::now() + LAST_MOMENT;
        while !self.state().active.is_empty() && Instant::now() < until {
            std::thread::sleep(GLANCE / 4);
        }
        let of_active = active.values().filter_map(|active| active.job().clone());
        let jobs: Vec<Arc<Job>> = of_active.chain(handles.into_values().map(|(_, job)| job)).collect();
        for active in active.values() {
            active.cancel();
        }
        for job in &jobs {
            job.interrupt();
        }
        let until = Instant::now() + CLEANING;
        for job in jobs {
            let _stopped = job.wait(until.saturating_duration_since(Instant::now()));
        }
    }

    /// Runs a short command to its end.
    pub(super) fn run(&self, active: &Active, run: &Run) -> Result<Finished, RpcError> {
        let job = self.start(active, run)?;
        match wait(&job, active, Duration::MAX, &mut || {}) {
            Waited::Done(finished) => Ok(finished),
            _ => Err(RpcError::new(rpc::INTERNAL, "cancelled")),
        }
    }

    fn start(&self, active: &Active, run: &Run) -> Result<Arc<Job>, RpcError> {
        let failed = |error: std::io::Error| {
            RpcError::new(rpc::BAD_PARAMS, format!("the command could not be started: {error}"))
        };
        let job = self.program.start(run).map_err(failed)?;
        *active.job() = Some(Arc::clone(&job));
        if active.cancelled.load(Ordering::SeqCst) {
            job.interrupt();
        }
        Ok(job)
    }

    fn keep(&self, tool: &'static str, job: Arc<Job>) -> Value {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.handles.insert(number, (tool, job));
        while state.handles.len() > MOST_HANDLES
            && let Some((_, (_, oldest))) = state.handles.pop_first()
        {
            oldest.interrupt();
        }
        going_on(number, tool, "running")
    }

    fn kept(&self, handle: &str) -> Option<(u64, &'static str, Arc<Job>)> {
        let number: u64 = handle.strip_prefix("call-")?.parse().ok()?;
        let (tool, job) = self.state().handles.get(&number)?.clone();
        Some((number, tool, job))
    }

    fn forget(&self, number: u64) {
        self.state().handles.remove(&number);
    }
}

impl Active {
    fn job(&self) -> MutexGuard<'_, Option<Arc<Job>>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        if let Some(job) = &*self.job() {
            job.interrupt();
        }
    }

    /// What was begun outlives the request.
    fn let_go(&self) {
        *self.job() = None;
    }
}

/// Takes a request over: `work` runs in a thread of its own, and what it returns is the answer.
pub(super) fn take(
    calls: &Arc<Calls>,
    wire: &Arc<Wire>,
    id: Value,
    work: impl FnOnce(&Calls, &Active) -> Result<Value, RpcError> + Send + 'static,
) {
    let active = match calls.begin(&id) {
        Ok(active) => active,
        Err(error) => return wire.answer(&id, Err(error)),
    };
    let (calls, wire) = (Arc::clone(calls), Arc::clone(wire));
    std::thread::spawn(move || {
        let answer = work(&calls, &active);
        // Until it is answered its id is in use, and not a moment longer: the client may take it again.
        let mut state = calls.state();
        // Nobody waits for the answer of a cancelled request.
        if !active.cancelled.load(Ordering::SeqCst) {
            wire.answer(&id, answer);
        }
        state.active.remove(&id.to_string());
    });
}

/// `tools/call`.
pub(super) fn call(calls: &Arc<Calls>, wire: &Arc<Wire>, id: Value, params: &Value) {
    let name = params["name"].as_str().unwrap_or_default();
    let Some(tool) = tools::named(name) else {
        let names: Vec<&str> = tools::ALL.iter().map(|tool| tool.name).collect();
        let message = format!("there is no tool `{name}`; there are {}", names.join(", "));
        return wire.answer(&id, Err(RpcError::new(rpc::BAD_PARAMS, message)));
    };
    let arguments = params.get("arguments").filter(|value| !value.is_null()).cloned();
    let work = match tool.work(arguments.unwrap_or_else(|| json!({}))) {
        Ok(work) => work,
        // A result and no error of the protocol: the model sees it, and can do better.
        Err(why) => return wire.answer(&id, Ok(wrong(&format!("arguments of {name}: {why}")))),
    };
    let token = params["_meta"]["progressToken"].clone();
    let told = Arc::clone(wire);
    take(calls, wire, id, move |calls, active| {
        let begun = Instant::now();
        let mut progress = || {
            if !token.is_null() {
                let seconds = begun.elapsed().as_secs();
                told.notify(
                    "notifications/progress",
                    &json!({ "progressToken": token, "progress": seconds,
                        "message": format!("running for {seconds} s") }),
                );
            }
        };
        perform(calls, active, tool, work, &mut progress)
    });
}

fn perform(
    calls: &Calls,
    active: &Active,
    tool: &'static Tool,
    work: Work,
    progress: &mut dyn FnMut(),
) -> Result<Value, RpcError> {
    match work {
        Work::Run(run) => {
            let job = calls.start(active, &run)?;
            let patience = Duration::from_secs(run.patience.unwrap_or(SLICE_SECONDS));
            Ok(match wait(&job, active, patience, progress) {
                Waited::Done(finished) => finished.result(),
                Waited::Cancelled => Value::Null,
                Waited::Late => {
                    active.let_go();
                    calls.keep(tool.name, job)
                }
            })
        }
        Work::WaitForJobs { run, then } => {
            let job = calls.start(active, &run)?;
            let Waited::Done(finished) = wait(&job, active, Duration::MAX, progress) else {
                return Ok(Value::Null);
            };
            let documents = finished.documents();
            let late = finished.error()["error"]["reason_code"] == "deadline_exceeded";
            if !documents.is_empty() || !late {
                return Ok(finished.result());
            }
            let mut documents = Vec::new();
            for run in &then {
                documents.extend(calls.run(active, run)?.documents());
            }
            Ok(told_as(&match <[Value; 1]>::try_from(documents) {
                Ok([only]) => only,
                Err(documents) => json!({ "documents": documents }),
            }))
        }
        Work::Batch { show, seconds } => {
            let until = Instant::now() + Duration::from_secs(seconds);
            let mut next = Instant::now() + PROGRESS;
            loop {
                let finished = calls.run(active, &show)?;
                let runs = finished.documents().first().is_some_and(|batch| batch["status"] == "running");
                if !runs || Instant::now() >= until || active.cancelled.load(Ordering::SeqCst) {
                    return Ok(finished.result());
                }
                if Instant::now() >= next {
                    progress();
                    next += PROGRESS;
                }
                std::thread::sleep(PAUSE);
            }
        }
        Work::Wait { handle, seconds } => {
            let Some((number, name, job)) = calls.kept(&handle) else { return Ok(unknown(&handle)) };
            Ok(match wait(&job, active, Duration::from_secs(seconds), progress) {
                Waited::Done(finished) => {
                    calls.forget(number);
                    finished.result()
                }
                Waited::Late => going_on(number, name, "running"),
                Waited::Cancelled => Value::Null,
            })
        }
        Work::Cancel { handle } => {
            let Some((number, name, job)) = calls.kept(&handle) else { return Ok(unknown(&handle)) };
            job.interrupt();
            if job.wait(CLEANING).is_some() {
                calls.forget(number);
            }
            Ok(going_on(number, name, "cancelled"))
        }
    }
}

/// Waits for an end, with a word now and then.
fn wait(job: &Job, active: &Active, patience: Duration, progress: &mut dyn FnMut()) -> Waited {
    let begun = Instant::now();
    let mut next = PROGRESS;
    loop {
        let finished = job.wait(GLANCE.min(patience.saturating_sub(begun.elapsed())));
        if active.cancelled.load(Ordering::SeqCst) {
            // What ends with the request has been told so; it is waited for, so that it is not forgotten.
            let owned = active.job().is_some();
            let _stopped = owned.then(|| job.wait(CLEANING));
            return Waited::Cancelled;
        }
        if let Some(finished) = finished {
            return Waited::Done(finished);
        }
        if begun.elapsed() >= patience {
            return Waited::Late;
        }
        if begun.elapsed() >= next {
            progress();
            next += PROGRESS;
        }
    }
}

fn going_on(number: u64, tool: &str, status: &str) -> Value {
    let handle = format!("call-{number}");
    let next_action = match status {
        "running" => format!("call call_wait with handle {handle}"),
        _ => "-".to_owned(),
    };
    let document = CallDocument {
        schema: "dx-runner/mcp-call/1".to_owned(),
        status: status.to_owned(),
        handle,
        tool: tool.to_owned(),
        next_action,
    };
    told_as(&json!(document))
}

fn unknown(handle: &str) -> Value {
    wrong(&format!("there is no call `{handle}`, or its result has been fetched"))
}

/// A result for the model to read and do better.
fn wrong(message: &str) -> Value {
    failed(&json!({ "error": { "reason_code": "invalid_argument", "message": message, "exit_code": 64 } }))
}
