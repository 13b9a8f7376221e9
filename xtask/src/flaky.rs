//! The whole test run, and a second try for a few tests that failed in it.
//!
//! For: tests of real processes on a machine that is busy with the other tests. A test that fails among all and passes by
//! itself is told as flaky, by name, in the summary; it is a defect of its own, but not that of the change.
//! Called by: `test`.
//! Must never: try a test a third time, or call a run passed in which a test failed by itself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Command;

use crate::Failure;
use crate::steps::Outcome;
use crate::workspace::shown;

/// More failures than this are no accident.
const MOST: usize = 4;

/// Runs `command` and, when few tests failed, these once more by `again` with their names added.
pub(crate) fn run(command: &mut Command, again: &mut Command) -> Outcome {
    let first = match watched(command) {
        Ok(first) => first,
        Err(error) => return Outcome::Failed(error),
    };
    if first.success {
        return Outcome::Passed;
    }
    let names = || first.failed.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if first.failed.is_empty() || first.failed.len() > MOST || first.broken {
        return Outcome::Failed(format!("{} tests failed: {}", first.failed.len(), names()));
    }
    println!("\n== again, one after the other: {}", names());
    again.args(["--exact", "--test-threads=1"]).args(&first.failed);
    match watched(again) {
        Err(error) => Outcome::Failed(error),
        // A name that was asked for and did not run proves nothing.
        Ok(second) if second.success && second.passed.is_superset(&first.failed) => {
            Outcome::Remarked(format!("flaky: {}", names()))
        }
        Ok(second) if second.failed.is_empty() => Outcome::Failed(format!("not run again: {}", names())),
        Ok(second) => Outcome::Failed(format!(
            "failed twice: {}",
            second.failed.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// What a run printed of its tests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    success: bool,
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
    /// A program ended otherwise than by its tests: a crash, or one that was not built.
    broken: bool,
}

impl Seen {
    fn line(&mut self, line: &str) {
        if let Some((name, how)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            match how.trim_end() {
                "ok" => self.passed.insert(name.to_owned()),
                "FAILED" => self.failed.insert(name.to_owned()),
                _ => false,
            };
        }
        // With 101 it told of its tests itself.
        let crashed = line.contains("process didn't exit successfully") && !line.contains("exit status: 101");
        self.broken |= crashed || line.starts_with("error: could not compile");
    }
}

/// Runs to the end, shows everything, and tells which tests passed and failed.
fn watched(command: &mut Command) -> Result<Seen, Failure> {
    println!("   $ {}", shown(command));
    let name = shown(command);
    let told = |error: std::io::Error| format!("{name}: {error}");
    let (reader, writer) = std::io::pipe().map_err(told)?;
    let mut child = command.stdout(writer.try_clone().map_err(told)?).stderr(writer).spawn().map_err(told)?;
    // The command keeps the ends of the pipe that it was given until they are replaced.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut seen = Seen::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.map_err(told)?;
        let line = String::from_utf8_lossy(&line);
        seen.line(&line);
        println!("{line}");
    }
    seen.success = child.wait().map_err(told)?.success();
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Seen, run};
    use std::process::Command;

    /// A stand-in for cargo that prints `text` and ends with `code`; what it is given after that, it forgets.
    fn says(text: &str, code: i32) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "printf '%s\\n' \"$0\"; exit $1", text]).arg(code.to_string());
        command
    }

    fn outcome(first: (&str, i32), second: (&str, i32)) -> Outcome {
        run(&mut says(first.0, first.1), &mut says(second.0, second.1))
    }

    #[test]
    fn lines_are_told_apart() {
        let mut seen = Seen::default();
        for line in
            ["test a::b ... ok", "test c ... FAILED", "test d ... ignored", "test e has been running", "x"]
        {
            seen.line(line);
        }
        assert!(seen.passed.contains("a::b") && seen.failed.contains("c"), "{seen:?}");
        assert_eq!((seen.passed.len(), seen.failed.len(), seen.broken), (1, 1, false));
        seen.line("  process didn't exit successfully: `it` (signal: 6, SIGABRT)");
        assert!(seen.broken);
    }

    #[test]
    fn only_what_passes_by_itself_is_flaky() {
        let failed = ("test a ... FAILED", 101);
        assert_eq!(outcome(("test a ... ok", 0), ("", 1)), Outcome::Passed);
        assert_eq!(outcome(failed, ("test a ... ok", 0)), Outcome::Remarked("flaky: a".to_owned()));
        assert_eq!(outcome(failed, failed), Outcome::Failed("failed twice: a".to_owned()));
        assert_eq!(outcome(failed, ("nothing", 0)), Outcome::Failed("not run again: a".to_owned()));
    }

    #[test]
    fn crashes_builds_and_many_failures_get_no_second_try() {
        let well = ("test a ... ok", 0);
        for text in ["error: could not compile `x`", "no test at all"] {
            assert!(matches!(outcome((text, 101), well), Outcome::Failed(_)), "{text}");
        }
        let many: Vec<String> = (0..9).map(|n| format!("test t{n} ... FAILED")).collect();
        assert!(matches!(outcome((&many.join("\n"), 101), well), Outcome::Failed(_)));
    }
}
