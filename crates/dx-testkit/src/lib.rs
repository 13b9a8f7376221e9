//! Test support: a hermetic environment, a fake agent, and assertions about processes.
//!
//! For: the process, CLI and real-agent tests of every crate, as a dev-dependency; never part of a build that ships.
//! The kit looks at the product from outside (commands, files, `/proc`) and shares no code with it.
//! Must never: depend on another crate of the workspace, or leave a process behind.
//!
//! ```no_run
//! use dx_testkit::TestEnv;
//!
//! let env = TestEnv::new().dx_runner("target/debug/dx-runner");
//! let repo = env.git_repo("demo", &[("a.txt", "one\n")]);
//! env.run(&["start", "--help"]).assert_code(0);
//! ```

mod agent;
mod env;
mod git;
mod processes;
mod run;

pub use agent::fake_agent;
pub use env::{ENV_MARKER, TestEnv};
pub use processes::{
    assert_no_process, describe, is_running, processes_with_marker, read_pid, send_signal, wait_for_file,
    wait_until,
};
pub use run::{Output, RunError};
