//! The program `dx-monitor`: the supervisor of one job, small because nothing else is linked into it.
//!
//! For: `start`, and the partner of a monitor that died.
//! Called by: `dx-engine` and `dx-monitor` itself, never by people.
//! Must never: link the engine or the command line, start a thread, or print anything but its one usage line.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// `usage` of the exit code table.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(invocation) = dx_monitor::Invocation::parse(args.get(1..).unwrap_or_default()) {
        return ExitCode::from(u8::try_from(dx_monitor::main(&invocation)).unwrap_or(1));
    }
    // Nobody is left to tell when this cannot be written.
    let _ignored =
        writeln!(std::io::stderr(), "error: dx-monitor is started by dx-runner\n  try: dx-runner --help");
    ExitCode::from(USAGE)
}
