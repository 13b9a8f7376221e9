//! The on-disk contract between the monitor and everybody else: where files are, who may write them, how they get there.
//!
//! No process is started or signalled here and nothing is decided; every write goes through [`disk`].

pub mod claim;
pub mod disk;
pub mod ended;
pub mod exit_file;
pub mod faults;
pub mod history;
pub mod journal;
pub mod layout;
mod locked;
pub mod pools;
pub mod queue;
pub mod views;
pub mod wave;

pub use claim::{Claim, ClaimLock};
pub use disk::{DiskError, DiskFile};
pub use exit_file::ExitFile;
pub use journal::{Journal, JournalError, JournalWriter, open_regular, read_bounded, read_journal};
pub use layout::{RunPaths, StateDir, StateDirError};
pub use queue::Ticket;
pub use wave::{WavePaths, WaveWriter};
