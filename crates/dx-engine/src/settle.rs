//! Settling runs that nobody looks after any more: under their lock, with their processes dead, in the order that the
//! monitor would have used. And handing a run whose agent still lives to a new monitor.

use crate::environment;
use crate::error::EngineError;
use crate::lookup::{self, Found};
use crate::providers::checks;
use crate::secrets::{self, Masking};
use crate::view;
use dx_jobdir::{JournalWriter, StateDir, disk};
use dx_monitor::{
    Access, Invocation, JOURNAL_FD, SECRETS_FD, SETTLER_FD, SecretValues, finish, sweep_marked,
};
use dx_proc::{Host, clock};
use dx_protocol::{
    Ending, Event, GATE_CHECK, GateReport, Outcome, ReasonCode, Record, Settled, Timestamp, Writer,
};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Whoever has a run that is about to end has it for moments.
const BUSY_TICK_MS: u64 = 10;

/// What became of a look at an unattended run.
#[derive(Debug)]
pub(crate) enum Attended {
    /// One of ours holds the lock: nothing to do.
    Busy,
    /// It was settled now, or had ended already and is fully published now.
    Settled(Box<Outcome>),
    /// The agent lives, or a check is to be run; a new monitor has it.
    Adopted,
    /// Another host's or namespace's.
    Elsewhere,
}

/// Looks after one run: settles it when all of its processes are gone, gives it a monitor when only the agent lives.
pub(crate) fn attend(state: &StateDir, host: &Host, found: &Found) -> Result<Attended, EngineError> {
    let alive = view::alive(host, found);
    if alive.elsewhere {
        return Ok(Attended::Elsewhere);
    }
    let Some(journal) = JournalWriter::try_lock(&found.journal)? else { return Ok(Attended::Busy) };
    // What was read before the lock may be old.
    let mut found = lookup::read_run(state, &found.journal, found.claimed)?;
    let alive = view::alive(host, &found);
    if found.run.outcome.is_none() && alive.ours {
        return Ok(Attended::Busy);
    }
    if found.run.outcome.is_none() && alive.agent {
        adopt(state, &journal, host, &found)?;
        return Ok(Attended::Adopted);
    }
    close(state, &journal, &mut found, alive.rebooted)?;
    if dx_core::check_is_due(&found.run) {
        // It may take long, and only a monitor can look after it.
        adopt(state, &journal, host, &found)?;
        return Ok(Attended::Adopted);
    }
    end(state, &journal, &mut found).map(|o| Attended::Settled(Box::new(o)))
}

/// Looks after a run of which no process is left, for who waits for its end and asks again.
pub(crate) fn attend_dead(state: &StateDir, host: &Host, mut found: Found) -> Result<(), EngineError> {
    // The claim's name goes with the end; the run's own stays, and comes back when it was lost.
    if found.paths.journal().exists() {
        found.journal = found.paths.journal();
    }
    match attend(state, host, &found)? {
        Attended::Elsewhere => Err(EngineError::Elsewhere {
            beads: found.run.created.ids.beads.to_string(),
            host: found.run.created.starter.host.clone(),
        }),
        Attended::Busy => {
            std::thread::sleep(std::time::Duration::from_millis(BUSY_TICK_MS));
            Ok(())
        }
        Attended::Settled(_) | Attended::Adopted => Ok(()),
    }
}

/// Writes what is missing at the end of a run. The caller holds its lock and knows its processes to be gone. A command of
/// `--check` that is due is not run any more.
pub(crate) fn settle(
    state: &StateDir,
    journal: &JournalWriter,
    found: &mut Found,
    rebooted: bool,
) -> Result<Outcome, EngineError> {
    close(state, journal, found, rebooted)?;
    end(state, journal, found)
}

/// Drops the command of `--check`, if it is due, because a person wants the run to end.
pub(crate) fn drop_check(
    state: &StateDir,
    journal: &JournalWriter,
    found: &mut Found,
    rebooted: bool,
    ending: Ending,
) -> Result<(), EngineError> {
    close(state, journal, found, rebooted)?;
    if dx_core::check_is_due(&found.run) {
        append(journal, found, Event::Ending(ending))?;
        let report = GateReport::new(false, ReasonCode::CheckInterrupted, "it was not begun again");
        append(journal, found, Event::Settled(Settled::Gate { name: GATE_CHECK.to_owned(), report }))?;
    }
    Ok(())
}

/// Everything up to the outcome, the command of `--check` left out.
fn close(
    state: &StateDir,
    journal: &JournalWriter,
    found: &mut Found,
    rebooted: bool,
) -> Result<(), EngineError> {
    keep_reachable(found)?;
    if found.run.outcome.is_none() {
        if !rebooted {
            sweep_marked(&found.run.created.ids.run_uuid, found.run.created.spec.limits.grace_ms);
        }
        let masking = Masking::again(&found.run.created, Access::Mend);
        for event in view::closing_events(&found.run, found, rebooted, &masking, Some(state)) {
            append(journal, found, event)?;
        }
    }
    Ok(())
}

fn end(state: &StateDir, journal: &JournalWriter, found: &mut Found) -> Result<Outcome, EngineError> {
    let outcome = finish(state, &found.paths, journal, &mut found.run, Writer::Settler);
    outcome.map_err(|e| match e {
        dx_monitor::FinishError::Disk(e) => EngineError::Disk(e),
        dx_monitor::FinishError::NotEnded => EngineError::MonitorLost,
    })
}

/// Journals as the settler.
pub(crate) fn append(journal: &JournalWriter, found: &mut Found, event: Event) -> Result<(), EngineError> {
    let record =
        Record { at: Timestamp(clock::now_ms()), mono_ms: clock::monotonic_ms(), by: Writer::Settler, event };
    if found.run.apply(&record).is_ok() {
        journal.append(&record)?;
    }
    Ok(())
}

/// After a power cut only the claim may still name the journal: gives the run its own name back.
fn keep_reachable(found: &Found) -> Result<(), EngineError> {
    if !found.paths.journal().exists() {
        disk::make_dir(found.paths.dir())?;
        disk::link(&found.journal, &found.paths.journal())?;
    }
    Ok(())
}

/// Starts a monitor that takes the run over. It is nobody's child for long: this process ends, the monitor goes on.
fn adopt(state: &StateDir, journal: &JournalWriter, host: &Host, found: &Found) -> Result<(), EngineError> {
    let programs = Programs::find()?;
    let invocation = Invocation {
        adopt: true,
        run: found.run.created.ids.run_uuid.clone(),
        state_dir: state.root().to_owned(),
    };
    let runner = programs.open_runner()?;
    let values = SecretValues::new(secrets::of_agent(host, found)).to_fd();
    let mut fds = vec![(journal.as_fd(), JOURNAL_FD), (runner.as_fd(), SETTLER_FD)];
    fds.extend(values.as_ref().map(|values| (values.as_fd(), SECRETS_FD)));
    dx_proc::spawn_detached(&programs.monitor, None, &invocation.to_argv(), &monitor_environment(), &fds)?;
    Ok(())
}

/// Our two programs.
pub(crate) struct Programs {
    pub(crate) runner: PathBuf,
    /// `dx-monitor` beside it; the same entry of `dx-runner` when that is missing.
    pub(crate) monitor: PathBuf,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, EngineError> {
        let runner = std::env::current_exe()
            .map_err(|source| EngineError::Io { what: "find this program", source })?;
        if !runner.exists() {
            // Replaced under a command that runs for long, a wave's or a benchmark's. The kernel keeps the program as it was;
            // the monitor beside its place may be of another version by now.
            let kept = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
            return Ok(Self { runner: kept.clone(), monitor: kept });
        }
        let sibling = runner.with_file_name("dx-monitor");
        let monitor = if sibling.is_file() { sibling } else { runner.clone() };
        Ok(Self { runner, monitor })
    }

    /// Whether the program beside us is made of the same sources as the monitor in us: they speak with each other.
    pub(crate) fn monitor_is_ours(&self) -> bool {
        let told = checks::printed(&[], &self.monitor, dx_monitor::BUILD_ENTRY);
        told.is_some_and(|build| build.trim() == dx_monitor::BUILD)
    }

    pub(crate) fn open_runner(&self) -> Result<std::fs::File, EngineError> {
        std::fs::File::open(&self.runner)
            .map_err(|source| EngineError::Io { what: "open this program", source })
    }
}

/// Settings of glibc's allocator for monitor and launcher, which live long and allocate little: without its cache of freed
/// pieces, what starting and parsing took can be given back, and buffers come from the kernel and go back to it, so that
/// nothing that stays lies behind one. Means nothing to other C libraries.
const ALLOCATOR: &str = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0:glibc.malloc.top_pad=4096:\
                         glibc.malloc.mmap_threshold=16384";

/// What a monitor, its helpers and the command of `--check` need of the environment, and nothing else.
pub(crate) fn monitor_environment() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    let mut env = environment::allowed(&|name| name.starts_with("DX_FAULT_"));
    environment::set(&mut env, dx_monitor::ALLOCATOR_SETTINGS, ALLOCATOR);
    env
}
