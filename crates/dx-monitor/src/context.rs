//! What monitor, launcher and guard of one run have in hand: the journal with its lock, the exit file, the fold.

use crate::args::Invocation;
use crate::finish::holds_claim;
use crate::passed::Passed;
use crate::pty::Pty;
use crate::secrets::SecretValues;
use dx_core::Run;
use dx_jobdir::{ExitFile, JournalWriter, RunPaths, StateDir};
use dx_proc::{Host, ProcessIdentity};
use dx_protocol::{Event, Record, RunUuid, Timestamp, Writer};
use std::os::fd::OwnedFd;

/// Records that could not be appended (full disk) wait here; more than this many are not worth keeping.
const MAX_PENDING: usize = 256;

/// Why a monitor cannot work at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error("failed to use an inherited descriptor")]
    Descriptor(#[from] dx_proc::Error),
    #[error("failed to read the journal")]
    Journal(#[from] dx_jobdir::JournalError),
    #[error("failed to open the exit file")]
    ExitFile(#[from] dx_jobdir::DiskError),
    #[error("the journal does not begin with `created`")]
    NoBeginning,
    #[error("failed to read the launch plan")]
    Plan,
}

/// What a monitor knows of itself before it is told what to do.
pub(crate) struct Own {
    pub(crate) identity: ProcessIdentity,
    host: Host,
    exe: OwnedFd,
}

impl Own {
    pub(crate) fn look() -> Result<Self, ContextError> {
        let exe = dx_proc::inherit::own_executable()?;
        Ok(Self { identity: ProcessIdentity::of_self()?, host: Host::current()?, exe })
    }
}

pub(crate) struct Context {
    pub(crate) uuid: RunUuid,
    pub(crate) state: StateDir,
    pub(crate) paths: RunPaths,
    pub(crate) journal: JournalWriter,
    pub(crate) exit: ExitFile,
    pub(crate) run: Run,
    pub(crate) host: Host,
    /// What the run's limits are measured with.
    pub(crate) clock: Passed,
    /// This program, held open: what runs an adopter.
    pub(crate) own_exe: OwnedFd,
    /// `dx-runner`, held open: what runs the settler. `None` when the starter could not give it.
    pub(crate) settler_exe: Option<OwnedFd>,
    /// What no output may show. Monitor, launcher and guard have it in memory, and hand it on.
    pub(crate) secrets: SecretValues,
    /// The agent's pseudo-terminal, with `--pty`.
    pub(crate) pty: Option<Pty>,
    pending: Vec<Record>,
}

impl Context {
    pub(crate) fn open(
        invocation: &Invocation,
        journal_fd: OwnedFd,
        settler_exe: Option<OwnedFd>,
        own: Own,
    ) -> Result<Self, ContextError> {
        let state = StateDir::trusted(invocation.state_dir.clone());
        let paths = state.run(&invocation.run);
        let journal = JournalWriter::inherited(journal_fd, paths.journal());
        let run = dx_core::fold(&journal.read()?.records).ok_or(ContextError::NoBeginning)?;
        let exit = ExitFile::open(&paths.exit())?;
        let clock = Passed::since(run.created_mono_ms, 0);
        Ok(Self {
            uuid: invocation.run.clone(),
            state,
            paths,
            journal,
            exit,
            run,
            host: own.host,
            clock,
            own_exe: own.exe,
            settler_exe,
            secrets: SecretValues::default(),
            pty: None,
            pending: Vec::new(),
        })
    }

    /// Journals an event and takes it into the fold. A record that cannot be written now is written before the next one.
    pub(crate) fn record(&mut self, event: Event) {
        let record = Record {
            at: Timestamp(dx_proc::clock::now_ms()),
            mono_ms: dx_proc::clock::monotonic_ms(),
            by: Writer::Monitor,
            event,
        };
        if self.run.apply(&record).is_err() {
            return;
        }
        self.pending.push(record);
        self.flush();
    }

    /// Writes what is pending, in order. `true` when nothing is left.
    pub(crate) fn flush(&mut self) -> bool {
        let mut written = 0;
        for record in &self.pending {
            if self.journal.append(record).is_err() {
                break;
            }
            written += 1;
        }
        self.pending.drain(..written);
        if self.pending.len() > MAX_PENDING {
            self.pending.retain(|r| !matches!(r.event, Event::Agent { .. }));
        }
        self.pending.is_empty()
    }

    /// Whether nothing is left to do for anybody: the outcome is on disk and the claim, which goes last, is gone. Asked of
    /// the disk, as somebody else of ours may have written.
    pub(crate) fn is_finished_on_disk(&self) -> bool {
        let ended = || self.journal.read().ok().and_then(|journal| dx_core::fold(&journal.records));
        ended().is_some_and(|run| run.outcome.is_some())
            && !holds_claim(&self.state, &self.paths, &self.run.created.ids)
    }
}
