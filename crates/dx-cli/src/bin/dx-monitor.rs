//! The program `dx-monitor`: the supervisor of one job, small because nothing else is linked into it.
//!
//! For: `start`, and the partner of a monitor that died.
//! Called by: `dx-engine` and `dx-monitor` itself, never by people.
//! Must never: link the engine or the command line, start a thread, or print anything but its one usage line and its build.

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
    if args.get(1).is_some_and(|arg| arg == dx_monitor::BUILD_ENTRY) {
        let told = writeln!(std::io::stdout(), "{}", dx_monitor::BUILD);
        return if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    // Nobody is left to tell when this cannot be written.
    let _ignored =
        writeln!(std::io::stderr(), "error: dx-monitor is started by dx-runner\n  try: dx-runner --help");
    ExitCode::from(USAGE)
}
