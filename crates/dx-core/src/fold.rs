//! The fold: records of a run, in order, to what they add up to. One transition function, used live and in recovery.
//!
//! An illegal event is an error value; [`fold`] counts it and goes on, so a damaged journal still tells what it can.

use dx_protocol::{
    AgentEvent, Created, Ending, Event, ExitRecord, GateVerdict, Identity, Outcome, ProviderReport,
    ReasonCode, Record, Settled, Timestamp, WorkReport,
};

/// No provider refuses for longer; more is a mistake of who told it. A year.
const LONGEST_LIMIT_MS: u64 = 366 * 86_400_000;

/// The end of a limit as an agent tells it at this time, when it can be one.
pub fn limit_end(told: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (told.since_ms(now) <= LONGEST_LIMIT_MS).then_some(told)
}

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Recorded; the agent's program does not run yet.
    Created,
    /// The agent's program was started.
    Running,
    /// The process is gone; the outcome is not written.
    ProcessEnded,
    /// The outcome is written.
    Ended,
}

/// An event that cannot happen in the phase; the run is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllegalEvent {
    pub phase: Phase,
    pub what: &'static str,
}

impl std::fmt::Display for IllegalEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` cannot happen in phase {:?}", self.what, self.phase)
    }
}

impl std::error::Error for IllegalEvent {}

/// The end of the process as journalled.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessEnd {
    pub exit: Option<ExitRecord>,
    pub unseen: Option<ReasonCode>,
    pub strays: u32,
    pub log_bytes: u64,
    pub cpu_ms: u64,
    /// The code that an adapter script's file says.
    pub rc_file: Option<i32>,
    pub at: Timestamp,
}

/// What the records of one run add up to.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub created: Created,
    pub created_at: Timestamp,
    pub created_mono_ms: u64,
    pub phase: Phase,
    pub monitor: Option<Identity>,
    /// How many monitors this run has had.
    pub monitors: u32,
    /// The process beside the monitor, when it is not the first launcher.
    pub guard: Option<Identity>,
    pub agent: Option<Identity>,
    pub spawn_error: Option<(i32, String)>,
    /// The first decision to end the run, and when.
    pub ending: Option<(Ending, u64)>,
    pub end: Option<ProcessEnd>,
    pub provider: Option<ProviderReport>,
    pub work: Option<WorkReport>,
    /// Gates and checks that have answered, each once.
    pub gates: Vec<GateVerdict>,
    pub settle_error: Option<String>,
    /// Variables whose values the settler did not know.
    pub unmasked: Vec<String>,
    pub outcome: Option<Outcome>,
    pub blocked: Option<ReasonCode>,
    pub lost_log_bytes: u64,
    /// Before this the provider takes nothing, as it told last.
    pub limited_until: Option<Timestamp>,
    /// Highest log offset of a journalled agent event.
    pub agent_offset: Option<u64>,
    /// Records that could not happen.
    pub illegal: usize,
}

impl Run {
    /// The run right after its first record.
    pub fn new(created: Created, at: Timestamp, mono_ms: u64) -> Self {
        Self {
            created,
            created_at: at,
            created_mono_ms: mono_ms,
            phase: Phase::Created,
            monitor: None,
            monitors: 0,
            guard: None,
            agent: None,
            spawn_error: None,
            ending: None,
            end: None,
            provider: None,
            work: None,
            gates: Vec::new(),
            settle_error: None,
            unmasked: Vec::new(),
            outcome: None,
            blocked: None,
            lost_log_bytes: 0,
            limited_until: None,
            agent_offset: None,
            illegal: 0,
        }
    }

    /// Takes one record in. Terminal phases absorb: nothing but `blocked` follows the end.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalEvent> {
        let phase = self.phase;
        let illegal = |what| Err(IllegalEvent { phase, what });
        match &record.event {
            Event::Created(_) => return illegal("created"),
            Event::Blocked { reason, .. } => {
                if phase != Phase::Ended {
                    return illegal("blocked");
                }
                self.blocked = Some(*reason);
            }
            Event::Unknown => {}
            _ if phase == Phase::Ended => return illegal("an event after the end"),
            Event::MonitorStarted { monitor, .. } => {
                self.monitor = Some(monitor.clone());
                self.monitors += 1;
            }
            Event::LauncherLost { guard } => self.guard.clone_from(guard),
            Event::AgentStarted { agent } => {
                if phase > Phase::Running {
                    return illegal("agent_started");
                }
                self.agent = Some(agent.clone());
                self.phase = Phase::Running;
            }
            Event::SpawnFailed { errno, message } => {
                if phase != Phase::Created {
                    return illegal("spawn_failed");
                }
                self.spawn_error = Some((*errno, message.clone()));
                self.phase = Phase::ProcessEnded;
                self.end = Some(ProcessEnd {
                    exit: None,
                    unseen: None,
                    strays: 0,
                    log_bytes: 0,
                    cpu_ms: 0,
                    rc_file: None,
                    at: record.at,
                });
            }
            Event::Agent { offset, event, .. } => {
                if let AgentEvent::RateLimited { until_ms: Some(until) } = event {
                    self.limited_until = limit_end(Timestamp(*until), record.at);
                }
                self.agent_offset = Some(self.agent_offset.map_or(*offset, |o| o.max(*offset)));
            }
            Event::LogTruncated { lost_bytes } => {
                self.lost_log_bytes = self.lost_log_bytes.saturating_add(*lost_bytes);
            }
            Event::EventsCapped | Event::LogGap { .. } => {}
            Event::Ending(ending) => {
                // After the process there is only a check that can be ended.
                if phase >= Phase::ProcessEnded && !crate::check_is_due(self) {
                    return illegal("ending");
                }
                if self.ending.is_none() {
                    self.ending = Some((ending.clone(), record.mono_ms));
                }
            }
            Event::AdapterTold { selected_model, fallback_reason, launch_mode } => {
                let contract = &mut self.created.contract;
                let told = |told: &Option<String>, into: &mut String| {
                    if let Some(told) = told {
                        into.clone_from(told);
                    }
                };
                told(selected_model, &mut contract.selected_model);
                told(fallback_reason, &mut contract.fallback_reason);
                if let Some(mode) = launch_mode {
                    contract.execution_mode = format!("adapter-script ({mode})");
                }
            }
            Event::ProcessEnded { exit, unseen, strays, log_bytes, cpu_ms, rc_file } => {
                if phase >= Phase::ProcessEnded {
                    return illegal("process_ended");
                }
                self.phase = Phase::ProcessEnded;
                self.end = Some(ProcessEnd {
                    exit: exit.clone(),
                    unseen: *unseen,
                    strays: *strays,
                    log_bytes: *log_bytes,
                    cpu_ms: *cpu_ms,
                    rc_file: *rc_file,
                    at: record.at,
                });
            }
            Event::Settled(step) => {
                if phase != Phase::ProcessEnded {
                    return illegal("settled");
                }
                match step {
                    Settled::Provider(report) => self.provider = Some(report.clone()),
                    Settled::Work(report) => self.work = Some(report.clone()),
                    Settled::Gate { name, report } => {
                        self.gates.retain(|gate| gate.name != *name);
                        self.gates.push(GateVerdict { name: name.clone(), report: report.clone() });
                    }
                    Settled::Masking { unresolved, .. } => self.unmasked.clone_from(unresolved),
                    Settled::Session { .. } => {}
                    Settled::Failed { message } => self.settle_error = Some(message.clone()),
                }
            }
            Event::Ended(outcome) => {
                if phase != Phase::ProcessEnded {
                    return illegal("ended");
                }
                self.phase = Phase::Ended;
                self.outcome = Some((**outcome).clone());
            }
        }
        Ok(())
    }
}

/// Folds a whole journal. `None` when it does not begin with `created`.
pub fn fold(records: &[Record]) -> Option<Run> {
    let (first, rest) = records.split_first()?;
    let Event::Created(created) = &first.event else { return None };
    let mut run = Run::new((**created).clone(), first.at, first.mono_ms);
    for record in rest {
        if run.apply(record).is_err() {
            run.illegal += 1;
        }
    }
    if let Some(outcome) = &mut run.outcome {
        outcome.blocked = run.blocked;
    }
    Some(run)
}
